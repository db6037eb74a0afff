"""Open the screen on a scope of the program that is running, and return to that program."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.edits import Edit
    from llmscope.scope.scope import Scope

INSTEAD = 'scope.look("logit-lens").save("figure.svg"), or a script run in a terminal'
SET = ("COLUMNS", "LINES", "TEXTUAL_FPS")
"""Environment variables that the screen sets or removes."""


def show(
    scope: Scope,
    *,
    prompt: str,
    special_tokens: bool,
    edits: tuple[Edit, ...],
    versus_prompt: str | None,
) -> None:
    """Open the screen on the model of a scope, with the user's settings, until it is left.

    A signal that ends the screen is raised again for the program when the screen is closed.

    Args:
        scope: the scope; its engine's thread alone uses the model meanwhile.
        prompt: the first text; empty: the last one that was on such a screen.
        special_tokens: whether the tokenizer adds its special tokens.
        edits, versus_prompt: the edits that are on at first, and prompt B.

    Raises:
        ScopeError: there is no terminal that can show it, another thread than the main one calls,
            an event loop runs in this thread, or the screen failed.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ScopeError("the screen needs the main thread", "scope.show() from the main thread")
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ScopeError("an event loop runs in this thread, as in a notebook", INSTEAD)
    from llmscope.cli.launch import screen_options, set_look
    from llmscope.config import effective
    from llmscope.models.spec import IN_MEMORY

    has = {"theme": None, "tier": None, "ascii": None, "bandwidth": "auto", **set_look(effective())}
    with _restore_process():
        look, spent, typed = screen_options(
            *(has["theme"], has["tier"], has["ascii"], has["bandwidth"]), instead=INSTEAD
        )
        from llmscope.tui.run import run

        status = run(
            lambda progress: scope,
            spec=IN_MEMORY,
            prompt=prompt,
            typed=typed,
            special_tokens=special_tokens,
            look=look,
            bandwidth=spent,
            edits=edits,
            versus_prompt=versus_prompt,
            hosted=True,
        )
    if status > 128:
        signal.raise_signal(status - 128)


@contextmanager
def _restore_process() -> Iterator[None]:
    """Put the variables of `SET`, and Python's random numbers, back as they were."""
    before, drawn = {name: os.environ.get(name) for name in SET}, random.getstate()
    try:
        yield
    finally:
        random.setstate(drawn)  # libraries of the screen draw from them
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
