"""Which transcript of a file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

if TYPE_CHECKING:
    from llmscope.corpus.records.transcripts import Transcript


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
        from llmscope.corpus.records.transcripts.reader import TranscriptFile

        conversation, more = TranscriptFile(file).transcript(self.line, rejected=self.rejected)
        return conversation.until(self.turn), more
