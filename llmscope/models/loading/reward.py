"""Reward models: score a text with one number.

A reward model is a decoder with a one-output head on its last residual stream, as trained by trl's
RewardTrainer. A causal decoder's output at a token depends only on the tokens up to it, so one
forward pass gives the score of every prefix of a text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.models.files.checkpoint import check_model
from llmscope.models.files.model_files import check_tokenizer_paths
from llmscope.models.files.quantized import settings
from llmscope.models.files.sizes import bounded
from llmscope.models.loading.adapters import is_adapter
from llmscope.models.loading.default_dtype import loading_as
from llmscope.models.loading.memory import check_room, does_not_fit, free_cache, ran_out
from llmscope.models.progress import Meter, silenced, transformers_bars
from llmscope.models.sources import Options, fetch
from llmscope.models.spec import parse
from llmscope.models.tokenizer.worker import load_tokenizer
from llmscope.support.text import display_text, error_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel

HEAD = "score"
"""The name of the head in transformers' sequence classification decoders."""
KEPT = 8
ANOTHER = "a reward model that was trained from this model, or from one with its vocabulary"
Scores = NDArray[np.float32]


@dataclass(eq=False)
class RewardModel:
    """A loaded reward model.

    Attributes:
        spec: the spec that the user gave.
        name: its short name.
        model: transformers' own object, in eval mode.
        padding: the padding token, which transformers ignores at the end of a text; None without
            one.
        folders: the folders of the weights.
    """

    spec: str
    name: str
    model: Any
    padding: int | None
    folders: tuple[Path, ...] = ()
    _kept: OrderedDict[tuple[int, ...], Scores] = field(default_factory=OrderedDict)

    @torch.no_grad()
    def scores(self, ids: Sequence[int]) -> Scores:
        """Return the score of the prefix that ends with each token. [position]"""
        known = tuple(ids)
        if known not in self._kept:
            caught: list[Tensor] = []
            head: nn.Module = getattr(self.model, HEAD)
            hook = head.register_forward_hook(lambda _, __, output: caught.append(output))
            try:
                batch = torch.tensor([known], device=self.model.device)
                self.model(batch, use_cache=False)
            finally:
                hook.remove()
            self._kept[known] = caught[0][0, :, 0].float().cpu().numpy()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[known]

    def end(self, ids: Sequence[int]) -> int:
        """Return the position whose score is that of the whole text: the last non-padding token."""
        last = len(ids) - 1
        return next((at for at in range(last, -1, -1) if ids[at] != self.padding), last)


def load_reward(spec: str, model: LoadedModel, options: Options) -> RewardModel:
    """Load a reward model for texts of a model.

    Args:
        spec: the spec of the reward model.
        model: the model that it is for.
        options: the loading options.

    Raises:
        ScopeError: it is not a reward model, has another vocabulary than the model, or cannot be
            loaded.
    """
    parsed = parse(spec)
    with silenced():
        weights = fetch(parsed, options)
        named = display_text(parsed.text)
        if is_adapter(weights.folder):
            raise ScopeError(
                f"{named} is an adapter, and no whole reward model",
                "its base with the adapter merged, as peft's merge_and_unload writes it",
            )
        config, heads = check_model(
            weights.folder,
            parsed.text,
            trust_remote_code=options.trust_remote_code,
            allow_pickle=options.allow_pickle,
        )
        check_room(parsed.text, weights.folder, model.dtype)
        _check_tokens(weights.folder, config, named, model, options)
        with bounded(heads, named, packed=settings(config) is not None):
            module = _load_head(weights.folder, named, model, options)
    padding = getattr(module.config.get_text_config(), "pad_token_id", None)
    return RewardModel(parsed.text, weights.name, module, padding, (weights.folder,))


def _check_tokens(
    folder: Path, config: dict[str, Any], named: str, model: LoadedModel, options: Options
) -> None:
    """Refuse a reward model for which the model's token ids mean something else."""
    ours = {} if model.tokens is None else model.tokens.tokenizer.get_vocab()
    size, our_size = config.get("vocab_size"), len(ours) or model.anatomy.vocabulary
    if isinstance(size, int) and size < our_size:
        raise ScopeError(
            f"{named} has {size} tokens and {display_text(model.name)} {our_size}: it could not "
            "read all of them",
            ANOTHER,
        )
    if not ours:
        return
    try:
        check_tokenizer_paths(folder)
        theirs = load_tokenizer(folder, options.trust_remote_code).get_vocab()
    except Exception as error:  # missing or damaged
        raise ScopeError(
            f"{named} has no tokenizer that could be held against the model's: {error_line(error)}",
            "the folder with its tokenizer, as its save_pretrained writes it",
        ) from error
    if not ours.items() <= theirs.items():  # it may have more, such as a padding token
        raise ScopeError(
            f"{named} has another vocabulary than {display_text(model.name)}: the tokens of one "
            "mean something else to the other",
            ANOTHER,
        )


def _load_head(folder: Path, named: str, model: LoadedModel, options: Options) -> Any:
    from transformers import AutoModelForSequenceClassification

    meter = Meter(options.progress, "loading the reward model", None)
    with transformers_bars(meter), loading_as(model.dtype):
        try:
            module, info = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                dtype=model.dtype,
                trust_remote_code=options.trust_remote_code,
                use_safetensors=None if options.allow_pickle else True,
                local_files_only=True,
                output_loading_info=True,
            )
            module = module.to(model.device)
        except ScopeError:
            raise
        except Exception as error:  # a foreign or damaged checkpoint can raise anything
            if ran_out(error):
                free_cache(model.device)
                raise does_not_fit(named, folder, model.dtype, model.device) from error
            raise ScopeError(f"{named} cannot be loaded: {error_line(error)}", ANOTHER) from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ScopeError(
            f"{named} is no reward model: it has no {display_text(lacking[0])}", ANOTHER
        )
    outputs = getattr(getattr(module, HEAD, None), "out_features", 0)
    if outputs != 1:
        fault = f"tells {outputs} classes apart" if outputs else f"has no head called {HEAD}"
        raise ScopeError(f"{named} {fault}, and a reward is one number", ANOTHER)
    return module.eval().requires_grad_(False)
