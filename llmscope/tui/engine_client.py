"""The interface of screen and engine thread: a protocol one way, messages the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

if TYPE_CHECKING:
    from llmscope.engine.events import Ask, Event


class EngineLike(Protocol):
    """The methods of an engine that the screen calls."""

    def start(self) -> None:
        """Start loading the model, in a thread of its own."""

    def ask(self, request: Ask) -> None:
        """Take a request; it replaces an earlier one that is not answered yet."""

    def close(self) -> bool:
        """End the thread; return False if it did not end in time."""


MakeEngine = Callable[[Callable[["Event"], None]], EngineLike]


class LateEngine:
    """An engine that is imported and created on first use, after the first paint.

    Args:
        make: imports and creates the engine.
    """

    def __init__(self, make: Callable[[], EngineLike]) -> None:
        self._make = make

    @cached_property
    def engine(self) -> EngineLike:
        """Return the engine itself."""
        return self._make()

    def start(self) -> None:
        """Start loading the model."""
        self.engine.start()

    def ask(self, request: Ask) -> None:
        """Pass a request on to the engine."""
        self.engine.ask(request)

    def close(self) -> bool:
        """End the thread if it was started; return False if it did not end in time."""
        return "engine" not in vars(self) or self.engine.close()


class EngineSays(Message):
    """An event of the engine on its way to the app; posted from the engine's thread."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    def can_replace(self, message: Message) -> bool:
        """Return whether a later message makes this one superfluous.

        Newer progress replaces older progress, and a frame for a newer request an older frame.
        """
        if not isinstance(message, EngineSays):
            return False
        from llmscope.engine.events import Frame, Loading, PromptsRead, Working

        old, new = self.event, message.event
        if isinstance(old, Frame) and isinstance(new, Frame):
            return new.serial > old.serial
        if isinstance(old, PromptsRead) and isinstance(new, PromptsRead):
            return new.request is old.request
        if isinstance(old, Working) and isinstance(new, Working):
            return True
        return isinstance(old, Loading) and isinstance(new, Loading)
