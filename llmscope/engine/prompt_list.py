"""Messages about a file of prompts, of whose tokens the most telling are listed.

The file is read in the engine's thread, behind everything else that is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.scope.scope import Scope

Measure = Literal["kl", "surprisal"]


@dataclass(frozen=True, eq=False)
class ReadPrompt:
    """A prompt of a file as the model read it.

    Attributes:
        line: the line where it begins in its file, from 1; for Parquet, the row.
        text: the text that was read, in the chat template if it is a chat.
        turns: the parts of its turns; empty for a plain text.
        tokens: the number of its tokens.
        cut: whether tokens beyond the longest length were left out.
    """

    line: int
    text: str
    turns: tuple[TurnSpan, ...]
    tokens: int
    cut: bool


@dataclass(frozen=True, eq=False)
class ListedToken:
    """A token of a prompt, and what makes it worth a look.

    Attributes:
        prompt: its prompt.
        position: its position there.
        before, token: the end of the text before it, and its text.
        value: KL(A ‖ B) of the predictions after it, in nats; of one model, its surprisal in bits.
        top_a, p_top_a: A's likeliest token after it, with its probability; of one model, the
            likeliest token in its place.
        top_b, p_top_b: the same of B; empty and 0 of one model.
    """

    prompt: ReadPrompt
    position: int
    before: str
    token: str
    value: float
    top_a: str
    p_top_a: float
    top_b: str = ""
    p_top_b: float = 0.0


@dataclass(frozen=True, eq=False)
class PromptReport:
    """How far a file of prompts was read, and what was found so far.

    Attributes:
        measure: what tokens are ranked by.
        read: the number of prompts that were read.
        total: the number of lines of the file; None if it is unknown.
        share: the fraction of the file that was read, from 0 to 1.
        skipped: the number of lines that could not be read.
        flaw: why the first of them could not be read; empty without any.
        cut: the number of prompts of which only the beginning was read.
        tokens: the number of tokens that were measured.
        mean: the mean of the measure over them; NaN before the first.
        agree: the share of tokens after which both models have the same likeliest token; of one
            model, the share of tokens that were its likeliest.
        rows: the tokens with the largest values, the largest first.
        done: whether the whole file was read.
        error: why reading ended early; empty if it did not.
    """

    measure: Measure
    read: int = 0
    total: int | None = None
    share: float = 0.0
    skipped: int = 0
    flaw: str = ""
    cut: int = 0
    tokens: int = 0
    mean: float = float("nan")
    agree: float = float("nan")
    rows: tuple[ListedToken, ...] = ()
    done: bool = False
    error: str = ""


class PromptReader(Protocol):
    """Reads a file of prompts with a model, a part at a time."""

    @property
    def report(self) -> PromptReport:
        """How far it is."""

    def step(self, gives_way: Callable[[], bool]) -> None:
        """Read one more prompt, or less: the rest of it waits once `gives_way` returns true.

        Args:
            gives_way: asked before each layer of a pass, and between a few rows of logits.

        Raises:
            ScopeError: the file cannot be read any further, or the models cannot be compared.
        """


class PromptsOnDisk(Protocol):
    """A file of prompts.

    Attributes:
        kind: tells it from a chat.
        path: its absolute path.
        name: its name as displayed.
    """

    kind: Literal["prompts"]
    path: str
    name: str

    def reader(self, scope: Scope) -> PromptReader:
        """Return what reads the file from its beginning with a model.

        Raises:
            ScopeError: the file cannot be read, or the models cannot be compared.
        """


@dataclass(frozen=True)
class ChatText:
    """A chat of a file in the template of a model.

    Attributes:
        text: the text, which has its special tokens already.
        turns: the parts of its turns; empty for a text that is no chat.
        notes: notes for the user, such as what the template leaves out.
    """

    text: str = ""
    turns: tuple[TurnSpan, ...] = ()
    notes: tuple[str, ...] = ()


class ChatOnDisk(Protocol):
    """A file with a chat.

    Attributes:
        kind: tells it from a file of prompts.
        name: its name as displayed.
    """

    kind: Literal["chat"]
    name: str

    def text(self, scope: Scope) -> ChatText:
        """Return the chat in the template of a model.

        Raises:
            ScopeError: the file is no chat, or the template rejects it.
        """


@dataclass(frozen=True, eq=False)
class ChatFileRequest:
    """A request to put the chat of a file into the model's chat template."""

    file: ChatOnDisk

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's, so that a running pass is cancelled for this request."""
        return ("chat file", self)


@dataclass(frozen=True)
class ChatFileRead:
    """The chat of a file in the template; without text if there is an `error`."""

    request: ChatFileRequest
    chat: ChatText = ChatText()
    error: str = ""


@dataclass(frozen=True, eq=False)
class PromptsRequest:
    """A request to read a file of prompts while nothing else is asked for.

    It replaces an earlier one. It is answered with `PromptsRead` again and again.

    Attributes:
        file: the file; None reads no file any more.
        adapter: the adapter that the model is used with; None is the base model.
    """

    file: PromptsOnDisk | None
    adapter: str | None = None

    @property
    def prompt(self) -> tuple[object, ...]:
        """A key equal to no pass's."""
        return ("prompts", self)


@dataclass(frozen=True)
class PromptsRead:
    """How far the file of a request was read."""

    request: PromptsRequest
    report: PromptReport
