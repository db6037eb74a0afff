"""Open the screen on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from llmscope.engine import Engine
from llmscope.errors import ScopeError
from llmscope.text import display_text
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.card import examples
from llmscope.tui.saved import save_prompt, saved_prompt
from llmscope.tui.terminal import own_terminal

if TYPE_CHECKING:
    from llmscope.models.subject import Progress
    from llmscope.scope import Scope


def run(
    load: Callable[[Progress], Scope],
    *,
    spec: str,
    prompt: str = "",
    special_tokens: bool = True,
    debug: bool = False,
) -> int:
    """Open the screen and stay until it is left.

    Args:
        load: makes the scope, in the engine's thread; called with a progress callback.
        spec: the model's name as a person wrote it; its last prompt is kept under this name.
        prompt: what the editor holds at first; empty for the last prompt of this model.
        special_tokens: whether the tokenizer adds its own.
        debug: tell the whole story of a crash.

    Returns:
        The exit code.

    Raises:
        ScopeError: the screen failed.
    """
    text = prompt or saved_prompt(spec) or (examples(spec)[0] if _shipped(spec) else "")
    app = LlmscopeApp(
        lambda post: Engine(load, post), spec=spec, prompt=text, special_tokens=special_tokens
    )
    with own_terminal() as aside:
        try:
            app.run()
        finally:
            save_prompt(spec, app.text)
            with suppress(Exception):
                app.engine.close()
        story = aside.tail() if app.return_code else ""
    if app.return_code:
        if debug:
            sys.stderr.write(story)
        error = app._exception
        reason = f": {type(error).__name__}: {error}" if error else ""
        raise ScopeError(
            f"the screen failed{display_text(reason)}", "--debug, which tells the whole story"
        )
    return 0


def _shipped(spec: str) -> bool:
    return spec.startswith("builtin:")
