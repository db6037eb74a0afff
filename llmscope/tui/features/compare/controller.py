"""The key handlers of Compare: keep or write B, take a pair, write two word lists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.text import VISIBLE, display_text
from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.features.compare.prompt_b import NAME
from llmscope.tui.features.edits import controller
from llmscope.tui.handlers import leave
from llmscope.tui.state.context_marker import marked
from llmscope.tui.state.prompt_pairs import DemoPair, pairs_for
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.tui.app import LlmscopeApp

BETWEEN = "|"
"""The separator of the two word lists."""
WORDS = f"two lists of words, such as: river shore water {BETWEEN} money account loan"


def keep_b(desk: LlmscopeApp) -> None:
    """Set the present prompt as B; if it is B already, remove B."""
    text = marked(desk.text).text
    if not text:
        desk.tell("the prompt is empty", "warning")
    elif desk.scene.versus_prompt == text:
        desk.look_at(desk.scene.against(None))
        desk.tell("there is no prompt B any more")
    else:
        desk.look_at(desk.scene.against(text))
        desk.tell(f"B is: {text}".replace("\n", VISIBLE["\n"]))


def write_b(desk: LlmscopeApp) -> None:
    """Open the Compare workspace and focus the editor of prompt B."""
    desk.overview.show(BY_NAME[NAME])
    desk.prompts.lay_out(desk.size, both=True)
    desk.screen.set_focus(desk.prompts.b)


def take(desk: LlmscopeApp, pair: DemoPair) -> None:
    """Load an example pair of prompts with its word lists."""
    if pair not in pairs_for(desk.source.spec):
        spec = display_text(desk.source.spec, whitespace=True)
        desk.tell(f"{pair.title}: nothing that {spec} could read", "warning")
        return
    desk.overview.show(BY_NAME[NAME])
    scene = hold_words(desk.scene.against(pair.b), pair.words)
    if desk.text == pair.a:
        desk.look_at(scene)
    else:
        # The text change handler requests both prompts at once.
        desk.scene = replace(scene, following=True)
        desk.editor.replace_all(pair.a)
    leave(desk)


def enter(desk: LlmscopeApp) -> None:
    """Take the selected pair; in other panes, switch the selected edit off or on."""
    from llmscope.tui.panes.contrast import ContrastPane

    pane = desk.overview.pane
    picked = pane.picked if isinstance(pane, ContrastPane) else None
    if picked is None:
        controller.toggle(desk)
    else:
        take(desk, picked)


def onward(desk: LlmscopeApp) -> None:
    """Move the focus from the prompt to prompt B if it is shown, otherwise to the figures."""
    if desk.focused is desk.editor and desk.prompts.both:
        desk.screen.set_focus(desk.prompts.b)
    else:
        leave(desk)


def write_words(desk: LlmscopeApp) -> None:
    """Open the dialog for the two word lists to compare."""
    desk.push_screen(WordsScreen(desk))


def hold_words(scene: ViewState, words: tuple[str, str] | None) -> ViewState:
    """Return the view state with two word lists, and the word pane's view set to them."""
    from llmscope.tui.panes.contrast import WordPane

    turns = {**dict(scene.turns), WordPane.key: WordPane.views.index("lens")}
    return replace(scene, words=words, turns=tuple(turns.items()))


class WordsScreen(LineScreen):
    """One line at the bottom: enter applies two word lists, esc closes."""

    def __init__(self, desk: LlmscopeApp) -> None:
        held = desk.scene.words
        text = f" {BETWEEN} ".join(held) if held else ""
        super().__init__(f"{WORDS} · {BETWEEN} alone: those that A and B say next", text)
        self._desk = desk

    def submit(self, event: Input.Submitted) -> None:
        """Apply the lists, or show what is missing."""
        lists = [" ".join(part.replace(",", " ").split()) for part in event.value.split(BETWEEN)]
        if len(lists) != 2 or bool(lists[0]) != bool(lists[1]):
            self.say(WORDS)
            return
        desk = self._desk
        self.action_leave()
        desk.overview.show(BY_NAME[NAME])
        desk.look_at(hold_words(desk.scene, (lists[0], lists[1]) if lists[0] else None))
