"""The requests to the engine, the figures that came back, and which of them are current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.engine.events import Frame, PromptB, Refused, Request, Sample, Token, Want, Written
from llmscope.figure import Figure, Focus
from llmscope.tui.state.context_marker import Marked
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.edits import Edit
    from llmscope.models.provenance import Origin

TOKENS = Want("tokens", "tokens", Focus())
"""Always requested: tokens in the editor, surprisal on the map and status text need it."""
PROMPT_KL = Want("prompt-kl", "model-diff", Focus(mode="kl"))
"""Requested while two models are compared: the row below the prompt needs it."""


@dataclass(frozen=True)
class Shown:
    """A figure on screen, with the want and request it answers and the tokens it belongs to.

    Attributes:
        prompt_b: prompt B, if there is one.
        origin: the provenance of the figure.
        saved: an earlier session computed it; it is shown while the model is being loaded.
    """

    figure: Figure
    want: Want
    tokens: tuple[Token, ...]
    request: Request
    prompt_b: PromptB | None = None
    origin: Origin | None = None
    saved: bool = False

    @property
    def text(self) -> str:
        """Return the text of its tokens."""
        return self.request.text

    @property
    def marked(self) -> Marked:
        """Return the text with its context marked off."""
        return Marked(self.request.text, self.request.context)

    def of(self, state: ViewState) -> bool:
        """Return whether it has the tokens, the adapter and the edits of a view state."""
        request = self.request
        pass_ = (request.adapter, request.edits, request.versus_prompt)
        here = (state.adapter, state.in_force, state.versus_prompt)
        return self.tokens == state.tokens and pass_ == here

    def at(self, state: ViewState) -> bool:
        """Return whether it also fits the place of the cursor, as far as it depends on one."""
        extra, focus = self.figure.extra, state.focus
        here = {"layer": focus.layer, "head": focus.head, "position": focus.position}
        return self.of(state) and all(
            extra.get(name) in (None, value) for name, value in here.items()
        )

    def same_pass(self, other: Shown) -> bool:
        """Return whether both are from one pass: the same text, adapter and edits.

        The first part of a long text is a pass of its own.
        """
        same = self.request.prompt == other.request.prompt
        return same and len(self.tokens) == len(other.tokens)


class FigureStore:
    """Numbers the requests, and matches answers to them.

    A frame is taken only if it answers the text that is on screen now, so that no figure is
    ever drawn with the tokens of another text. A frame of the same text may answer an older
    place of the cursor: it is shown, and counts as stale until the newer frame lands.

    Attributes:
        special_tokens: whether the tokenizer adds its special tokens, except to a templated text.
    """

    def __init__(self, *, special_tokens: bool = True) -> None:
        self.special_tokens = special_tokens
        self._asked: dict[int, Request] = {}
        self._serial = 0
        self._landed = -1
        self._last: Request | None = None
        self._overtaken = self._stopped = False
        self._shown: dict[str, Shown] = {}

    def ask(
        self,
        text: str,
        wants: Sequence[Want],
        *,
        adapter: str | None = None,
        templated: bool = False,
        context: int | None = None,
        edits: tuple[Edit, ...] = (),
        versus_prompt: str | None = None,
        words: tuple[str, str] | None = None,
        written: Written | None = None,
        draw: Sample | None = None,
        moment: tuple[int, int] | None = None,
        translator: str | None = None,
        features: tuple[str, ...] = (),
        two_models: bool = False,
    ) -> Request | None:
        """Return the request for these figures; None if the last request asked for the same.

        Args:
            edits, versus_prompt, words, written, moment, translator, features, two_models: see
                `Request`.
            draw: a token to sample too, even if all figures are there already.
            context: the number of characters before the query, if a context is marked off.
            templated: the text holds its special tokens already, so that none are added.
        """
        last = self._last
        special = self.special_tokens and not templated
        request = Request(
            self._serial + 1,
            text,
            tuple(wants),
            special,
            adapter=adapter,
            context=context,
            edits=edits,
            versus_prompt=versus_prompt,
            words=words,
            written=written,
            draw=draw,
            moment=moment,
            translator=translator,
            features=features,
            two_models=two_models,
        )
        same = last is not None and last.prompt == request.prompt
        if (
            same
            and draw is None
            and last is not None
            and (last.context, last.words) == (context, words)
            and set(last.wants) == set(wants)
        ):
            return None
        if not same:
            self._asked.clear()
        self._serial, self._overtaken, self._stopped = request.serial, False, False
        self._asked[self._serial] = self._last = request
        return request

    def repeat(self) -> None:
        """Forget the last request, which may go unanswered, so that the same can be asked again."""
        self._last = None

    def stop(self) -> None:
        """Ignore what still comes for the last request, which is not made again by itself."""
        self._stopped = True
        self._asked.clear()

    def overtaken(self) -> None:
        """Drop the pending requests: the text changed, and its figures are not requested yet."""
        self._last, self._overtaken, self._stopped = None, True, False
        self._asked.clear()

    def forget(self) -> None:
        """Drop all figures and pending requests: nothing is to be shown."""
        self.overtaken()
        self._shown.clear()
        self._overtaken = False

    def restore(self, saved: Mapping[str, Shown]) -> None:
        """Show the figures of an earlier session until those of this one land."""
        self._shown = dict(saved)

    def take(self, frame: Frame) -> bool:
        """Keep the figures of a frame; return False if it is of another text, or too late."""
        request = self._asked.get(frame.serial)
        if request is None or frame.serial < self._landed:
            return False
        self._landed = frame.serial
        for old in [serial for serial in self._asked if serial < frame.serial]:
            del self._asked[old]
        for want in request.wants:
            figure = frame.figures.get(want.key)
            if figure is not None and not _waits(figure, self._shown.get(want.key)):
                beside = (frame.prompt_b, frame.origin)
                self._shown[want.key] = Shown(figure, want, frame.tokens, request, *beside)
        return True

    def concerns(self, refused: Refused) -> bool:
        """Return whether a refusal is about the text on screen."""
        return refused.serial in self._asked

    def shown(self, key: str) -> Shown | None:
        """Return the figure that a pane shows, current or stale; None if it has none yet."""
        return self._shown.get(key)

    def tokens_of(self, result: Shown) -> Figure | None:
        """Return the tokens figure of the same pass; None while the one kept is of another pass."""
        tokens = self._shown.get("tokens")
        return tokens.figure if tokens is not None and tokens.same_pass(result) else None

    def stale(self, key: str) -> bool:
        """Return whether a pane shows something other than what was requested last."""
        result, last = self._shown.get(key), self._last
        if result is None or last is None:
            return result is not None and self._overtaken
        if result.saved:
            return True
        then, now = ((each.prompt, each.context, each.words) for each in (result.request, last))
        if then != now:
            return True
        return next((want != result.want for want in last.wants if want.key == key), False)

    @property
    def newest(self) -> int:
        """Return the number of the current request; 0 without one."""
        return 0 if self._last is None else self._last.serial

    @property
    def stopped(self) -> bool:
        """Return whether the last request was stopped."""
        return self._stopped

    @property
    def waiting(self) -> bool:
        """Return whether a pane waits for something other than it shows."""
        if self._stopped or self._overtaken:
            return not self._stopped
        return self._last is not None and any(
            want.key not in self._shown or self.stale(want.key) for want in self._last.wants
        )

    @property
    def waits_for_first(self) -> bool:
        """Return whether figures were requested and no pane has had one yet."""
        return not self._shown and self.waiting


def _waits(figure: Figure, before: Shown | None) -> bool:
    """Return whether the figure before stays in place of one that has just begun.

    That is one of a sweep, which has nothing to show yet, and one after a refused figure, since it
    may be refused, too, once all is measured. A figure that is refused itself never waits.
    """
    if before is None or figure.extra.get("progress", (1, 1))[0] != 0:
        return False
    if figure.verdict.status == "refused":  # it has nothing to show later either
        return False
    known = figure.values == figure.values  # NaN is not itself
    return not known.any() or before.figure.verdict.status == "refused"
