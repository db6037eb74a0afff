"""Open a run in a terminal."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmscope.runs.reader import RunReader
from llmscope.tui.actions.user_keymap import read_keymap
from llmscope.tui.modes.run.run_view import RecorderLike, RunView
from llmscope.tui.modes.run.screen import watch_app
from llmscope.tui.run import stay

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.terminal.bandwidth import Bandwidth


def run(
    runs: Sequence[RunReader],
    *,
    look: RenderOptions,
    bandwidth: Bandwidth,
    debug: bool = False,
    recorder: RecorderLike | None = None,
    typed: str = "",
) -> int:
    """Run the app until the user quits; nothing is saved, because a run contains no work.

    Args:
        runs: one run, or two of the same prompts.
        look: the render options.
        bandwidth: what may be sent to the terminal.
        debug: print the full output of a crash.
        recorder: what records the run in this process; None if nothing does.
        typed: keys that were pressed before the screen appeared.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the program.

    Raises:
        ScopeError: a run cannot be shown, or the app failed.
    """
    gc.enable()
    view = RunView(runs)
    app = watch_app(view, look=look, bandwidth=bandwidth, keymap=read_keymap(), recorder=recorder)
    return stay(app, lambda: None, debug=debug, typed=typed)
