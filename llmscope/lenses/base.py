"""What a lens is, and how it is found.

A lens is one module of this package that defines `LENS`. Importing one imports no torch, so that
help pages and `--help` are quick; another package registers one under the entry point group
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
        question: what it answers, as one short question.
        compute: `(recording, focus, run) -> Figure`, or an iterator of ever more complete ones.
        ahead: works out for several recordings of one model at once what `compute` then finds
            kept with them: quicker, and nothing that `compute` could not do alone.
        needs: the capabilities (`readout`, `writes`, `patterns`, `activations`, `experts`) whose
            verdicts it stands on.
        own_logits: whether the model's own logits take the readout's place where that is refused.
        uses: the fields of `Focus` that change its figure; the others may move for free.
        modes: values that `Focus.mode` may take, the default first.
        through: the modes that stand on every layer up to the one in the focus.
        edited: what becomes of it in an edited pass: `recorded`, it reads that recording, and what
            else it runs is of another prompt; `again`, it runs the same prompt again, with the
            edits; `refused`, it can only be shown of an unedited pass.
        history: whether its values at a token follow from the tokens up to there alone.
        versus: whether it is of nothing without a prompt B.
        tables: the modes whose figure is a table, which has no axes.
        unpaired: the modes of which there is no A − B, and why; the empty one stands for all.
        help: what it shows, how to read it, formula and source, in plain paragraphs.
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
    """For the `extra` of a figure with a layer axis: `kinds`, one a layer, if they are mixed.

    Each is "attention", "state space", "convolution" or "recurrent".
    """
    anatomy = recording.subject.anatomy
    return {"kinds": tuple(layer.kind for layer in anatomy.layers)} if anatomy.hybrid else {}


def block_labels(length: int, pool: int) -> tuple[str, ...]:
    """Labels of blocks of so many tokens: the places that each stands for, `16–31`."""
    starts = range(0, length, pool)
    return tuple(f"{start}–{min(start + pool, length) - 1}" for start in starts)


@cache
def _lenses() -> dict[str, Lens]:
    from importlib.metadata import entry_points

    package = import_module("llmscope.lenses")
    modules = (
        import_module(f"llmscope.lenses.{m.name}") for m in pkgutil.iter_modules(package.__path__)
    )
    found = {module.LENS.name: module.LENS for module in modules if hasattr(module, "LENS")}
    for point in entry_points(group="llmscope.lenses"):
        found.setdefault(point.name, point.load())
    return found


def names() -> tuple[str, ...]:
    """The names of all lenses, sorted."""
    return tuple(sorted(_lenses()))


def lens(name: str) -> Lens:
    """The lens with that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return _lenses()[name]
    except KeyError:
        raise ValueError(f"no lens {quoted(name)}; there are {', '.join(names())}") from None
