"""A transcript from a file, in the chat template of a model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.models.tokenizer.chat import Chat
    from llmscope.models.tokenizer.conversation import Rendered
    from llmscope.transcripts import Transcript


@dataclass(frozen=True)
class TranscriptOptions:
    """Which transcript of a file is read, and how far."""

    panel: ClassVar[str] = "Prompt"

    turn: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Stop after this turn, where the model is about to speak.",
            show_default="the last one",
        ),
    ] = None
    line: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The line of the transcript in its file.",
            show_default="the first one",
        ),
    ] = None
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Of a pair, the rejected answer, not the chosen one.")
    ] = False

    @property
    def given(self) -> bool:
        """Whether one of them is given."""
        return self.turn is not None or self.line is not None or self.rejected

    def read(self, file: str) -> tuple[Transcript, bool]:
        """Return the transcript up to the turn, and whether the file has others after it.

        Raises:
            ScopeError: the file or the line cannot be read, or has no such turn.
        """
        from llmscope.transcripts.reader import TranscriptFile

        found, more = TranscriptFile(file).read(self.line, rejected=self.rejected)
        return found.until(self.turn), more


def rendered(transcript: Transcript, chat: Chat) -> Rendered:
    """Return a transcript as the text that the model reads.

    A text that is no chat is left as it is. A template that refuses the arguments of calls as
    objects gets them as texts. Notes begin with the place in the file.

    Raises:
        ScopeError: the template rejects a turn, or the model has none.
    """
    from llmscope.models.tokenizer.conversation import Rendered, TurnSpan

    if transcript.plain:
        text, spans = "", []
        for number, turn in enumerate(transcript.turns, 1):
            spans.append(TurnSpan(len(text), len(text) + len(turn.content), turn.role, number))
            text += turn.content
        return Rendered(text, tuple(spans))
    try:
        made = _in_template(transcript, chat)
    except ScopeError as error:
        raise ScopeError(_placed(transcript, error.message), error.hint) from None
    notes = tuple(_placed(transcript, note) for note in made.notes)
    return Rendered(made.text, made.spans, notes)


def _in_template(transcript: Transcript, chat: Chat) -> Rendered:
    """Render a transcript; with the arguments of calls as texts if objects are refused."""
    from llmscope.models.tokenizer.conversation import render

    def made(as_text: bool) -> Rendered:
        messages = [turn.to_message(as_text=as_text) for turn in transcript.turns]
        return render(chat, messages, transcript.asked, transcript.tools)

    try:
        return made(as_text=False)
    except ScopeError:
        if any(turn.calls for turn in transcript.turns):
            with suppress(ScopeError):  # then the first reason is told
                return made(as_text=True)
        raise


def _placed(transcript: Transcript, words: str) -> str:
    """Return words about a turn, or the whole of a transcript, with its file and line."""
    return f"{transcript.where}{', ' if words.startswith('turn') else ': '}{words}"
