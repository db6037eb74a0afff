"""Checks of the options of `llmscope snapshot` before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from llmscope.cli.options.shared import usage
from llmscope.support.arguments import quote_value
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output
    from llmscope.export import Size

_PAIR = re.compile(r"(-?\d{1,9}),(-?\d{1,9})", re.ASCII)
_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})", re.ASCII)
SCALES = 0.1, 20.0


def check_models(model: str | None, reward: str | None) -> None:
    """Check that the model names are valid specs.

    Raises:
        ScopeError: a name is not a valid spec.
    """
    from llmscope.models.spec import parse

    parse(model)
    if reward is not None:
        parse(reward)


def check_lenses(entries: tuple[str, ...], mode: str) -> tuple[tuple[str, str], ...]:
    """Return the name and the mode of each lens, after checking that they exist.

    The mode is empty for a lens's default.

    Args:
        entries: the values of `--lens`: `name`, or `name:mode`.
        mode: the mode of those without one of their own; empty: their defaults.

    Raises:
        BadParameter: a lens does not exist, or does not have its mode.
    """
    from llmscope.cli.output.snapshot_build import SCREEN
    from llmscope.lenses import lens as find_lens
    from llmscope.lenses import names as known
    from llmscope.lenses.base import suggested
    from llmscope.scope.figures import name_and_mode

    pairs = [name_and_mode(entry) for entry in entries]
    names = [name for name, _ in pairs]
    if SCREEN in names:
        usage(len(names) == 1, "the screen cannot be combined with other lenses", "--lens")
        usage(not pairs[0][1], "the screen has no modes of its own: --mode", "--lens")
        every = {mode for name in known() for mode in find_lens(name).modes}
        usage(not mode or mode in every, f"no lens has a mode {quote_value(mode)}", "--mode")
        return ((SCREEN, mode),)
    listed = ", ".join((*known(), SCREEN))
    for name in names:
        like = suggested(name, known())
        wrong = f"no lens {display_text(name)!r}{like}; there are {listed}"
        usage(name in known(), wrong, "--lens")
    for name, own_mode in pairs:
        modes = find_lens(name).modes
        wanted, option = (own_mode, "--lens") if own_mode else (mode, "--mode")
        offered = ", ".join(modes) or "it has none"
        having = [other for other, _ in pairs if wanted in find_lens(other).modes]
        apart = f"; give it to the lens that has it: {having[0]}:{wanted}" if having else ""
        fits = not wanted or wanted in modes
        usage(fits, f"{name} has no mode {quote_value(wanted)}: {offered}{apart}", option)
    return tuple((name, own_mode or mode) for name, own_mode in pairs)


def check_screen(workspace: str | None, keys: str | None, lenses: tuple[str, ...]) -> None:
    """Check that options of the screen come with `--lens screen`, and that the workspace exists.

    Raises:
        BadParameter: an option needs `--lens screen`, or the workspace does not exist.
    """
    from llmscope.cli.output.snapshot_build import SCREEN

    for option, value in (("--workspace", workspace), ("--keys", keys)):
        usage(value is None or SCREEN in lenses, "it is of the screen: --lens screen", option)
    if workspace is None:
        return
    from llmscope.tui.state.workspaces import BY_NAME

    listed = ", ".join(BY_NAME)
    known = workspace in BY_NAME
    usage(known, f"no workspace {display_text(workspace)!r}; there are {listed}", "--workspace")


def read_pair(text: str | None, wanted: str, option: str) -> tuple[int, int] | None:
    """Return two integers from text with a comma between them; None if `text` is None.

    Args:
        text: the value of the option.
        wanted: the error message.
        option: the option's name, for the error.

    Raises:
        BadParameter: the text is not two integers.
    """
    match = None if text is None else _PAIR.fullmatch(text)
    usage(text is None or match is not None, wanted, option)
    return None if match is None else (int(match[1]), int(match[2]))


def read_cells(size: str | None, outputs: Sequence[Output] = ()) -> Size:
    """Return width and height in cells, or `auto`.

    Args:
        size: the value of `--size`. None: not given, which is `auto` unless a picture goes to a
            terminal, where it has the usual size: None.
        outputs: where pictures go.

    Raises:
        BadParameter: the text is not such a size.
    """
    if size is None:
        return None if any(output.on_terminal for output in outputs) else "auto"
    if size == "auto":
        return "auto"
    match = _SIZE.fullmatch(size)
    cells = (int(match[1]), int(match[2])) if match else (0, 0)
    usage(min(cells) > 0, "auto, or width x height in cells, such as 120x40", "--size")
    return cells


def check_scale(scale: float, written: Sequence[str], on_paper: bool) -> None:
    """Check that `--scale` is in its range, and applies to one of the formats written.

    Args:
        scale: the factor of a picture's size; 1 is accepted for every format.
        written: the names of the formats that are written.
        on_paper: whether pictures are drawn by `--look paper`, where only png has a scale.

    Raises:
        BadParameter: the scale is out of range, or none of the formats has a scale.
    """
    low, high = SCALES
    usage(low <= scale <= high, f"from {low:g} to {high:g}", "--scale")
    from llmscope.export import formats

    scaling = (
        ("png",)
        if on_paper
        else tuple(known_format.name for known_format in formats().values() if known_format.scales)
    )
    listed = "a png on paper" if on_paper else f"{', '.join(scaling[:-1])} and {scaling[-1]}"
    fits = scale == 1 or any(name in scaling for name in written)
    usage(fits, f"of {listed}, not of {', '.join(written)}", "--scale")


OF_PICTURES = ("size", "theme", "color", "ascii")
OF_COLOURS = ("theme", "color")


def check_picture_options(options: Collection[str], written: Sequence[str]) -> None:
    """Check that what is said about pictures, or about colours, is of a format that is written.

    Args:
        options: the names of the options that were given on the command line.
        written: the formats that are written.

    Raises:
        BadParameter: an option is of no format among them.
    """
    from llmscope.export import formats

    known = [formats()[name] for name in written if name in formats()]
    if len(known) < len(written):  # pdf, which paper alone has
        return
    listed = " and ".join(dict.fromkeys(written))
    drawn = any(kind.holds == "picture" for kind in known)
    for name in (option for option in OF_PICTURES if option in options):
        usage(drawn, f"it is of pictures, and {listed} holds numbers", f"--{name}")
    coloured = any(kind.holds == "picture" and kind.colors for kind in known)
    for name in (option for option in OF_COLOURS if option in options):
        usage(coloured, f"it is of colours, and {listed} has none", f"--{name}")
