"""The list of a file of prompts: how far it was read, and which of its tokens is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmscope.engine.prompt_list import ListedToken, PromptReport, PromptsOnDisk, PromptsRequest


@dataclass(frozen=True)
class PromptList:
    """A file of prompts on the screen.

    Attributes:
        file: the file.
        request: the request that reads it; None before a model is known.
        report: how far it was read; None before the first report.
        token: the token that was chosen; None: the first of the list, whichever it is.
        a, b: the models that are compared, by name; b is empty for one model.
        entered: whether a prompt of the list was opened from it, so that esc leads back.
    """

    file: PromptsOnDisk
    request: PromptsRequest | None = None
    report: PromptReport | None = field(default=None, compare=False)
    token: ListedToken | None = None
    a: str = ""
    b: str = ""
    entered: bool = False
    serial: int = 0

    @property
    def rows(self) -> tuple[ListedToken, ...]:
        """The tokens that are listed, the largest value first."""
        return () if self.report is None else self.report.rows

    @property
    def chosen(self) -> int:
        """The index of the chosen token; that of the first one if the chosen one has left."""
        places = (at for at, row in enumerate(self.rows) if row is self.token)
        return next(places, 0)

    @property
    def chosen_token(self) -> ListedToken | None:
        """The chosen token; None if nothing is listed."""
        return self.rows[self.chosen] if self.rows else None

    def choosing(self, by: int) -> PromptList:
        """Return the list with the token `by` rows further down chosen."""
        return self.choose(self.chosen + by)

    def choose(self, row: int) -> PromptList:
        """Return the list with the token of a row chosen, or the nearest one."""
        if not self.rows:
            return self
        at = max(0, min(row, len(self.rows) - 1))
        # The first row is followed, not its token: what is on top changes while the list fills.
        return replace(self, token=self.rows[at] if at else None)

    def landed(self, report: PromptReport) -> PromptList:
        """Return the list after another report."""
        return replace(self, report=report, serial=self.serial + 1)
