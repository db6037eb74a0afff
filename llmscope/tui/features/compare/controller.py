"""What keys do about two prompts: keep or write B, take a pair, write two lists of words."""

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
    from llmscope.tui.desk import Desk

BETWEEN = "|"
"""What stands between two lists of words."""
WORDS = f"two lists of words, such as: river shore water {BETWEEN} money account loan"


def keep_b(desk: Desk) -> None:
    """Keep the present prompt as B; where it is B already, there is none any more."""
    text = marked(desk.text).text
    if not text:
        desk.tell("the prompt is empty", "warning")
    elif desk.scene.versus_prompt == text:
        desk.look_at(desk.scene.against(None))
        desk.tell("there is no prompt B any more")
    else:
        desk.look_at(desk.scene.against(text))
        desk.tell(f"B is: {text}".replace("\n", VISIBLE["\n"]))


def write_b(desk: Desk) -> None:
    """Go to the editor of prompt B, in the workspace that has it."""
    desk.overview.show(BY_NAME[NAME])
    desk.prompts.lay_out(desk.size, both=True)
    desk.screen.set_focus(desk.prompts.b)


def take(desk: Desk, pair: DemoPair) -> None:
    """Begin with a pair of prompts and their words."""
    if pair not in pairs_for(desk.source.spec):
        spec = display_text(desk.source.spec, whitespace=True)
        desk.tell(f"{pair.title}: nothing that {spec} could read", "warning")
        return
    desk.overview.show(BY_NAME[NAME])
    scene = hold_words(desk.scene.against(pair.b), pair.words)
    if desk.text == pair.a:
        desk.look_at(scene)
    else:
        # The change of the text asks for both at once.
        desk.scene = replace(scene, following=True)
        desk.editor.replace_all(pair.a)
    leave(desk)


def enter(desk: Desk) -> None:
    """Take the pair that is chosen; in the list of edits, switch one off or on."""
    from llmscope.tui.panes.contrast import ContrastPane

    pane = desk.overview.pane
    picked = pane.picked if isinstance(pane, ContrastPane) else None
    if picked is None:
        controller.toggle(desk)
    else:
        take(desk, picked)


def onward(desk: Desk) -> None:
    """From the prompt to prompt B where that is shown, and from there to the figures."""
    if desk.focused is desk.editor and desk.prompts.both:
        desk.screen.set_focus(desk.prompts.b)
    else:
        leave(desk)


def write_words(desk: Desk) -> None:
    """Write the two lists of words that are held against each other."""
    desk.push_screen(WordsScreen(desk))


def hold_words(scene: ViewState, words: tuple[str, str] | None) -> ViewState:
    """The scene with two lists of words, and the view of the word turned to them."""
    from llmscope.tui.panes.contrast import WordPane

    turns = {**dict(scene.turns), WordPane.key: WordPane.views.index("lens")}
    return replace(scene, words=words, turns=tuple(turns.items()))


class WordsScreen(LineScreen):
    """One line at the bottom: enter takes two lists of words, esc leaves."""

    def __init__(self, desk: Desk) -> None:
        held = desk.scene.words
        text = f" {BETWEEN} ".join(held) if held else ""
        super().__init__(f"{WORDS} · {BETWEEN} alone: those that A and B say next", text)
        self._desk = desk

    def submit(self, event: Input.Submitted) -> None:
        """Take them, or say what is missing."""
        lists = [" ".join(part.replace(",", " ").split()) for part in event.value.split(BETWEEN)]
        if len(lists) != 2 or bool(lists[0]) != bool(lists[1]):
            self.say(WORDS)
            return
        desk = self._desk
        self.action_leave()
        desk.overview.show(BY_NAME[NAME])
        desk.look_at(hold_words(desk.scene, (lists[0], lists[1]) if lists[0] else None))
