"""The options of `llmscope snapshot` that lenses declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import completion
from llmscope.cli.options.shared import usage
from llmscope.cli.options.validate import read_pair
from llmscope.figure import Focus
from llmscope.lenses import checked_focus, command_options, lens, names
from llmscope.lenses.options import HEAD, LAYER, LensOption
from llmscope.support.arguments import LARGEST

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope

FEW_LENSES = 3
"""The number of lenses up to which the help of an option names them."""
_TYPES: dict[str, type] = {"integer": int, "number": float, "share": float, "switch": bool}
"""The Python type of a kind of option on the command line; str for all others."""


OF_SCREEN = (
    *("layer", "head", "position", "target", "versus", "context", "neuron", "step", "weight"),
    *("cell", "translator", "features", "direction"),
)
"""The options with which the screen opens."""
EVERY: tuple[LensOption[Any], ...] = (LAYER, HEAD)
"""Options that take `all`, for a figure of each layer or head."""
ALL = "all"

_COMPLETIONS: dict[str, Callable[[str], list[str]]] = {
    "lens": completion.translators,
    "dictionaries": completion.dictionaries,
}


def parameters() -> Iterator[inspect.Parameter]:
    """Yield the options of all lenses as parameters of a Typer command."""
    for option in command_options():
        share, every = option.kind == "share", option in EVERY
        declared = typer.Option(
            option.flag,
            metavar="INTEGER|all" if every else option.metavar or None,
            min=0 if share else option.least if option.kind == "integer" else None,
            max=1 if share else None,
            autocompletion=completion.every if every else _COMPLETIONS.get(option.kind),
            help=f"{_help(option)} all: each in turn." if every else _help(option),
            show_default=option.shown or True,
            rich_help_panel="Lens",
        )
        plain: Any = str if every else _TYPES.get(option.kind, str)
        many = option.kind == "dictionaries"
        text = option.kind in ("pair", "token", "indices") or option.default is None or many
        if many:
            plain = list[str]
        yield inspect.Parameter(
            *(option.name, inspect.Parameter.KEYWORD_ONLY),
            default=None if text else str(option.default) if every else option.default,
            annotation=Annotated[plain | None if text else plain, declared],
        )


def _help(option: LensOption[Any]) -> str:
    """Return the help of an option, with the lenses that have it if they are few."""
    having = [name for name in names() if option in lens(name).options]
    if len(having) > FEW_LENSES:
        return option.help
    listed = " or ".join(part for part in (", ".join(having[:-1]), having[-1]) if part)
    return f"With --lens {listed}: {option.help[:1].lower()}{option.help[1:]}"


def read_focus(values: Mapping[str, Any], mode: str, change: bool) -> Focus:
    """Return the focus that the command line asks for, without tokens: see `with_tokens`.

    Args:
        values: the values of the lenses' options, by name.
        mode: the lenses' mode; empty for their defaults.
        change: show edited minus unedited, or A minus B.

    Raises:
        BadParameter: a value is out of range.
    """
    focus = Focus(mode=mode, change=change)
    for option in command_options():
        value = values[option.name]
        if option.kind == "token" or value is None or (option in EVERY and value == ALL):
            continue
        if option in EVERY:
            value = _whole(value, option)
        if option.kind == "pair":
            value = read_pair(value, f"{option.metavar}, such as 0,64", option.flag)
        try:
            focus = option.set(focus, option.checked(value, LARGEST))
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint=option.flag) from None
    return checked_focus(focus, LARGEST)


def every_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the options that were given as `all`."""
    return tuple(option.name for option in EVERY if values[option.name] == ALL)


def _whole(word: str, option: LensOption[Any]) -> int:
    try:
        return int(word)
    except ValueError:
        usage(False, f"a whole number or {ALL}, not {word}", option.flag)
        raise


def check_options(
    values: Mapping[str, Any],
    lenses: Sequence[tuple[str, str]],
    allow_pickle: bool,
    of_edits: Collection[str] = (),
    *,
    tables: bool = False,
) -> None:
    """Check values before a model is loaded, and that a lens or edit uses each that was given.

    Args:
        values: the values of the lenses' options, by name.
        lenses: the name and the mode of each lens, or "screen".
        allow_pickle: whether pickles may be read.
        of_edits: the names of the options that edits use.
        tables: whether the lenses write tables of many prompts, which may have another usual mode.

    Raises:
        BadParameter: a value cannot work, or an option belongs to other lenses or modes.
    """
    unfit = [
        (lens(name), mode or (lens(name).table_mode if tables else ""))
        for name, mode in lenses
        if name in names()
    ]
    for option in command_options():
        value = _value_of(option, values)
        if is_given(option, value) and unfit:
            having = [
                (chosen, mode)
                for chosen, mode in unfit
                if option in chosen.allowed or option.name in chosen.marked_in(mode)
            ]
            of_edit = option.name in of_edits
            usage(bool(having) or of_edit, "none of these lenses has it", option.flag)
            unread = [chosen.unread(option.name, mode) for chosen, mode in having]
            of_each = option in EVERY and value == ALL  # figures that come out the same are one
            usage(of_edit or of_each or not all(unread), next(iter(unread), ""), option.flag)
        wrong = option.problem(value, allow_pickle) if option.problem else None
        usage(wrong is None, wrong or "", option.flag)


def _value_of(option: LensOption[Any], values: Mapping[str, Any]) -> Any:
    """Return the value that the command line gives an option; its default where it gives none."""
    value = values[option.name]
    return option.default if value in (None, [], "") else value


def is_given(option: LensOption[Any], value: object) -> bool:
    """Return whether a value of the command line is another than the option's default."""
    return value != (str(option.default) if option in EVERY else option.default)


def check_screen_options(values: Mapping[str, Any], mode: str, numbers: Sequence[str]) -> None:
    """Check that the screen, or a lens whose numbers are written, uses each option that was given.

    Args:
        values: the values of the lenses' options, by name.
        mode: the mode; empty for the defaults.
        numbers: the lenses whose numbers are written too; empty where only pictures are.

    Raises:
        BadParameter: an option belongs to other lenses.
    """
    lenses = [lens(name) for name in numbers]
    known = set(chain.from_iterable(chosen.modes for chosen in lenses))
    from llmscope.tui.state.views import ATTENTION_MODES, MAP_VIEWS

    known |= {*ATTENTION_MODES, *(view.mode for view in MAP_VIEWS)}
    usage(mode in known or not mode, "the screen opens in no such view", "--mode")
    for option in command_options():
        value = _value_of(option, values)
        uses = option.name in OF_SCREEN or any(option in chosen.allowed for chosen in lenses)
        usage(uses or not is_given(option, value), "the screen opens without it", option.flag)


def token_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each option whose value is a token, by the option's name."""
    named = {option.name: values[option.name] for option in _of_tokens()}
    return {name: text for name, text in named.items() if text is not None}


def with_tokens(focus: Focus, texts: Mapping[str, str], scope: Scope) -> Focus:
    """Return the focus with tokens read by the model's tokenizer.

    Raises:
        ScopeError: a text is not a single token of the model.
    """
    for option in _of_tokens():
        if option.name in texts:
            focus = option.set(focus, scope.token(texts[option.name]))
    return focus


def _of_tokens() -> list[LensOption[Any]]:
    return [option for option in command_options() if option.kind == "token"]
