"""Generation in the editor: one token or continuously, undo, and branches.

A token is requested together with the figures of the text before it, and inserted into the editor
when it arrives. In continuous generation figures are drawn as fast as they are computed, and
tokens in between without any. Any key stops it, and is then handled as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from textual.timer import Timer

from llmscope.engine.events import Sample, Sampled, Written
from llmscope.models.sampler import Sampler
from llmscope.support.text import display_text, shared_length
from llmscope.tui.state.context_marker import Marked, marked
from llmscope.tui.state.generation_tree import Branch, Branches, Span, moved

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo
    from llmscope.tui.host import Host

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
SAMPLED, LENGTH = 3, 32
"""Number of branches that `resample` samples, and the most tokens of each."""
NONE_HERE = (
    "nothing was generated here: {write-token} generates a token, {write-on} goes on until a key"
)


class Generation:
    """The state of generation in the editor.

    Attributes:
        branches: what was generated after a base text, if the editor holds one of its branches;
            otherwise None.
        marks: the spans of the editor's text that a model generated.
    """

    def __init__(self) -> None:
        self.branches: Branches | None = None
        self.marks: tuple[Span, ...] = ()
        self._left = self._more = 0
        self._known: dict[str, Branches] = {}
        self._sampler: Sampler | None = None
        self._asked: Sample | None = None
        self._arrived: Sampled | None = None
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

    @property
    def groups(self) -> tuple[Branches, ...]:
        """What was generated after each text, the latest last."""
        return tuple(self._known.values())

    def restore(self, groups: Sequence[Branches], marks: Sequence[Span], text: str) -> None:
        """Restore what was generated in an earlier session.

        Args:
            groups: what was generated after each text, the latest last.
            marks: the spans of the text that a model generated.
            text: the text of the editor.
        """
        self._known = {group.base: group for group in groups[-KNOWN:]}
        self.branches = self._group_of(text)
        inside = tuple((start, min(end, len(text))) for start, end in marks)
        known = tuple(span for span in inside if span[0] < span[1])
        self.marks = known if self.branches is None else self.branches.marks

    def _group_of(self, text: str) -> Branches | None:
        """Return the branches one of which is a text, with most generated tokens; None: none is."""
        groups = (group.at_text(text) for group in reversed(self._known.values()))
        matching = [group for group in groups if group is not None]
        return max(matching, key=lambda group: group.count, default=None)

    def reading(self, text: str) -> tuple[Marked, Written | None, str]:
        """Return the text as the engine gets it, its generated tokens, and the text before them."""
        # The editor may be one token ahead of the app's state.
        group = None if self.branches is None else self.branches.at_text(text)
        if group is None or not group.count:
            return marked(text), None, text
        before = marked(group.base)
        prompt = Marked(before.text + group.generated_text, before.cut)
        return prompt, Written(len(before.text), group.ids), group.base

    def step(self, host: Host, sampler: Sampler | None = None) -> None:
        """Generate one token with `sampler`; None is the sampler of the view state."""
        if self.runs:
            self._left = 1
        elif self.writes:
            self._left += 1
        else:
            self._begin(host, 1, sampler)

    def run(self, host: Host) -> None:
        """Generate until a key or the end of the text; a second call stops."""
        if self.runs:
            self.stop(host)
        else:
            self._begin(host, ENDLESS, None)

    def stop(self, host: Host) -> None:
        """Stop generating, and discard a token that is under way."""
        if self._timer is not None:
            self._timer.stop()
        wrote, self._left, self._more = self._left, 0, 0
        self._asked = self._arrived = self._timer = None
        if wrote:
            host.ask()  # the frame, if it was not requested yet
            host.present()

    def stop_on_key(self, host: Host, key: str) -> None:
        """Stop generating if `key` is not a key of `WRITING`."""
        if not self.writes:
            return
        from llmscope.tui.actions.types import is_text

        keymap = host.user.keymap
        keys = {key_name for name in WRITING for key_name in keymap.keys(keymap.action(name))}
        if key not in keys or (host.in_prompt and is_text(key)):
            self.stop(host)

    def undo(self, host: Host) -> None:
        """Remove the last generated token."""
        group = self._here(host)
        if group is not None and group.count:
            self._set(host, group.back())
        else:
            host.tell(host.user.keymap.filled(NONE_HERE))

    def fork(self, host: Host) -> None:
        """Begin a new branch after the token under the cursor; the present branch is kept.

        With the cursor on the last token, branch where the generation began, or here if some of its
        tokens were taken back.
        """
        group = self._here(host)
        if group is None or not group.branch.ids:
            host.tell(host.user.keymap.filled(NONE_HERE))
            return
        state, count = host.state, group.count
        behind = len(state.tokens) - 1 - state.focus.position
        if not state.following and behind > 0 and not host.figures.waiting:
            count -= behind
        elif count == len(group.branch.ids) and group.branch.fork != count:
            count = 0
        if count < 0:
            host.tell("the cursor is on a token that the model did not write", "warning")
            return
        forked = group.with_new_branch(count)
        self._set(host, forked)
        notice = "{write-token} writes another; {branch-previous} and {branch-next} go through all"
        host.tell(f"branch {forked.at + 1}: {host.user.keymap.filled(notice)}")

    def resample(self, host: Host) -> None:
        """Cut the text before the cursor's token, and sample `SAMPLED` branches from there.

        The text that stood there is kept as the first branch.
        """
        state = host.state
        if host.models.busy(host) or state.info is None:
            return
        tokens = marked(host.text).in_editor(state.tokens)[state.focus.position :]
        start = tokens[0].start if tokens else 0
        if host.editor.text != host.text or host.figures.waiting or not start:
            host.tell("there is nothing before this token to go on from", "warning")
            return
        here = Branch()
        for token in tokens:
            here = here.with_token(token.id, host.text[start : token.end])
        spans = tuple((a, min(b, start)) for a, b in self.marks if a < start)
        group = Branches(host.text[:start], spans, (here,), 0, len(here.ids))
        if group.text != host.text:
            host.tell("the text after this token is not made of its tokens alone", "warning")
            return
        self.stop(host)
        self._more, self._sampler, self._run = SAMPLED, None, None
        self._next_branch(host, group)

    def _next_branch(self, host: Host, group: Branches) -> None:
        """Begin the next of the branches that are to be sampled."""
        self._more -= 1
        self._left, self._run = LENGTH, None
        self._set(host, group.with_new_branch(0))

    def turn(self, host: Host, by: int) -> None:
        """Switch to the branch `by` places further."""
        group = self._here(host)
        if group is None or len(group.kept) < 2:
            host.tell(host.user.keymap.filled("there is one branch alone: {fork} begins another"))
            return
        self._set(host, group.with_next_branch(by))

    def read(self, host: Host, old: str) -> None:
        """Update the branches and marks after the text changed from `old`."""
        text, group = host.text, self.branches
        if group is None or group.text != text:
            self.branches = self._group_of(text)
            self.stop(host)
        self.marks = moved(self.marks, old, text) if self.branches is None else self.branches.marks

    def goes_on(self, host: Host) -> bool:
        """Schedule the request for the next token if more are to come; return whether that is so.

        The request is sent after the screen is drawn, so that fast tokens leave time for the screen
        and the keys.
        """
        if self._left:
            host.figures.overtaken()
            host.call_after_refresh(self._go_on, host)
        return self._left > 0

    def _go_on(self, host: Host) -> None:
        if self._left and self._asked is None and self._arrived is None:
            self._ask(host)
            if self._asked is None:
                host.ask()

    def land(self, host: Host, drawn: Sampled) -> None:
        """Insert a token that arrived, or stop with a notice if generation ends here."""
        if self._asked is None or drawn.request.draw is not self._asked:
            return
        self._asked = None
        ending = _ending(drawn)
        if ending and drawn.stops and self._more and self.branches is not None:
            self._next_branch(host, self.branches)
            return
        if ending:
            self.stop(host)
            host.tell(ending)
            return
        late = monotonic() - self._drawn_at > PACE
        if self.runs and late and host.figures.waiting and not host.bandwidth.pause:
            self._arrived = drawn
            self._timer = host.set_timer(WAIT, lambda: self.landed(host))
        else:
            self._take(host, drawn)

    def landed(self, host: Host) -> None:
        """Insert the token that waited for the frame of the text, which was drawn now."""
        self._drawn_at = monotonic()
        if self._timer is not None:
            self._timer.stop()
        drawn, self._arrived, self._timer = self._arrived, None, None
        if drawn is not None:
            self._take(host, drawn)

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

    def _begin(self, host: Host, count: int, sampler: Sampler | None) -> None:
        if host.models.busy(host):
            return
        if host.state.info is None:
            host.tell("the model is not there yet", "warning")
        elif not host.text:
            host.tell("type something first: the model generates what comes after it", "warning")
        elif host.editor.text == host.text:
            self._left, self._sampler, self._run = count, sampler, None
            self._ask(host)
            host.present()

    def _ask(self, host: Host) -> None:
        group = self.branches or Branches(host.text, self.marks)
        sampler = self._sampler or host.state.sampler
        # An explicit sampler requests the token that the figure shows, so no rules are applied.
        draw = Sample(sampler, group.branch.stream, group.tried_tokens, rules=self._sampler is None)
        self._asked = draw if host.ask(draw) else None
        if self._asked is None:
            self._left = 0

    def _take(self, host: Host, drawn: Sampled) -> None:
        """Insert a token into the editor."""
        if host.editor.text != host.text:  # a keystroke came first and wins
            self.stop(host)
            return
        group = self.branches or Branches(host.text, self.marks)
        self._left -= 1
        if host.grid.workspace.name == WORKSPACE:
            host.state = host.state.walk_to(0, None)
        group = group.with_token(drawn.token, drawn.text)
        if not self._left and self._more:
            self._next_branch(host, group)
            return
        self._set(host, group, joined=self._run)
        self._run = host.editor.last_step if self._left else None

    def _here(self, host: Host) -> Branches | None:
        return self.branches if host.editor.text == host.text else None

    def _set(self, host: Host, group: Branches, joined: object = None) -> None:
        """Put a branch's text into the editor, extending the undo step `joined` if not None."""
        self.branches = group
        self._known.pop(group.base, None)
        self._known[group.base] = group
        while len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        shared = shared_length(host.editor.text, group.text)
        if host.editor.text != group.text:
            host.editor.rewrite(shared, group.text[shared:], joined=joined)
        elif not self.goes_on(host):  # a token without text still changes the prompt
            host.ask()


def _ending(drawn: Sampled) -> str:
    """Return why generation ends at this token; empty if the token is to be inserted."""
    if drawn.error:
        return drawn.error
    if drawn.stops:
        return f"the model ends here: {display_text(drawn.label, whitespace=True)}"
    return "the context is full: no token can follow" if drawn.full else ""


def write(host: Host) -> None:
    """Generate a token; in the walkthrough the likeliest one, which it has just shown."""
    if host.grid.workspace.name == WORKSPACE:
        from llmscope.tui.features.walkthrough.controller import write as write_it

        write_it(host)
    else:
        host.generation.step(host)
