"""The `Lens` class and the registry of lenses.

A lens is a module of this package that defines `LENS`. Importing it imports no torch, so that
help pages and `--help` are fast. Other packages register lenses under the entry point group
`llmscope.lenses`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import WrongTypeError, WrongValueError
from llmscope.figure import Axis
from llmscope.figure.kinds import Describe, Kind
from llmscope.figure.tables import Column, number
from llmscope.lenses.options import COMMON, IN_COMMAND, OF_EVERY_LENS, RESERVED, LensOption
from llmscope.plugins import Package, package_of, with_plugins
from llmscope.support.arguments import quote_value
from llmscope.support.text import nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmscope.figure import Figure, Focus
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch

    RankRange = tuple[NDArray[np.float32], NDArray[np.float32]]

Run = Callable[..., Any]
Compute = Callable[["Recording", "Focus", Run], "Figure | Iterator[Fetch | Figure]"]
Ahead = Callable[["Sequence[tuple[Recording, Focus]]"], None]
TiedRanks = Callable[["Figure", "Recording", "Focus", float], "RankRange"]
"""Returns the lowest and the highest rank of each cell that another pass over the prompt of a
figure, its recording and its focus may give, NaN where there is no rank, if no logit of that pass
differs by more than a bound, relative to the largest logit of its row if that is above 1. See
`llmscope.record.derive.token_stats.rank_range`."""

EVIDENCE = ("It establishes", "It does not establish", "Next check:")
"""How the sentences begin that say what evidence a lens gives."""


@dataclass(frozen=True)
class Lens:
    """A question about a recording.

    Attributes:
        name: the CLI word, JSON key and pane title.
        question: the short question that it answers.
        compute: `(recording, focus, run) -> Figure`, or an iterator of ever more complete ones. A
            generator may also yield what it waits for before them; see `llmscope.record.fetch`.
        passes: what a pass over many prompts keeps for it: `streams`: the residual streams alone;
            `parts`: what attention and MLP read and write, too; `own`: it runs passes of its own
            for each prompt, beside which the first one costs little, so that prompts go one by one.
        fetches: the modes in which it does so before a first figure that costs little; an empty
            mode stands for all. That figure is computed beside its check, so that both wait once.
        ahead: precomputes the results of `compute` for several recordings of one model in one
            batch, and stores them with the recordings; None: `compute` alone does it. Only
            affects speed.
        needs: the capabilities (`readout`, `writes`, `patterns`, `activations`, `experts`) whose
            verdicts it relies on.
        maps: the modes that show the map of a layer that mixes tokens without attention, where the
            others need its pattern.
        own_logits: whether the model's own logits replace the readout's where that is refused.
        options: the options that change its figure, besides the mode.
        modes: values that `Focus.mode` may take, the default first.
        only_in: the options that not every mode reads, each with the modes that read it.
        through: the modes that depend on every layer up to the one in the focus.
        edited: its behavior on an edited pass: `recorded`: it reads the edited recording, and its
            extra passes are of another prompt; `again`: it runs the same prompt again, with the
            edits; `refused`: it can only be shown for an unedited pass.
        history: whether its values at a token depend only on the tokens up to there.
        versus: whether it requires a prompt B.
        two_models: whether it compares with a second model; other lenses show that as a change.
        tables: the modes whose figure is a table, which has no axes.
        columns: the columns of its table in batches, besides those of its axes.
        axes: the names of the axes of its figure by mode; an empty mode stands for all others. A
            mode that is missing has axes that depend on its options.
        table_mode: the mode of its table if none is chosen; empty: the default mode.
        unpaired: the modes without a difference A − B, each with the reason; an empty mode means
            all modes.
        of_model: the modes whose figure is of the model alone, the same for every prompt.
        over_steps: by mode, the title of the map of its figure over the steps of a run, and what
            the curve of one of its numbers shows. Other modes are named after the lens.
        ranks: the arrays of its figure that hold ranks among all tokens, each with a function that
            returns the ranks that ties up to rounding allow. A batch of prompts is one pass only
            if it gives the numbers of single passes; its ranks may differ within those.
        residues: the numbers of its figure that are what rounding leaves of a larger one, each with
            the name of that one, whose size their differences are measured by.
        kinds: how its figures are drawn where no built-in kind of figure is right for them.
        describe: yields phrases about the place of a focus in its figure, for the line below the
            screen, the most important first; None: what the kind of its figure says, if anything.
            The mode of the focus is that of the figure.
        help: a description and how to read the figure, in plain paragraphs.
        shows: what the figure of each mode shows, in a phrase; a mode may be missing.
        formula: the formulas, one a line; empty without any.
        sources: the literature, in one paragraph; empty without any.
        establishes: what the figure is evidence for; it goes on after "It establishes".
        not_established: what it is easily taken for; it goes on after "It does not establish".
        next_check: what to look at next, to test what the figure suggests.
    """

    name: str
    question: str
    compute: Compute
    passes: Literal["streams", "parts", "own"] = "parts"
    fetches: tuple[str, ...] = ()
    ahead: Ahead | None = None
    needs: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    own_logits: bool = False
    options: tuple[LensOption[Any], ...] = ()
    modes: tuple[str, ...] = ()
    only_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    through: tuple[str, ...] = ()
    edited: Literal["recorded", "again", "refused"] = "recorded"
    history: bool = True
    versus: bool = False
    two_models: bool = False
    tables: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (number("value", "the number that the figure shows"),)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    table_mode: str = ""
    unpaired: Mapping[str, str] = field(default_factory=dict)
    of_model: tuple[str, ...] = ()
    over_steps: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    ranks: Mapping[str, TiedRanks] = field(default_factory=dict)
    residues: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ()
    describe: Describe | None = None
    help: str = ""
    shows: Mapping[str, str] = field(default_factory=dict)
    formula: str = ""
    sources: str = ""
    establishes: str = ""
    not_established: str = ""
    next_check: str = ""

    def __post_init__(self) -> None:
        """Raise TypeError if an option is not a `LensOption`, or ranks have no function.

        Also if `shows` or `only_in` names a mode or an option that the lens does not have.
        """
        for option in self.options:
            if not isinstance(option, LensOption):
                raise WrongTypeError(f"lens {self.name}: {quote_value(option)} is no LensOption")
        for name, tied in self.ranks.items():
            if not callable(tied):
                raise WrongTypeError(
                    f"lens {self.name}: ranks {quote_value(name)} have no function"
                )
        for mode in self.shows:
            if mode not in self.modes:
                raise WrongTypeError(
                    f"lens {self.name}: it describes {quote_value(mode)}, which is no mode"
                )
        for name, modes in self.only_in.items():
            if name not in self.uses:
                raise WrongTypeError(
                    f"lens {self.name}: only_in names {quote_value(name)}, no option of it"
                )
            for mode in modes:
                if mode not in self.modes:
                    raise WrongTypeError(
                        f"lens {self.name}: {quote_value(mode)} of only_in is no mode"
                    )

    @property
    def package(self) -> Package | None:
        """The package that it comes from; None if it is built in."""
        return package_of("lenses", self.name)

    @cached_property
    def uses(self) -> frozenset[str]:
        """The names of the options that change its figure, and `mode` if it has modes."""
        names = (option.name for option in self.options)
        return frozenset((*names, "mode") if self.modes else names)

    @cached_property
    def allowed(self) -> tuple[LensOption[Any], ...]:
        """The options that may be given with it: its own, and those that any lens may have."""
        return (*self.options, *OF_EVERY_LENS)

    def uses_in(self, mode: str) -> frozenset[str]:
        """Return the names of the options that change its figure in a mode; "" is the default."""
        mode = mode or next(iter(self.modes), "")
        return frozenset(name for name in self.uses if mode in self.only_in.get(name, (mode,)))

    def marked_in(self, mode: str) -> frozenset[str]:
        """Return the options of the focus that its picture in a mode marks, used or not.

        They are those of "layer", "head", "position" and "step" that are an axis of the picture: it
        marks the layer, head, token or step of the focus there.

        Args:
            mode: the mode; empty: the default. One that declares no axes counts with those of all
                modes.
        """
        declared = self.axes.get(mode or next(iter(self.modes), ""), self.axes.get(""))
        axes = {name for names in self.axes.values() for name in names}
        axes = axes if declared is None else set(declared)
        places = {
            "layer": {"layer"},
            "head": {"head"},
            "position": {"position", "query", "key"},
            "step": {"step"},
        }
        return frozenset(option for option, named in places.items() if named & axes)

    def unread(self, option: str, mode: str) -> str:
        """Return why an option of the lens says nothing in a mode; empty if it says something."""
        if option not in self.only_in or option in self.uses_in(mode) | self.marked_in(mode):
            return ""
        reading = self.only_in[option]
        listed = " and ".join(part for part in (", ".join(reading[:-1]), reading[-1]) if part)
        return (
            f"{self.name} reads {option} in the mode{'s' * (len(reading) > 1)} {listed}, not in "
            f"{mode or self.modes[0]}"
        )

    @property
    def reads_prompt_b(self) -> bool:
        """Whether its figure depends on a prompt B by itself, without a difference A − B."""
        return self.versus or "versus_prompt" in self.uses

    @property
    def evidence(self) -> tuple[tuple[str, str], ...]:
        """What the figure establishes, what it does not, and the next check.

        Each is the beginning of a sentence and the rest of it; what the lens does not declare is
        left out.
        """
        texts = (self.establishes, self.not_established, self.next_check)
        return tuple((begin, rest) for begin, rest in zip(EVIDENCE, texts, strict=True) if rest)

    @property
    def explanation(self) -> str:
        """The help, what the figure establishes, formulas and sources, in plain paragraphs."""
        evidence = "\n".join(f"{begin} {rest}" for begin, rest in self.evidence)
        parts = (self.help.strip(), evidence, self.formula, self.sources)
        return "\n\n".join(part for part in parts if part)

    def table(self, mode: str) -> tuple[Column, ...]:
        """Return the columns of its table in a mode, without those of the prompt file."""
        from llmscope.figure.tables.arrow import columns_in

        return columns_in(self.columns, mode, self.axes.get(mode, self.axes.get("", ())))

    def table_groups(self) -> dict[tuple[Column, ...], tuple[str, ...]]:
        """Return its different tables, each with the modes that have it; `("",)` without modes."""
        groups: dict[tuple[Column, ...], tuple[str, ...]] = {}
        for mode in self.modes or ("",):
            columns = self.table(mode)
            groups[columns] = (*groups.get(columns, ()), mode)
        return groups

    def fetches_in(self, mode: str) -> bool:
        """Return whether `compute` yields what it waits for in a mode; see `fetches`."""
        return mode in self.fetches or "" in self.fetches

    def values(self, focus: Focus) -> tuple[Any, ...]:
        """Return mode, change and options of a focus: all that its figure depends on."""
        return (focus.mode, focus.change, *(option.of(focus) for option in self.options))


def layer_kinds(recording: Recording) -> dict[str, tuple[str, ...]]:
    """Return `kinds`, one per layer, for `extra` of a figure with a layer axis; empty if all alike.

    Each kind is "attention", "state space", "convolution" or "recurrent".
    """
    anatomy = recording.model.anatomy
    return {"kinds": tuple(layer.kind for layer in anatomy.layers)} if anatomy.hybrid else {}


def layer_axis(recording: Recording, *, embedding: bool = False) -> Axis:
    """Return the axis of the layers; with `embedding`, the embedding comes before them."""
    layers = tuple(map(str, range(recording.layers)))
    return Axis("layer", ("embed", *layers) if embedding else layers)


def block_labels(length: int, pool: int) -> tuple[str, ...]:
    """Return the labels of blocks of `pool` tokens: the positions that each covers, `16–31`."""
    starts = range(0, length, pool)
    return tuple(f"{start}–{min(start + pool, length) - 1}" for start in starts)


@cache
def _modules() -> frozenset[str]:
    """Return the names of the modules beside this one."""
    return frozenset(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))


def find_lens(name: str) -> Lens | None:
    """Return the lens with that name, or None; import only its own module if it is built in."""
    module = name.replace("-", "_")
    if module in _modules():
        built_in = getattr(import_module(f"llmscope.lenses.{module}"), "LENS", None)
        if isinstance(built_in, Lens):
            return built_in
    return _lenses().get(name)


@cache
def _lenses() -> dict[str, Lens]:
    modules = (import_module(f"llmscope.lenses.{module}") for module in sorted(_modules()))
    built_in = {module.LENS.name: module.LENS for module in modules if hasattr(module, "LENS")}
    declared = {option.name: option for option in (*COMMON, *OF_EVERY_LENS)}
    for lens_read in built_in.values():
        declared |= {option.name: option for option in lens_read.options}

    def flaw(added: Lens) -> str:
        for option in added.options:
            if declared.get(option.name, option) != option:
                return f"its option {option.name} is another lens's, declared in another way"
            if option.name in RESERVED:
                return f"its option {option.name} is one of llmscope snapshot's own"
            declared[option.name] = option
        return ""

    return with_plugins("lenses", Lens, built_in, flaw)


@cache
def options() -> Mapping[str, LensOption[Any]]:
    """Return all options of all lenses by name, those of several lenses first."""
    by_name = {option.name: option for option in (*COMMON, *OF_EVERY_LENS)}
    for name in sorted(_lenses()):
        by_name |= {option.name: option for option in _lenses()[name].options}
    return by_name


def command_options() -> tuple[LensOption[Any], ...]:
    """Return the options of lenses that `llmscope snapshot` takes, in the order that it lists."""
    return tuple(
        option
        for option in options().values()
        if option.kind in IN_COMMAND and option not in OF_EVERY_LENS
    )


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
        raise WrongValueError(
            f"no lens {quote_value(name)}{suggested(name, names())}; there are {', '.join(names())}"
        ) from None


def suggested(word: str, known: Collection[str]) -> str:
    """Return a question that names the known word most like a wrong one; empty if none is."""
    close = nearest(word, known)
    return f" (did you mean {close}?)" if close else ""
