"""How the screen and the engine's thread meet: a protocol one way, messages the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

if TYPE_CHECKING:
    from llmscope.engine.events import Ask, Event


class EngineLike(Protocol):
    """What the screen needs of an engine."""

    def start(self) -> None:
        """Begin to load the model, in a thread of its own."""

    def ask(self, request: Ask) -> None:
        """Take a request; it replaces one that has not been answered."""

    def close(self) -> bool:
        """End the thread; false if it did not end in time."""


MakeEngine = Callable[[Callable[["Event"], None]], EngineLike]


class LateEngine:
    """An engine that is imported once it is needed: it starts after the first picture.

    Args:
        make: imports and makes it.
    """

    def __init__(self, make: Callable[[], EngineLike]) -> None:
        self._make = make

    @cached_property
    def engine(self) -> EngineLike:
        """The engine itself."""
        return self._make()

    def start(self) -> None:
        """Begin to load the model."""
        self.engine.start()

    def ask(self, request: Ask) -> None:
        """Hand a request on."""
        self.engine.ask(request)

    def close(self) -> bool:
        """End the thread, if there ever was one; false if it did not end in time."""
        return "engine" not in vars(self) or self.engine.close()


class EngineSays(Message):
    """An event of the engine on its way to the app. Posted from the engine's thread."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    def can_replace(self, message: Message) -> bool:
        """Whether a later message makes this one needless.

        Progress is needless once newer progress waits, a frame once one for a newer request does.
        """
        if not isinstance(message, EngineSays):
            return False
        from llmscope.engine.events import Frame, Loading

        old, new = self.event, message.event
        if isinstance(old, Frame) and isinstance(new, Frame):
            return new.serial > old.serial
        return isinstance(old, Loading) and isinstance(new, Loading)
