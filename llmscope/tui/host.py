"""What the features of the screen need of the app: its state, its widgets, and its methods."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.content import Content

from llmscope.support.text import display_line, display_text

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.style import Style

    from llmscope.draw import RenderOptions
    from llmscope.engine.events import LoadFailed, Sample
    from llmscope.figure import Focus
    from llmscope.tui.engine_client import EngineLike
    from llmscope.tui.features.compare.prompt_b import PromptBController
    from llmscope.tui.features.context.controller import ContextController
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.features.dictionaries.choice import DictionaryChoice
    from llmscope.tui.features.dictionaries.search import FeatureSearch
    from llmscope.tui.features.find import FindLine
    from llmscope.tui.features.generation.generation import Generation
    from llmscope.tui.features.models.lens_choice import LensChoice
    from llmscope.tui.features.models.model_switch import ModelSwitch
    from llmscope.tui.features.prompt_list import PromptListController
    from llmscope.tui.features.save.dialog import Save
    from llmscope.tui.features.undo import UndoController
    from llmscope.tui.features.walkthrough.controller import WalkthroughPlayer
    from llmscope.tui.modes.mode import LiveMode
    from llmscope.tui.pane_grid import PaneGrid
    from llmscope.tui.prompt.chat_template import ChatTemplate
    from llmscope.tui.prompt.editor import PromptEditor
    from llmscope.tui.prompt.prompt_box import PromptEditors
    from llmscope.tui.request_scheduler import RequestScheduler
    from llmscope.tui.state.figure_store import FigureStore
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.terminal.bandwidth import Bandwidth
    from llmscope.tui.theme.textual_theme import TextStyles
    from llmscope.tui.user_state import UserState
    from llmscope.tui.widgets.header import ScreenHeader
    from llmscope.tui.widgets.notices import Notice
    from llmscope.tui.widgets.placeholder import Placeholder
    from llmscope.tui.widgets.status_bar import KeyLine, StatusText
    from llmscope.tui.widgets.tab_bar import TabBar
    from llmscope.tui.widgets.tour_line import TourLine


# Imported when they are first used: the first paint needs none of them.


def _make_generation(_: FeatureControllers) -> Generation:
    from llmscope.tui.features.generation.generation import Generation

    return Generation()


def _make_models(_: FeatureControllers) -> ModelSwitch:
    from llmscope.tui.features.models.model_switch import ModelSwitch

    return ModelSwitch()


def _make_prompt_list(_: FeatureControllers) -> PromptListController:
    from llmscope.tui.features.prompt_list import PromptListController

    return PromptListController()


def _make_find(_: BaseWidgets) -> FindLine:
    from llmscope.tui.features.find import FindLine

    return FindLine()


def _make_state(screen: ScreenState) -> ViewState:
    from llmscope.tui.state.view_state import ViewState

    focus = screen.opening_focus
    if focus is None and screen.user.first_look:
        from llmscope.figure import Focus

        focus = Focus(**screen.user.first_look)
    return screen.user.onto(ViewState.opening(focus))


def _make_figures(screen: ScreenState) -> FigureStore:
    from llmscope.tui.state.figure_store import FigureStore

    return FigureStore(special_tokens=screen.special_tokens)


class FeatureControllers:
    """The controllers of the features, each with its state."""

    chat: ChatTemplate
    """The chat template."""
    comparison: PromptBController
    """The controller of prompt B."""
    context: ContextController
    """The controller of contexts that become weight updates."""
    lenses: LensChoice
    """The choice of a learned lens."""
    dictionaries: DictionaryChoice
    """The choice of dictionaries of features."""
    feature_search: FeatureSearch
    """The search for a feature."""
    walkthrough: WalkthroughPlayer
    """The walkthrough's history and autoplay."""
    undo: UndoController
    """Undo and redo, of the prompt and of the edits."""
    generation: cached_property[Generation] = cached_property(_make_generation)
    """The state of generation: what the model wrote, and whether it is writing."""
    models: cached_property[ModelSwitch] = cached_property(_make_models)
    """The state of a switch to another model."""
    prompt_list: cached_property[PromptListController] = cached_property(_make_prompt_list)
    """The list of a file of prompts."""


