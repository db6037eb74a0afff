"""Generation in the editor: one token or continuously, undo, and branches.

A token is requested together with the figures of the text before it, and inserted into the editor
when it arrives. In continuous generation figures are drawn as fast as they are computed, and
tokens in between without any. Any key stops it, and is then handled as usual.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from textual.timer import Timer

from llmscope.engine.events import Sample, Sampled, Written
from llmscope.sampler import Sampler
from llmscope.text import display_text, shared_length
from llmscope.tui.state.context_marker import Marked, marked
from llmscope.tui.state.generation_tree import Branches, Span, moved

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo
    from llmscope.tui.app import LlmscopeApp

WORKSPACE = "walkthrough"
"""The workspace in which each generated token restarts the walkthrough."""
WRITING = ("write-token", "write-on")
"""The actions whose keys do not stop generation."""
PACE = 0.2
"""Seconds between two frames during continuous generation."""
WAIT = 0.6
"""Maximum time in seconds that a token waits for the frame of the text before it."""
KNOWN = 8
"""Maximum number of texts whose branches are remembered."""
ENDLESS = 1 << 30
NONE_HERE = "the model wrote nothing here: {write-token} writes a token, {write-on} writes on"


class Generating:
    """The state of generation in the editor.

    Attributes:
        branches: what was generated after a base text, if the editor holds one of its branches;
            otherwise None.
        marks: the spans of the editor's text that a model generated.
    """

    def __init__(self) -> None:
        self.branches: Branches | None = None
        self.marks: tuple[Span, ...] = ()
        self._left = 0
        self._known: dict[str, Branches] = {}
        self._sampler: Sampler | None = None
        self._asked: Sample | None = None
        self._hand: Sampled | None = None
        self._timer: Timer | None = None
        self._drawn_at = 0.0
        self._run: object = None

    @property
    def writes(self) -> bool:
        """Whether a token is being generated."""
        return self._left > 0

    @property
    def pending(self) -> Sample | None:
        """The last requested token if it has not arrived, to be requested with everything else."""
        return self._asked

    @property
    def runs(self) -> bool:
        """Whether generation is continuous, until a key."""
        return self._left > 1

    def reading(self, text: str) -> tuple[Marked, Written | None, str]:
        """Return the text as the engine gets it, its generated tokens, and the text before them."""
        # The editor may be one token ahead of the app's state.
        group = None if self.branches is None else self.branches.found(text)
        if group is None or not group.count:
            return marked(text), None, text
        before = marked(group.base)
        said = Marked(before.text + group.said, before.cut)
        return said, Written(len(before.text), group.ids), group.base

    def step(self, desk: LlmscopeApp, sampler: Sampler | None = None) -> None:
        """Generate one token with `sampler`; None is the sampler of the view state."""
        if self.runs:
            self._left = 1
        elif self.writes:
            self._left += 1
        else:
            self._begin(desk, 1, sampler)

    def run(self, desk: LlmscopeApp) -> None:
        """Generate until a key or the end of the text; a second call stops."""
        if self.runs:
            self.stop(desk)
        else:
            self._begin(desk, ENDLESS, None)

    def stop(self, desk: LlmscopeApp) -> None:
        """Stop generating, and discard a token that is under way."""
        if self._timer is not None:
            self._timer.stop()
        wrote, self._left = self._left, 0
        self._asked = self._hand = self._timer = None
        if wrote:
            desk.ask()  # the frame, if it was not requested yet
            desk.present()

    def heed(self, desk: LlmscopeApp, key: str) -> None:
        """Stop generating if `key` is not a key of `WRITING`."""
        if not self.writes:
            return
        from llmscope.tui.actions.registry import BY_NAME
        from llmscope.tui.actions.types import is_text

        keys = {own for name in WRITING for own in desk.own.keymap.keys(BY_NAME[name])}
        if key not in keys or (desk.in_prompt and is_text(key)):
            self.stop(desk)

    def undo(self, desk: LlmscopeApp) -> None:
        """Remove the last generated token."""
        group = self._here(desk)
        if group is not None and group.count:
            self._set(desk, group.back())
        else:
            desk.tell(desk.own.keymap.filled(NONE_HERE))

    def fork(self, desk: LlmscopeApp) -> None:
        """Begin a new branch after the token under the cursor; the present branch is kept.

        With the cursor on the last token, branch where the generation began, or here if some of its
        tokens were taken back.
        """
        group = self._here(desk)
        if group is None or not group.branch.ids:
            desk.tell(desk.own.keymap.filled(NONE_HERE))
            return
        scene, count = desk.scene, group.count
        behind = len(scene.tokens) - 1 - scene.focus.position
        if not scene.following and behind > 0 and not desk.ledger.waiting:
            count -= behind
        elif count == len(group.branch.ids) and group.branch.fork != count:
            count = 0
        if count < 0:
            desk.tell("the cursor is on a token that the model did not write", "warning")
            return
        forked = group.forked(count)
        self._set(desk, forked)
        said = "{write-token} writes another; {branch-previous} and {branch-next} go through all"
        desk.tell(f"branch {forked.at + 1}: {desk.own.keymap.filled(said)}")

    def turn(self, desk: LlmscopeApp, by: int) -> None:
        """Switch to the branch `by` places further."""
        group = self._here(desk)
        if group is None or len(group.kept) < 2:
            desk.tell(desk.own.keymap.filled("there is one branch alone: {fork} begins another"))
            return
        self._set(desk, group.turned(by))

    def read(self, desk: LlmscopeApp, old: str) -> None:
        """Update the branches and marks after the text changed from `old`."""
        text, group = desk.text, self.branches
        if group is None or group.text != text:
            known = (one.found(text) for one in reversed(self._known.values()))
            found = [one for one in known if one is not None]
            self.branches = max(found, key=lambda one: one.count, default=None)
            self.stop(desk)
        self.marks = moved(self.marks, old, text) if self.branches is None else self.branches.marks

    def goes_on(self, desk: LlmscopeApp) -> bool:
        """Schedule the request for the next token if more are to come; return whether that is so.

        The request is sent after the screen is drawn, so that fast tokens leave time for the screen
        and the keys.
        """
        if self._left:
            desk.ledger.overtaken()
            desk.call_after_refresh(self._go_on, desk)
        return self._left > 0

    def _go_on(self, desk: LlmscopeApp) -> None:
        if self._left and self._asked is None and self._hand is None:
            self._ask(desk)
            if self._asked is None:
                desk.ask()

    def land(self, desk: LlmscopeApp, drawn: Sampled) -> None:
        """Insert a token that arrived, or stop with a notice if generation ends here."""
        if self._asked is None or drawn.request.draw is not self._asked:
            return
        self._asked = None
        said = _ending(drawn)
        if said:
            self.stop(desk)
            desk.tell(said)
            return
        late = monotonic() - self._drawn_at > PACE
        if self.runs and late and desk.ledger.waiting and not desk.bandwidth.pause:
            self._hand = drawn
            self._timer = desk.set_timer(WAIT, lambda: self.landed(desk))
        else:
            self._take(desk, drawn)

    def landed(self, desk: LlmscopeApp) -> None:
        """Insert the token that waited for the frame of the text, which was drawn now."""
        self._drawn_at = monotonic()
        if self._timer is not None:
            self._timer.stop()
        drawn, self._hand, self._timer = self._hand, None, None
        if drawn is not None:
            self._take(desk, drawn)

    def note(self, info: ModelInfo | None = None) -> str:
        """Return the remarks on generation for the editor's title.

        Args:
            info: the model's info; None while no model is loaded.
        """
        group, parts = self.branches, []
        if info is not None and info.rules.applied and (group is not None or self.writes):
            parts.append(display_text(f"by {', '.join(info.rules.applied)}"))
        if group is not None and len(group.kept) > 1:
            parts.append(f"branch {group.at + 1} of {len(group.kept)}")
        if self.runs:
            parts.append("writing, any key stops")
        return " · ".join(parts)

    def _begin(self, desk: LlmscopeApp, count: int, sampler: Sampler | None) -> None:
        from llmscope.tui.features.models.model_switch import busy

        if busy(desk):
            return
        if desk.scene.info is None:
            desk.tell("the model is not there yet", "warning")
        elif not desk.text:
            desk.tell("type something first: the model writes on after it", "warning")
        elif desk.editor.text == desk.text:
            self._left, self._sampler, self._run = count, sampler, None
            self._ask(desk)
            desk.present()

    def _ask(self, desk: LlmscopeApp) -> None:
        group = self.branches or Branches(desk.text, self.marks)
        sampler = self._sampler or desk.scene.sampler
        # An explicit sampler requests the token that the figure shows, so no rules are applied.
        draw = Sample(sampler, group.branch.stream, group.tried, rules=self._sampler is None)
        self._asked = draw if desk.ask(draw) else None
        if self._asked is None:
            self._left = 0

    def _take(self, desk: LlmscopeApp, drawn: Sampled) -> None:
        """Insert a token into the editor."""
        if desk.editor.text != desk.text:  # a keystroke came first and wins
            self.stop(desk)
            return
        group = self.branches or Branches(desk.text, self.marks)
        self._left -= 1
        if desk.overview.workspace.name == WORKSPACE:
            desk.scene = desk.scene.walk_to(0, None)
        self._set(desk, group.wrote(drawn.token, drawn.text), joined=self._run)
        self._run = desk.editor.last_step if self._left else None

    def _here(self, desk: LlmscopeApp) -> Branches | None:
        return self.branches if desk.editor.text == desk.text else None

    def _set(self, desk: LlmscopeApp, group: Branches, joined: object = None) -> None:
        """Put a branch's text into the editor, extending the undo step `joined` if not None."""
        self.branches = group
        self._known.pop(group.base, None)
        self._known[group.base] = group
        while len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        shared = shared_length(desk.editor.text, group.text)
        if desk.editor.text != group.text:
            desk.editor.rewrite(shared, group.text[shared:], joined=joined)
        elif not self.goes_on(desk):  # a token without text still changes the prompt
            desk.ask()


def _ending(drawn: Sampled) -> str:
    """Return why generation ends at this token; empty if the token is to be inserted."""
    if drawn.error:
        return drawn.error
    if drawn.stops:
        return f"the model ends here: {display_text(drawn.label, whitespace=True)}"
    return "the context is full: no token can follow" if drawn.full else ""


def write(desk: LlmscopeApp) -> None:
    """Generate a token; in the walkthrough the likeliest one, which it has just shown."""
    if desk.overview.workspace.name == WORKSPACE:
        from llmscope.tui.features.walkthrough.controller import write as write_it

        write_it(desk)
    else:
        desk.generating.step(desk)


def write_on(desk: LlmscopeApp) -> None:
    """Generate until a key."""
    desk.generating.run(desk)


def take_back(desk: LlmscopeApp) -> None:
    """Remove the last generated token."""
    desk.generating.undo(desk)


def fork(desk: LlmscopeApp) -> None:
    """Begin a new branch."""
    desk.generating.fork(desk)


def turn(desk: LlmscopeApp, by: int) -> None:
    """Switch to the branch `by` places further."""
    desk.generating.turn(desk, by)
