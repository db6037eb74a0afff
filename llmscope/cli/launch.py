"""Open the screen, without the command-line parser, which is slow to import."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.cli.options.loading import Loader
    from llmscope.draw import RenderOptions, Tier
    from llmscope.edits import Edit
    from llmscope.jobs.compare.prompt_file import ChatFile, PromptFile
    from llmscope.models.sampler import Sampler
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.tui.modes.replay.reader import Recorded
    from llmscope.tui.modes.run.run_view import RecorderLike
    from llmscope.tui.session.session import StoredSession
    from llmscope.tui.terminal.bandwidth import Bandwidth, Choice


PAGE_DRIVER = "llmscope.tui.terminal.web_page:PageDriver"
"""The Textual driver of the processes that `llmscope serve` starts."""


@dataclass(frozen=True)
class LaunchOptions:
    """Options for opening the screen. See `llmscope open --help`."""

    load: Loader
    prompt: str = ""
    special_tokens: bool = True
    chat: bool = False
    system: str | None = None
    theme: str | None = None
    tier: Tier | None = None
    ascii: bool | None = None
    bandwidth: Choice = "auto"
    debug: bool = False
    edits: tuple[Edit, ...] = ()
    versus_prompt: str | None = None
    sampler: Sampler | None = None
    session: StoredSession | None = None
    notice: str = ""
    turns: Sequence[TurnSpan] = ()
    workspace: str = ""
    prompts: PromptFile | None = None


def opening(model: str | None) -> LaunchOptions:
    """Return the options from the user's settings, for a command line with at most a model.

    They are those of the model's session, or of the last one, as far as one is stored.

    Raises:
        ScopeError: a setting is invalid.
    """
    from llmscope.cli.options.loading import Loader
    from llmscope.cli.options.resume import is_state, open_state, unless_named
    from llmscope.config import effective

    has: dict[str, Any] = effective()
    load = {name: has[name] for name in ("device", "dtype", "threads") if name in has}
    options = LaunchOptions(Loader(model or has.get("model"), **load), **set_look(has))
    if model is not None and is_state(model):
        return open_state(options, model, ())
    return unless_named(options, (), model or has.get("model"))


def set_look(has: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that affect how the screen looks."""
    names: tuple[str, ...] = ("theme", "ascii", "bandwidth")
    look = {name: has[name] for name in names if name in has}
    if has.get("color", "auto") != "auto":
        look["tier"] = has["color"]
    return look


def show(opening: LaunchOptions) -> int:
    """Open the screen, and return when the user leaves it.

    Returns:
        The exit code.

    Raises:
        ScopeError: this terminal cannot show the screen.
    """
    from llmscope.models.spec import DEFAULT
    from llmscope.support.distributions import need_torch

    need_torch("the screen of a model")
    look, spent, typed = screen_options(
        *(opening.theme, opening.tier, opening.ascii, opening.bandwidth),
        instead="llmscope snapshot MODEL --prompt TEXT --lens NAME",
    )
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.run import run

    spec = opening.load.model or DEFAULT
    return run(
        opening.load,
        spec=spec,
        prompt=opening.prompt,
        typed=typed,
        special_tokens=opening.special_tokens,
        look=look,
        chat=opening.chat,
        system=opening.system,
        bandwidth=spent,
        debug=opening.debug,
        source=ModelSource.of(spec, opening.load),
        edits=opening.edits,
        versus_prompt=opening.versus_prompt,
        sampler=opening.sampler,
        session=opening.session,
        notice=opening.notice,
        turns=opening.turns,
        other=opening.load.other,
        workspace=opening.workspace,
        files=partial(_open_file, special_tokens=opening.special_tokens),
        prompts=opening.prompts,
    )


def _open_file(path: str, *, special_tokens: bool) -> PromptFile | ChatFile:
    """Open a file of prompts or a chat; see `llmscope.jobs.compare.prompt_file.open_file`."""
    from llmscope.jobs.compare.prompt_file import open_file

    return open_file(path, special_tokens=special_tokens)


def replay_plainly(file: str) -> int:
    """Replay a snapshot with the user's settings, for a command line with only its file.

    Raises:
        ScopeError: a setting is invalid, or the file cannot be replayed.
    """
    from llmscope.config import effective

    return replay(file, **set_look(effective()))


