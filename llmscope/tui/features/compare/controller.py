"""The key handlers of a second prompt: keep or write B, take a pair, write two word lists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.support.text import VISIBLE, display_text
from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.features.compare.prompt_b import NAME
from llmscope.tui.features.program import leave
from llmscope.tui.state.context_marker import marked
from llmscope.tui.state.prompt_pairs import DemoPair, pairs, pairs_for
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.tui.host import Host

BETWEEN = "|"
"""The separator of the two word lists."""
WORDS = f"two lists of words, such as: river shore water {BETWEEN} money account loan"


def keep_b(host: Host) -> None:
    """Set the present prompt as B; if it is B already, remove B."""
    text = marked(host.text).text
    if not text:
        host.tell("the prompt is empty", "warning")
    elif host.state.versus_prompt == text:
        host.look_at(host.state.against(None))
        host.tell("there is no prompt B any more")
    else:
        host.look_at(host.state.against(text))
        host.tell(f"B is: {text}".replace("\n", VISIBLE["\n"]))


def write_b(host: Host) -> None:
    """Open the tab A and B for two prompts, and focus the editor of prompt B."""
    host.grid.show(BY_NAME[NAME])
    host.prompts.lay_out(host.size, both=True)
    host.screen.set_focus(host.prompts.b)


def take(host: Host, pair: DemoPair, *, stay: bool = False) -> None:
    """Load an example pair of prompts with its word lists.

    Args:
        host: the app.
        pair: the pair.
        stay: stay in the workspace on screen instead of showing that of two prompts.
    """
    if pair not in pairs_for(host.source.spec):
        spec = display_text(host.source.spec, whitespace=True)
        host.tell(f"{pair.title}: nothing that {spec} could read", "warning")
        return
    if not stay:
        host.grid.show(BY_NAME[NAME])
    state = hold_words(host.state.against(pair.b), pair.words)
    if host.text == pair.a:
        host.look_at(state)
    else:
        # The text change handler requests both prompts at once.
        host.state = replace(state, following=True)
        host.editor.replace_all(pair.a)
    leave(host)


def take_example(host: Host, name: str) -> None:
    """Load an example pair by its name."""
    take(host, next(pair for pair in pairs() if pair.name == name))


def onward(host: Host) -> None:
    """Move the focus from the prompt to prompt B if it is shown, otherwise to the figures."""
    if host.focused is host.editor and host.prompts.both:
        host.screen.set_focus(host.prompts.b)
    else:
        leave(host)


def write_words(host: Host) -> None:
    """Open the dialog for the two word lists to compare."""
    host.push_screen(WordsScreen(host))


def hold_words(state: ViewState, words: tuple[str, str] | None) -> ViewState:
    """Return the view state with two word lists, and the word pane's view set to them."""
    from llmscope.tui.panes.contrast import WordPane

    turns = {**dict(state.turns), WordPane.key: WordPane.views.index("lens")}
    return replace(state, words=words, turns=tuple(turns.items()))


class WordsScreen(LineScreen):
    """One line at the bottom: enter applies two word lists, esc closes."""

    def __init__(self, host: Host) -> None:
        lists = host.state.words
        text = f" {BETWEEN} ".join(lists) if lists else ""
        super().__init__(f"{WORDS} · {BETWEEN} alone: those that A and B say next", text)
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Apply the lists, or show what is missing."""
        lists = [" ".join(part.replace(",", " ").split()) for part in event.value.split(BETWEEN)]
        if len(lists) != 2 or bool(lists[0]) != bool(lists[1]):
            self.say(WORDS)
            return
        host = self._host
        self.action_leave()
        host.grid.show(BY_NAME[NAME])
        host.look_at(hold_words(host.state, (lists[0], lists[1]) if lists[0] else None))
