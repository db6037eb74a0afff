"""Open a snapshot in a terminal."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from llmscope.tui.actions.user_keymap import read_keymap
from llmscope.tui.modes.replay.reader import Recorded
from llmscope.tui.modes.replay.screen import replay_app
from llmscope.tui.run import stay

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.terminal.bandwidth import Bandwidth


def run(
    snapshot: Recorded,
    *,
    look: RenderOptions,
    bandwidth: Bandwidth,
    debug: bool = False,
    typed: str = "",
) -> int:
    """Run the app until the user quits; nothing is saved, because a replay contains no work.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the program.

    Raises:
        ScopeError: the app failed.
    """
    gc.enable()
    app = replay_app(snapshot, look=look, bandwidth=bandwidth, keymap=read_keymap())
    return stay(app, lambda: None, debug=debug, typed=typed)
