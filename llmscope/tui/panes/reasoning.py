"""The panes of reasoning, on the tab Text: the trace by sentence, forks and branches, passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from llmscope.draw.painting import Painting
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState


class _RowsPane(LensPane):
    """A pane whose rows are parts of the prompt: the cursor's one is marked, up and down go on."""

    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    least_rows: ClassVar[int] = 6
    lists = ("sentence", "fork", "passage")

    @staticmethod
    def places(figure: Figure) -> Sequence[int]:
        """Return the token of each row that the cursor goes to; empty if the rows have none."""
        return tuple(end - 1 for end in figure.extra.get("stops", ()))

    def listed(self, state: ViewState) -> Sequence[int]:
        """Return the token of each row; empty if the rows have none."""
        return () if self._shown is None else self.places(self._shown.figure)

    def row_axis(self, state: ViewState) -> str:
        """Return that rows are parts of the prompt, or tokens without such a figure."""
        return self.row if self.listed(state) else "token"

    def chosen_row(self, state: ViewState) -> int:
        """Return the row of the part that the cursor is in."""
        return row_at(self.listed(state), state.focus.position)

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with the cursor on the token of a row."""
        return state.move_to(position=self.listed(state)[row])

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the rows with that of the cursor marked."""
        places = self.places(result.figure)
        if places:
            extra = {**result.figure.extra, "here": row_at(places, focus.position)}
            result = replace(result, figure=replace(result.figure, extra=extra))
        return super().draw(result, focus, tokens)


def row_at(places: Sequence[int], position: int) -> int:
    """Return the first row that ends at or after a position; after all of them the last one."""
    return next((row for row, end in enumerate(places) if end >= position), len(places) - 1)


class ReasoningPane(_RowsPane):
    """Where the answer of a chain of thought settles, and which sentences it rests on."""

    key: ClassVar[str] = "reasoning"
    words: ClassVar[str] = (
        "chain of thought, CoT, thinking, reasoning trace, forced answer, early answering, "
        "faithfulness, thought anchors"
    )
    usage: ClassVar[str] = """\
A row is a sentence. Up and down go from one to the next, and the panes beside follow; ▸ marks the \
one at which the answer settles, or on which it rests most. {map-view} changes between the two. \
The answer is the one that the text states at its end, or what the model says after it. A line \
--- in the prompt says where the trace begins, and so does <think>."""
    row: ClassVar[str] = "sentence"
    lens = "reasoning"
    views = ("settles", "rests-on")
    view_words: ClassVar[Mapping[str, str]] = {
        "settles": "settles, answer by sentence, when it knows the answer",
        "rests-on": "rests on, drop a sentence, sentence importance, leave one out",
    }


class ForksPane(_RowsPane):
    """The most uncertain tokens of a chain of thought, or other ways to go on from the cursor's."""

    key: ClassVar[str] = "forks"
    words: ClassVar[str] = "forks, high-entropy tokens, forking tokens, pivotal tokens"
    usage: ClassVar[str] = """\
A row is a token before which much else could have come. Up and down go from fork to fork. \
{map-view} shows branches: the text is cut at the cursor's token and goes on in four other ways, \
each with the answer that it leads to. {resample} writes such branches into the prompt, the text \
as it is among them; {branch-previous} and {branch-next} go through them."""
    row: ClassVar[str] = "fork"
    lens = "reasoning"
    views = ("forks", "branches")
    view_words: ClassVar[Mapping[str, str]] = {
        "forks": "forks, uncertain tokens",
        "branches": "branches, resample, rollouts, other continuations",
    }
    asks = ("position",)

    @staticmethod
    def places(figure: Figure) -> Sequence[int]:
        """Return the token of each fork; branches have none."""
        return tuple(figure.extra.get("positions", ()))

    def want(self, state: ViewState) -> Want:
        """Return the want for the view; forks are the same wherever the cursor is."""
        want = super().want(state)
        if want.focus.mode == "branches":
            return want
        focus = replace(want.focus, position=Focus().position, top_k=self.rows)
        return replace(want, focus=focus)


class PassagesPane(_RowsPane):
    """Which passage of the prompt the answer stands on, by several methods."""

    key: ClassVar[str] = "passages"
    words: ClassVar[str] = (
        "passages, documents, RAG, retrieval, citations, attribution to sources, context "
        "attribution, grounding"
    )
    usage: ClassVar[str] = """\
A row is a passage: a paragraph before the question, or what begins with [1] or stands in \
<doc>…</doc>. ▸ marks the one without which the answer loses most. The answer is what the model \
says next, or the target that {pin-target} pinned."""
    row: ClassVar[str] = "passage"
    lens = "passages"
    views = ("",)
    asks = ("target",)
