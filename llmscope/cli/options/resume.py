"""`--resume`, or a command line that names a model at most: open a session as it was left.

The command line without arguments is not parsed, so nothing here imports the parser at the top.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.support.dtypes import DTYPES, dtype_name
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.cli.launch import LaunchOptions
    from llmscope.cli.options.loading import Loader
    from llmscope.tui.session.session import StoredSession

LOADS = (
    *("device", "dtype", "backend", "cache_type", "threads", "memory", "spill"),
    *("reward", "unverified"),
)
"""Loading options restored from the session; options on the command line take precedence."""
SECOND = (
    *("versus_model", "versus_adapter", "versus_dtype", "versus_device"),
    *("versus_backend", "versus_cache_type", "layer_ids"),
)
"""Options of the second model, which are restored too."""
NAMED = {"versus_model", "versus_adapter"}
"""Those that say which it is."""
FREE = {
    *(*LOADS, "resume", "theme", "color", "ascii", "bandwidth", "debug"),
    *("trust_remote_code", "allow_pickle", "host", "port"),
}
"""Parameters allowed with --resume: none that choose what to open, which the session does."""
OF_MACHINE = ("device", "threads", "memory", "spill")
"""Loading options that a state of another machine does not choose."""
PARTS = {"adapter", *SECOND}
"""Parameters that choose what is loaded beside the model: a session with the same goes on."""


def check_resume(options_said: Collection[str]) -> None:
    """Check that the command line leaves the choice of what to open to the session.

    Args:
        options_said: the parameters that the command line names.

    Raises:
        BadParameter: the command line names a parameter that does not go with `--resume`.
    """
    from llmscope.cli.options import shared

    others = sorted(set(options_said) - FREE)
    named = "model" if "model" in others else f"--{(others or [''])[0].replace('_', '-')}"
    shared.usage(not others, f"opens what was left last, and takes no {named}", "--resume")


def resume_session(options: LaunchOptions, options_said: Collection[str]) -> LaunchOptions:
    """Return the launch options of the last session; without one, `given` with a notice.

    Args:
        options: the launch options from the command line.
        options_said: the parameters that the command line names.
    """
    from llmscope.tui.session.session import left_last

    session, notice = left_last()
    if session is None:
        return replace(options, notice=notice)
    return _onto(options, session, options_said)


def is_state(word: str | None) -> bool:
    """Return whether what is to be opened is a saved state: a `.json` file, or JSON itself."""
    if word is None:
        return False
    return word.lstrip()[:1] == "{" or (word.lower().endswith(".json") and not os.path.isdir(word))


def open_state(options: LaunchOptions, word: str, options_said: Collection[str]) -> LaunchOptions:
    """Return the launch options of a saved state, which the command line names as its model.

    Raises:
        BadParameter: the command line names what the state does.
        ScopeError: it cannot be read, or holds no state.
    """
    others = sorted(set(options_said) - FREE - {"model"})
    if others:
        from llmscope.cli.options import shared

        named = f"--{others[0].replace('_', '-')}"
        shared.usage(False, f"a state is opened as it was saved, and takes no {named}", "MODEL")
    from llmscope.errors import ScopeError
    from llmscope.tui.prompt.editor import too_long
    from llmscope.tui.session.shared_state import read_state

    session = read_state(word)
    if reason := too_long(session.prompt):
        raise ScopeError(f"the prompt of the state is too long: {reason}", "a shorter prompt")
    return _onto(options, session, {*options_said, *OF_MACHINE})


def unless_named(
    options: LaunchOptions, options_said: Collection[str], model: str | None
) -> LaunchOptions:
    """Return the launch options of a session where the command line names a model at most.

    It is that of the model; where none is named, the last one. Without a session they are `given`;
    so they are, with a notice, if its model is gone.

    Args:
        options: the launch options from the command line.
        options_said: the parameters that the command line names.
        model: the model that is named, or that of the user's settings; None: the last one.
    """
    if set(options_said) - FREE - PARTS - {"model"} or (
        PARTS & set(options_said) and model is None
    ):
        return options
    from llmscope.tui.session.state_file import forget_invalid, read_state

    stored = read_state()
    if "session" not in stored.parts:  # as on the first start, which imports nothing for it
        return options
    from llmscope.tui.session.session import StoredSession, session_of
    from llmscope.tui.session.state_folder import flaw

    if model is None:
        session = stored.get("session", StoredSession, StoredSession.check)
    else:
        session = session_of(stored, model)
    if stored.invalid:
        forget_invalid(stored)  # which sets them aside
        options = replace(options, notice=flaw())
    if session is None or not _goes_with(session, options, options_said):
        return options
    if model is not None and _is_relative_elsewhere(
        model, session.folder
    ):  # another folder of that name
        return options
    from llmscope.errors import ScopeError
    from llmscope.models.spec import parse

    try:
        opening = _onto(options, session, options_said)
        parse(opening.load.model)
    except ScopeError as error:
        return replace(options, notice=f"the last session cannot be opened: {error.message}")
    return opening


def _onto(
    options: LaunchOptions, session: StoredSession, options_said: Collection[str]
) -> LaunchOptions:
    """Return launch options with the model and the state of a session.

    An adapter, a second model or a direction that is no longer there is left out, with a notice:
    the model opens without it, not never.
    """
    saved = _loading_options(session)
    loads = {name: saved[name] for name in LOADS if name in saved and name not in options_said}
    second = {name: saved[name] for name in SECOND if name in saved}
    named = next((second[name] for name in sorted(NAMED) if name in second), None)
    adapters = tuple(_found(adapter, session.folder) for adapter in session.adapters)
    direction = _found(session.direction, session.folder) if session.direction else None
    gone = [
        path
        for path in (*adapters, named, direction)
        if path is not None and _is_missing_path(path)
    ]
    load = replace(
        options.load,
        model=_found(session.model, session.folder),
        adapters=tuple(adapter for adapter in adapters if adapter not in gone),
        direction=direction if direction not in gone else None,
        **loads,
    )
    if named is not None and named not in gone:
        load = _with_second(load, second)
    notices = (options.notice, *(f"{display_text(path)} is not there any more" for path in gone))
    return replace(
        options,
        load=load,
        special_tokens=session.special_tokens,
        session=session,
        notice="; ".join(filter(None, notices)),
    )


def _goes_with(
    session: StoredSession, options: LaunchOptions, options_said: Collection[str]
) -> bool:
    """Return whether a session has the adapters and the second model that a command line names."""
    if not PARTS & set(options_said):
        return True
    from llmscope.models.spec import DEFAULT
    from llmscope.tui.features.copy.repro_command import ModelSource

    source, saved = (
        ModelSource.of(options.load.model or DEFAULT, options.load),
        _loading_options(session),
    )
    second = {name: str(value) for name, value in source.versus_options.items()}
    same = second == {name: str(saved[name]) for name in SECOND if name in saved}
    return ("adapter" not in options_said or source.adapters == session.adapters) and (
        same or not set(SECOND) & set(options_said)
    )


def _is_relative_elsewhere(model: str, folder: str) -> bool:
    """Return whether a model is a path relative to another folder than that of a session."""
    if os.path.isabs(model) or not os.path.exists(model):
        return False
    try:
        return not os.path.samefile(folder or ".", ".")
    except OSError:
        return True


def _is_missing_path(spec: str) -> bool:
    """Return whether a spec is a path that does not exist."""
    path = spec.startswith((".", "/", "~", "\\")) or spec.endswith((".safetensors", ".json"))
    try:
        return path and not Path(spec).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return True


def _with_second(load: Loader, second: dict[str, str]) -> Loader:
    from llmscope.cli.options.versus import VersusModelOptions

    return VersusModelOptions(**second).onto(load)


def _loading_options(session: StoredSession) -> dict[str, Any]:
    """Return the loading options of a session, read from its flags; unknown flags are ignored.

    `LOADS` has no option that allows foreign code to run.
    """
    words = iter(session.flags)
    saved: dict[str, Any] = {}
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name == "unverified":
            saved[name] = True
        elif name in LOADS or name in SECOND:
            saved[name] = next(words, "")
    if "threads" in saved:
        number = str(saved.pop("threads"))
        if number.isdecimal() and 0 < int(number) < 2**15:
            saved["threads"] = int(number)
    for name in ("dtype", "versus_dtype"):
        if name in saved:
            saved[name] = dtype_name(saved[name])
        if saved.get(name, "auto") not in ("auto", *DTYPES):
            del saved[name]
    for name in ("reward", *NAMED):
        if name in saved:
            saved[name] = _found(saved[name], session.folder)
    return saved


def _found(spec: str, folder: str) -> str:
    """Return a spec, prefixed with the session's folder if it is a path that exists there."""
    there = Path(folder) / spec
    try:
        moved = bool(folder) and not os.path.samefile(folder, ".") and there.exists()
    except OSError:
        return spec
    return str(there) if moved else spec
