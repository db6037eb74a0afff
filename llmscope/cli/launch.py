"""Open the screen. Nothing here needs the parser of the command line, which is slow to import."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.cli.options.loading import Loader
    from llmscope.draw import RenderOptions, Tier
    from llmscope.edits import Edit
    from llmscope.sampler import Sampler
    from llmscope.tui.session.session import Session
    from llmscope.tui.terminal.bandwidth import Bandwidth


PAGE_DRIVER = "llmscope.tui.terminal.web_page:PageDriver"
"""What Textual draws with in the programs that `llmscope serve` starts."""


@dataclass(frozen=True)
class LaunchOptions:
    """How the screen opens: on what, and how it looks. See `llmscope open --help`."""

    load: Loader
    prompt: str = ""
    special_tokens: bool = True
    chat: bool = False
    system: str | None = None
    theme: str | None = None
    tier: Tier | None = None
    ascii: bool | None = None
    bandwidth: Literal["auto", "high", "low"] = "auto"
    debug: bool = False
    edits: tuple[Edit, ...] = ()
    versus_prompt: str | None = None
    sampler: Sampler | None = None
    session: Session | None = None
    notice: str = ""


def opening(model: str | None) -> LaunchOptions:
    """How it opens where nobody says more than the model: as the person set it for good.

    Raises:
        ScopeError: there is a setting that there cannot be.
    """
    from llmscope.cli.options.loading import Loader
    from llmscope.config import effective

    has: dict[str, Any] = effective()
    load = {name: has[name] for name in ("device", "dtype", "threads") if name in has}
    return LaunchOptions(Loader(model or has.get("model"), **load), **_set_look(has))


def _set_look(has: dict[str, Any]) -> dict[str, Any]:
    """What the settings say of how the screen looks."""
    names: tuple[str, ...] = ("theme", "ascii", "bandwidth")
    look = {name: has[name] for name in names if name in has}
    if has.get("color", "auto") != "auto":
        look["tier"] = has["color"]
    return look


def show(opening: LaunchOptions) -> int:
    """Open the screen, and stay until it is left.

    Returns:
        The exit code.

    Raises:
        ScopeError: this is no terminal that could show it.
    """
    from llmscope.models.spec import DEFAULT

    look, spent, typed = dressed(
        *(opening.theme, opening.tier, opening.ascii, opening.bandwidth),
        instead="llmscope snapshot MODEL --prompt TEXT --lens NAME",
    )
    from llmscope.tui.run import run

    return run(
        opening.load,
        spec=opening.load.model or DEFAULT,
        prompt=opening.prompt,
        typed=typed,
        special_tokens=opening.special_tokens,
        look=look,
        chat=opening.chat,
        system=opening.system,
        bandwidth=spent,
        debug=opening.debug,
        options=opening.load.options,
        adapters=opening.load.adapters,
        edits=opening.edits,
        versus_prompt=opening.versus_prompt,
        sampler=opening.sampler,
        session=opening.session,
        notice=opening.notice,
        other=opening.load.other,
    )


def replay_plainly(file: str) -> int:
    """Replay a snapshot where nobody says more than its file: as the person set it for good.

    Raises:
        ScopeError: there is a setting that there cannot be, or it cannot be replayed.
    """
    from llmscope.config import effective

    return replay(file, **_set_look(effective()))


def replay(
    file: str,
    *,
    theme: str | None = None,
    tier: Tier | None = None,
    ascii: bool | None = None,  # noqa: A002
    bandwidth: Literal["auto", "high", "low"] = "auto",
    debug: bool = False,
) -> int:
    """Open a snapshot's file on the screen, and stay until it is left.

    Returns:
        The exit code.

    Raises:
        ScopeError: it cannot be replayed, or this is no terminal that could show it.
    """
    from llmscope.replay.reader import recorded

    snapshot = recorded(Path(file))
    look, spent, _ = dressed(
        *(theme, tier, ascii, bandwidth), instead="llmscope diff FILE OTHER, which needs none"
    )
    from llmscope.replay.run import run

    return run(snapshot, look=look, bandwidth=spent, debug=debug)


def dressed(
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
    spending: Literal["auto", "high", "low"],
    *,
    instead: str,
) -> tuple[RenderOptions, Bandwidth, str]:
    """The look of the screen, what to spend on it, and what was typed ahead of it.

    Args:
        spending: auto, high or low.
        instead: what to try where there is no terminal.

    Raises:
        ScopeError: this is no terminal that could show a screen, or there is no such theme.
    """
    on_page = os.environ.get("TEXTUAL_DRIVER") == PAGE_DRIVER
    for stream, name in ((sys.stdout, "stdout"), (sys.stdin, "stdin")):
        if not (stream.isatty() or on_page):
            raise ScopeError(f"{name} is no terminal", instead)
    if os.environ.get("TERM", "").lower() == "dumb":
        # It moves no cursor: the screen would run by as garbage, in colours or without.
        raise ScopeError(
            "TERM is dumb: this terminal cannot show a screen",
            "llmscope snapshot MODEL --prompt TEXT --lens screen",
        )
    from llmscope.cli.options.appearance import screen_look
    from llmscope.tui.terminal.bandwidth import bandwidth

    spent = bandwidth(spending, os.environ)
    if spent.frames:  # Textual reads it when it is imported
        os.environ.setdefault("TEXTUAL_FPS", str(spent.frames))
    look, typed = screen_look(theme, tier, ascii)
    return look, spent, typed