class BaseWidgets:
    """The widgets of the base screen."""

    header: ScreenHeader
    """The line at the top."""
    prompts: PromptEditors
    """The editors of both prompts."""
    editor: PromptEditor
    """The editor of prompt A."""
    tour_line: TourLine | None
    """The line that offers and takes the tour; None as long as neither was asked for."""
    tabs: TabBar
    """The line with the names of the workspaces."""
    grid: PaneGrid
    """The panes."""
    placeholder: Placeholder
    """What stands in the place of the panes while there are no figures."""
    status: StatusText
    """The line that describes what is under the cursor."""
    key_line: KeyLine
    """The line of keys."""
    find: cached_property[FindLine] = cached_property(_make_find)
    """The input that replaces the status text while the user searches for a token."""


class ScreenState:
    """What the screen shows and how: nothing here is a widget."""

    opening_focus: Focus | None
    """Where the cursor starts; None leaves it to the user's settings."""
    special_tokens: bool
    """Whether the tokenizer adds its special tokens."""
    text: str
    """The text of the editor."""
    source: ModelSource
    """How the model was opened, for the command that reproduces the screen."""
    user: UserState
    """The user's settings and stored state."""
    mode: LiveMode
    """What the screen can do."""
    engine: EngineLike
    """The engine, which runs the model in a thread of its own."""
    requests: RequestScheduler
    """What is asked of the engine, and when."""
    look: RenderOptions
    """The theme, colours and characters to draw with."""
    text_styles: TextStyles
    """The theme's styles of text."""
    bandwidth: Bandwidth
    """What may be sent to the terminal."""
    messages: deque[Notice]
    """The notices of this session, the newest last."""
    state: cached_property[ViewState] = cached_property(_make_state)
    """The model, tokens, cursor and edits; each change makes another view state."""
    figures: cached_property[FigureStore] = cached_property(_make_figures)
    """The store of requests and their figures."""
    saves: list[Save]
    """The files to write once the origin of their numbers is known."""


class Host(FeatureControllers, BaseWidgets, ScreenState, App[int]):
    """The app as its features see it."""

    @property
    def in_prompt(self) -> bool:
        """Return whether keys type text into prompt A or prompt B."""
        return self.focused in (self.prompts.a, self.prompts.b)

    def may(self, action: str) -> bool:
        """Return whether an action may run that reaches beyond the screen or never ends by itself.

        On a terminal all of them may; the app of a screenshot forbids some.
        """
        return True

    def tell(self, text: str, severity: str = "information", *, once: bool = False) -> None:
        """Show a notice that disappears by itself.

        Args:
            text: the notice.
            severity: information, warning or error.
            once: do nothing while the same notice is still shown.
        """
        if once and any(
            notification.message == display_text(text) for notification in self._notifications
        ):
            return
        level = severity if severity in ("warning", "error") else "information"
        self.notify(display_text(text), severity=level, markup=False)  # type: ignore[arg-type]

    def note(self, text: str, style: Style) -> None:
        """Show a note about the prompt on the editor's border."""
        line = display_line(text)
        self.editor.say(Content.assemble((line, style)) if line else None)

    def action_act(self, name: str) -> None:
        """Run an action of the registry, unless the mode has none of that name."""

    def set_render_options(self, look: RenderOptions) -> None:
        """Apply another theme, other colours or characters."""

    def begin_tour(self) -> None:
        """Show the line of the tour, with its first step."""

    def holds(self, kind: type[Screen[Any]]) -> bool:
        """Return whether a dialog of a kind is open, or not completely removed yet."""
        return any(isinstance(node, kind) for node in self._nodes)

    def look_at(self, state: ViewState, *, patiently: bool = False) -> None:
        """Show another view state, and ask for the figures that it lacks."""

    def ask(self, draw: Sample | None = None) -> bool:
        """Request the figures that the screen shows now, and perhaps a token."""
        raise NotImplementedError

    def present(self) -> None:
        """Draw the view state."""

    def stop_work(self) -> bool:
        """Stop the work on the figures, and keep what is shown; return whether there was any."""
        raise NotImplementedError

    def fail(self, failed: LoadFailed) -> None:
        """Show why the model cannot be loaded or run, in place of the figures."""

    def replace_model(self, source: ModelSource, text: str, state: ViewState) -> None:
        """Discard all that belongs to the open model, for another one."""