def replay(
    file: str,
    *,
    layers: Sequence[int] | None = None,
    model: str | None = None,
    theme: str | None = None,
    tier: Tier | None = None,
    ascii: bool | None = None,  # noqa: A002
    bandwidth: Choice = "auto",
    debug: bool = False,
) -> int:
    """Open a snapshot's file on the screen, and return when the user leaves it.

    Args:
        file: the snapshot, a file of another engine's hidden states, or the folder of a batch.
        layers: the ids of the layers in such a file; None if none are named.
        model: the model that the engine ran; None if it is not named.
        theme, tier, ascii, bandwidth: see `screen_options`.
        debug: print the full output of a crash.

    Returns:
        The exit code.

    Raises:
        ScopeError: the file cannot be replayed, or this terminal cannot show the screen.
    """
    if is_batch(file):
        from llmscope.figure.tables.arrow import needed

        needed()
        from llmscope.report.reader import BatchTables

        BatchTables(file)  # refused before the screen is opened
        look, spent, typed = screen_options(
            *(theme, tier, ascii, bandwidth), instead=f"llmscope report {display_text(file)}"
        )
        from llmscope.tui.modes.report.screen import run as show_report

        return show_report(file, look=look, bandwidth=spent, debug=debug, typed=typed)
    snapshot = _read_states(Path(file), layers, model)
    look, spent, typed = screen_options(
        *(theme, tier, ascii, bandwidth), instead="llmscope diff FILE OTHER, which needs none"
    )
    from llmscope.tui.modes.replay.run import run

    return run(snapshot, look=look, bandwidth=spent, debug=debug, typed=typed)


def is_batch(file: str) -> bool:
    """Return whether `replay` is given the folder of a batch: a folder, or a URL."""
    from llmscope.support.storage import is_url

    return is_url(file) or os.path.isdir(file)


def _read_states(path: Path, layers: Sequence[int] | None, model: str | None) -> Recorded:
    from llmscope.models.hidden_states import is_hidden_states
    from llmscope.tui.modes.replay.reader import read_snapshot

    if layers is None and model is None and not is_hidden_states(path):
        return read_snapshot(path)
    from llmscope.tui.modes.replay.hidden_states import recorded_states

    return recorded_states(path, layers, model)


def watch_plainly(folder: str) -> int:
    """Watch a run with the user's settings, for a command line with only its folder.

    Raises:
        ScopeError: a setting is invalid, or the run cannot be shown.
    """
    from llmscope.config import effective

    return watch((folder,), **set_look(effective()))


def watch(
    folders: tuple[str, ...],
    *,
    recorder: RecorderLike | None = None,
    theme: str | None = None,
    tier: Tier | None = None,
    ascii: bool | None = None,  # noqa: A002
    bandwidth: Choice = "auto",
    debug: bool = False,
) -> int:
    """Open a run on the screen, or two beside each other, and return when the user leaves it.

    Args:
        folders: the folders of one run or two, or `builtin:NAME`.
        recorder: what records the run in this process; None if nothing does.
        theme, tier, ascii, bandwidth: see `screen_options`.
        debug: print the full output of a crash.

    Returns:
        The exit code.

    Raises:
        ScopeError: a run cannot be shown, or this terminal cannot show the screen.
    """
    look, spent, typed = screen_options(
        *(theme, tier, ascii, bandwidth), instead="llmscope watch RUN --export FOLDER"
    )
    from llmscope.cli.output.notices import tell_plainly
    from llmscope.runs.reader import RunReader, wait_for_run
    from llmscope.runs.shipped import run_folder
    from llmscope.tui.modes.run.run import run

    places = [run_folder(folder) for folder in folders]
    for place in places:
        wait_for_run(place, tell_plainly)
    runs = [RunReader(place) for place in places]
    return run(runs, look=look, bandwidth=spent, debug=debug, recorder=recorder, typed=typed)


def on_page() -> bool:
    """Return whether the screen is a page of `llmscope serve`."""
    return os.environ.get("TEXTUAL_DRIVER") == PAGE_DRIVER


def screen_options(
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
    spending: Choice,
    *,
    instead: str,
) -> tuple[RenderOptions, Bandwidth, str]:
    """Return the screen's render options, its bandwidth, and keys typed before it opened.

    Args:
        theme: name of a theme; see `screen_look`.
        tier: how many colours; None detects it.
        ascii: whether to draw only ASCII; None detects it.
        spending: the bandwidth, as the user chose it.
        instead: the command to suggest if there is no terminal.

    Raises:
        ScopeError: this terminal cannot show a screen, or the theme does not exist.
    """
    for stream, name in ((sys.stdout, "stdout"), (sys.stdin, "stdin")):
        if not (stream.isatty() or on_page()):
            raise ScopeError(f"{name} is no terminal", instead)
    if os.environ.get("TERM", "").lower() == "dumb":
        # A dumb terminal cannot move its cursor: the screen would scroll by as garbage.
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
