"""`llmscope snapshot --lens screen --keys`: keys to press before the picture is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmscope.cli.options.shared import usage
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.tui.key_script import Press

OPTION = "--keys"
Keys = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="KEYS",
        help="With --lens screen: keys to press, with blanks between, as `?` on the screen names "
        """them: 'tab right ctrl+r type:"some text" enter'. All settles before the next.""",
    ),
]


def read_keys(keys: str | None, format: str) -> tuple[Press, ...]:  # noqa: A002
    """Return the parsed script of `--keys`; empty if None.

    Raises:
        BadParameter: a word of the script is not a key, or the format is not that of a picture.
    """
    if keys is None:
        return ()
    from llmscope.export import pictures
    from llmscope.tui.key_script import read_script

    drawn = pictures()
    usage(format in drawn, f"of a picture, not of {format}: {', '.join(drawn)}", OPTION)
    try:
        return read_script(keys)
    except ScopeError as error:
        raise typer.BadParameter(f"{error.message}: {error.hint}", param_hint=OPTION) from None
