"""A list to search, to which a thread adds what it finds in folders: lenses, dictionaries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from threading import Thread
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from textual import on
from textual.message import Message

from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import LONGEST_NAME
from llmscope.tui.dialogs.search_list import DetailListScreen
from llmscope.tui.widgets.choice_list import ListEntry

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo
    from llmscope.tui.host import Host

TYPED = "what is typed"
Found = TypeVar("Found")


class FilesFound(Message, Generic[Found]):
    """Posted with what a thread found in folders."""

    def __init__(self, choices: Sequence[Found]) -> None:
        super().__init__()
        self.found = choices


class FoundListScreen(DetailListScreen, Generic[Found]):
    """A search line with names below it; a name that is not listed can be typed.

    Attributes:
        typed_about: the explanation of a name that is typed.
    """

    typed_about: ClassVar[str] = ""

    def __init__(self, host: Host, placeholder: str) -> None:
        super().__init__(host, placeholder)
        self._line.longest = LONGEST_NAME
        self._all = self.list_all()

    @abstractmethod
    def list_all(self, choices: Sequence[Found] = ()) -> Sequence[ListEntry]:
        """Return all entries, with those of what was found in folders."""

    @abstractmethod
    def find(self, info: ModelInfo) -> Sequence[Found]:
        """Return what folders hold that fits the model; runs in its own thread."""

    @abstractmethod
    def in_use(self) -> Collection[str]:
        """Return the names of which one is selected first."""

    def on_mount(self) -> None:
        """Select what is in use, and look in folders, in a thread: a disk may not answer."""
        super().on_mount()
        Thread(target=self._look, name=f"llmscope-{type(self).__name__}", daemon=True).start()
        used = self.in_use()
        self.choices.move(
            next((at for at, choice in enumerate(self._all) if choice.text in used), 0)
        )
        self.explain()

    def _look(self) -> None:
        info = self._host.state.info
        if info is not None:
            self.post_message(FilesFound(self.find(info)))

    @on(FilesFound)
    def _add(self, message: FilesFound[Found]) -> None:
        if message.found:
            chosen = self.choices.at
            self._all = self.list_all(message.found)
            self.seek(self._line.value)
            self.choices.move(chosen - self.choices.at)
            self.explain()

    def matching(self, wanted: str) -> Sequence[ListEntry]:
        """Return the entries that contain all words, and what was typed as a name."""
        choices = list(super().matching(wanted))
        typed = wanted.strip()
        if typed and all(choice.text != typed for choice in choices):
            choices.append(ListEntry(TYPED, typed, display_text(typed), self.typed_about))
        return choices
