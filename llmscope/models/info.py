"""What is said about a model: plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmscope.models.roles import ChatMarks


@dataclass(frozen=True)
class ModelInfo:
    """What the title and the status line say about the model, and what indices are valid."""

    spec: str
    name: str
    architecture: str
    layers: int
    heads: int
    width: int
    neurons: int
    vocabulary: int
    context: int | None
    parameters: int
    dtype: str
    device: str
    revision: str | None = None
    notices: tuple[str, ...] = ()
    chat: ChatMarks = field(default_factory=ChatMarks)
    experts: tuple[int, ...] = ()
    """The layers whose MLP is a mixture of experts."""
    adapter: str | None = None
    reward: str | None = None
    """The name of the reward model beside it."""
    adapters: tuple[str, ...] = ()
    taught: tuple[str, ...] = ()
    """The adapters that were made of a context here, and are in no file."""
    family: tuple[str, ...] = ()
    """The adapters and checkpoints that came with a built-in model: `builtin:NAME` each."""
