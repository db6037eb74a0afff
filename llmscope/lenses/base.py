"""The `Lens` class and the registry of lenses.

A lens is a module of this package that defines `LENS`. Importing it imports no torch, so that
help pages and `--help` are fast. Other packages register lenses under the entry point group
`llmscope.lenses`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from llmscope.arguments import quoted
from llmscope.plugins import with_plugins

if TYPE_CHECKING:
    from llmscope.figure import Figure, Focus
    from llmscope.record.capture.recording import Recording

Run = Callable[..., Any]
Compute = Callable[["Recording", "Focus", Run], "Figure | Iterator[Figure]"]
Ahead = Callable[["Sequence[tuple[Recording, Focus]]"], None]


@dataclass(frozen=True)
class Lens:
    """A question about a recording.

    Attributes:
        name: the CLI word, JSON key and pane title.
        question: the short question that it answers.
        compute: `(recording, focus, run) -> Figure`, or an iterator of ever more complete ones.
        ahead: precomputes the results of `compute` for several recordings of one model in one
            batch, and stores them with the recordings; None: `compute` alone does it. Only
            affects speed.
        needs: the capabilities (`readout`, `writes`, `patterns`, `activations`, `experts`) whose
            verdicts it relies on.
        own_logits: whether the model's own logits replace the readout's where that is refused.
        uses: the fields of `Focus` that change its figure.
        modes: values that `Focus.mode` may take, the default first.
        through: the modes that depend on every layer up to the one in the focus.
        edited: its behavior on an edited pass: `recorded`: it reads the edited recording, and its
            extra passes are of another prompt; `again`: it runs the same prompt again, with the
            edits; `refused`: it can only be shown for an unedited pass.
        history: whether its values at a token depend only on the tokens up to there.
        versus: whether it requires a prompt B.
        tables: the modes whose figure is a table, which has no axes.
        unpaired: the modes without a difference A − B, each with the reason; an empty mode means
            all modes.
        help: a description, how to read the figure, formula and source, in plain paragraphs.
    """

    name: str
    question: str
    compute: Compute
    ahead: Ahead | None = None
    needs: tuple[str, ...] = ()
    own_logits: bool = False
    uses: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    edited: Literal["recorded", "again", "refused"] = "recorded"
    history: bool = True
    versus: bool = False
    tables: tuple[str, ...] = ()
    unpaired: Mapping[str, str] = field(default_factory=dict)
    help: str = ""


def layer_kinds(recording: Recording) -> dict[str, tuple[str, ...]]:
    """Return `kinds`, one per layer, for `extra` of a figure with a layer axis; empty if all alike.

    Each kind is "attention", "state space", "convolution" or "recurrent".
    """
    anatomy = recording.subject.anatomy
    return {"kinds": tuple(layer.kind for layer in anatomy.layers)} if anatomy.hybrid else {}


def block_labels(length: int, pool: int) -> tuple[str, ...]:
    """Return the labels of blocks of `pool` tokens: the positions that each covers, `16–31`."""
    starts = range(0, length, pool)
    return tuple(f"{start}–{min(start + pool, length) - 1}" for start in starts)


@cache
def _lenses() -> dict[str, Lens]:
    package = import_module("llmscope.lenses")
    modules = (
        import_module(f"llmscope.lenses.{m.name}") for m in pkgutil.iter_modules(package.__path__)
    )
    own = {module.LENS.name: module.LENS for module in modules if hasattr(module, "LENS")}
    return with_plugins("lenses", Lens, own)


def names() -> tuple[str, ...]:
    """Return the names of all lenses, sorted."""
    return tuple(sorted(_lenses()))


def lens(name: str) -> Lens:
    """Return the lens with that name.

    Raises:
        ValueError: no lens has that name.
    """
    try:
        return _lenses()[name]
    except KeyError:
        raise ValueError(f"no lens {quoted(name)}; there are {', '.join(names())}") from None
