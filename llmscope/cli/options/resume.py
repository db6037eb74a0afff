"""`--resume`, or a command line that names no model: open the last session as it was left.

The command line without arguments is not parsed, so nothing here imports the parser at the top.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.dtypes import DTYPES, dtype_name

if TYPE_CHECKING:
    from llmscope.cli.launch import LaunchOptions
    from llmscope.cli.options.loading import Loader
    from llmscope.tui.session.session import Session

LOADS = ("device", "dtype", "threads", "memory", "spill", "reward", "unverified")
"""Loading options restored from the session; options on the command line take precedence."""
SECOND = ("versus_model", "versus_adapter", "versus_dtype", "versus_device", "layers")
"""Options of the second model, which are restored too."""
NAMED = {"versus_model", "versus_adapter"}
"""Those that say which it is."""
FREE = {
    *(*LOADS, "resume", "theme", "color", "ascii", "bandwidth", "debug"),
    *("trust_remote_code", "allow_pickle", "host", "port"),
}
"""Parameters allowed with --resume: none that choose what to open, which the session does."""


def check_resume(said: Collection[str]) -> None:
    """Check that the command line leaves the choice of what to open to the session.

    Args:
        said: the parameters that the command line names.

    Raises:
        BadParameter: the command line names a parameter that does not go with `--resume`.
    """
    from llmscope.cli.options import shared

    others = sorted(set(said) - FREE)
    named = "model" if "model" in others else f"--{(others or [''])[0].replace('_', '-')}"
    shared.usage(not others, f"opens what was left last, and takes no {named}", "--resume")


def resumed(given: LaunchOptions, said: Collection[str]) -> LaunchOptions:
    """Return the launch options of the last session; without one, `given` with a notice.

    Args:
        given: the launch options from the command line.
        said: the parameters that the command line names.
    """
    from llmscope.tui.session.session import left_last

    session, notice = left_last()
    if session is None:
        return replace(given, notice=notice)
    return _onto(given, session, said)


def unless_named(given: LaunchOptions, said: Collection[str], model: str | None) -> LaunchOptions:
    """Return the launch options of the last session where the command line names nothing to open.

    Without a session they are `given`; so they are, with a notice, if its model is gone.

    Args:
        given: the launch options from the command line.
        said: the parameters that the command line names.
        model: the model of the user's settings; a session of another model is not gone on with.
    """
    if set(said) - FREE:
        return given
    from llmscope.tui.session.state_file import read_state

    stored = read_state()
    if "session" not in stored.parts:  # as on the first start, which imports nothing for it
        return given
    from llmscope.tui.session.session import Session, left_last

    session = stored.get("session", Session, Session.check)
    if session is None:
        return replace(given, notice=left_last()[1])  # which sets it aside
    if model not in (None, session.model):
        return given
    from llmscope.errors import ScopeError
    from llmscope.models.spec import parse

    try:
        opening = _onto(given, session, said)
        parse(opening.load.model)
    except ScopeError as error:
        return replace(given, notice=f"the last session cannot be opened: {error.message}")
    return opening


def _onto(given: LaunchOptions, session: Session, said: Collection[str]) -> LaunchOptions:
    """Return launch options with the model and the state of a session."""
    kept = _kept(session)
    loads = {name: kept[name] for name in LOADS if name in kept and name not in said}
    load = replace(
        given.load,
        model=_found(session.model, session.folder),
        adapters=tuple(_found(one, session.folder) for one in session.adapters),
        **loads,
    )
    second = {name: kept[name] for name in SECOND if name in kept}
    return replace(
        given,
        load=_with_second(load, second) if NAMED & second.keys() else load,
        special_tokens=session.special_tokens,
        session=session,
    )


def _with_second(load: Loader, second: dict[str, str]) -> Loader:
    from llmscope.cli.options.versus import VersusModelOptions

    return VersusModelOptions(**second).onto(load)


def _kept(session: Session) -> dict[str, Any]:
    """Return the loading options of a session, read from its flags; unknown flags are ignored.

    `LOADS` has no option that allows foreign code to run.
    """
    words = iter(session.flags)
    kept: dict[str, Any] = {}
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name == "unverified":
            kept[name] = True
        elif name in LOADS or name in SECOND:
            kept[name] = next(words, "")
    if "threads" in kept:
        number = str(kept.pop("threads"))
        if number.isdecimal() and 0 < int(number) < 2**15:
            kept["threads"] = int(number)
    for name in ("dtype", "versus_dtype"):
        if name in kept:
            kept[name] = dtype_name(kept[name])
        if kept.get(name, "auto") not in ("auto", *DTYPES):
            del kept[name]
    for name in ("reward", *NAMED):
        if name in kept:
            kept[name] = _found(kept[name], session.folder)
    return kept


def _found(spec: str, folder: str) -> str:
    """Return a spec, prefixed with the session's folder if it is a path that exists there."""
    there = Path(folder) / spec
    try:
        moved = bool(folder) and not os.path.samefile(folder, ".") and there.exists()
    except OSError:
        return spec
    return str(there) if moved else spec
