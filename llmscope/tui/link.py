"""How the screen and the engine's thread meet: a protocol one way, messages the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from textual.message import Message

from llmscope.engine.events import Ask, Event, Frame, Loading


class EngineLike(Protocol):
    """What the screen needs of an engine."""

    def start(self) -> None:
        """Begin to load the model, in a thread of its own."""

    def ask(self, request: Ask) -> None:
        """Take a request; it replaces one that has not been answered."""

    def close(self) -> bool:
        """End the thread; false if it did not end in time."""


MakeEngine = Callable[[Callable[[Event], None]], EngineLike]


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
        old, new = self.event, message.event
        if isinstance(old, Frame) and isinstance(new, Frame):
            return new.serial > old.serial
        return isinstance(old, Loading) and isinstance(new, Loading)
