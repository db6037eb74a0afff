"""What the features of the screen need of the app: its state, its widgets, and its methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from textual.geometry import Size
    from textual.notifications import Notification
    from textual.screen import Screen
    from textual.timer import Timer
    from textual.widget import Widget

    from llmscope.draw import RenderOptions
    from llmscope.engine.events import LoadFailed, Sample, Want
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
    from llmscope.tui.prompt.prompt_box import Prompts
    from llmscope.tui.state.figure_store import FigureStore
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.terminal.bandwidth import Bandwidth
    from llmscope.tui.theme.textual_theme import TextStyles
    from llmscope.tui.user_state import UserState
    from llmscope.tui.widgets.header import Header
    from llmscope.tui.widgets.placeholder import Placeholder
    from llmscope.tui.widgets.status_bar import KeyLine, StatusText
    from llmscope.tui.widgets.tab_bar import TabBar
    from llmscope.tui.widgets.tour_line import TourLine


class Host(Protocol):
    """The app as its features see it. Nothing here is assigned from outside of the app."""

    @property
    def state(self) -> ViewState:
        """The view state: model, tokens, cursor and edits."""

    @property
    def text(self) -> str:
        """The text of the editor."""

    @property
    def source(self) -> ModelSource:
        """How the model was opened, for the command that reproduces the screen."""

    @property
    def user(self) -> UserState:
        """The user's settings and stored state."""

    @property
    def mode(self) -> LiveMode:
        """What the screen can do."""

    @property
    def figures(self) -> FigureStore:
        """The requested figures and those that came back."""

    @property
    def engine(self) -> EngineLike:
        """The engine, which runs the model in a thread of its own."""

    @property
    def look(self) -> RenderOptions:
        """The theme, colours and characters to draw with."""

    @property
    def text_styles(self) -> TextStyles:
        """The theme's styles of text."""

    @property
    def bandwidth(self) -> Bandwidth:
        """What may be sent to the terminal."""

    @property
    def saves(self) -> list[Save]:
        """The files to write once the origin of their numbers is known."""

    @property
    def messages(self) -> Sequence[Notification]:
        """The notices of this session, the newest last."""

    @property
    def shows_strip(self) -> bool:
        """Whether the strip of the whole text is shown."""

    @property
    def strip_want(self) -> Want:
        """The want for the figure of the strip."""

    @property
    def in_prompt(self) -> bool:
        """Whether keys type text into a prompt."""

    @property
    def chat(self) -> ChatTemplate:
        """The chat template."""

    @property
    def comparison(self) -> PromptBController:
        """The controller of prompt B."""

    @property
    def context(self) -> ContextController:
        """The controller of contexts that become weight updates."""

    @property
    def lenses(self) -> LensChoice:
        """The choice of a learned lens."""

    @property
    def dictionaries(self) -> DictionaryChoice:
        """The choice of dictionaries of features."""

    @property
    def feature_search(self) -> FeatureSearch:
        """The search for a feature."""

    @property
    def generation(self) -> Generation:
        """Generation in the editor."""

    @property
    def models(self) -> ModelSwitch:
        """The switch to another model."""

    @property
    def prompt_list(self) -> PromptListController:
        """The list of a file of prompts."""

    @property
    def walkthrough(self) -> WalkthroughPlayer:
        """The walkthrough's history and autoplay."""

    @property
    def undo(self) -> UndoController:
        """Undo and redo, of the prompt and of the edits."""

    @property
    def editor(self) -> PromptEditor:
        """The editor of prompt A."""

    @property
    def prompts(self) -> Prompts:
        """The editors of both prompts."""

    @property
    def grid(self) -> PaneGrid:
        """The panes."""

    @property
    def placeholder(self) -> Placeholder:
        """What stands in the place of the panes while there are no figures."""

    @property
    def header(self) -> Header:
        """The line at the top."""

    @property
    def status(self) -> StatusText:
        """The line that describes what is under the cursor."""

    @property
    def tabs(self) -> TabBar:
        """The line with the names of the workspaces."""

    @property
    def key_line(self) -> KeyLine:
        """The line of keys."""

    @property
    def tour_line(self) -> TourLine | None:
        """The line that offers and takes the tour; None as long as neither was asked for."""

    def begin_tour(self) -> None:
        """Show the line of the tour, with its first step."""

    @property
    def find(self) -> FindLine:
        """The input that searches for a token."""

    def may(self, action: str) -> bool:
        """Return whether an action may run that reaches beyond the screen."""

    def tell(self, text: str, severity: str = "information", *, once: bool = False) -> None:
        """Show a notice that disappears by itself; with `once`, not while it is shown already."""

    def note(self, text: str, style: Any) -> None:
        """Show a note about the prompt on the editor's border."""

    def set_render_options(self, look: RenderOptions) -> None:
        """Apply another theme, other colours or characters."""

    def action_act(self, name: str) -> None:
        """Run an action of the registry, unless the mode has none of that name."""

    def look_at(self, state: ViewState, *, patiently: bool = False) -> None:
        """Show another view state, and ask for the figures that it lacks."""

    def set_state(self, state: ViewState) -> None:
        """Set the view state without drawing it, or asking for the figures that it lacks."""

    def set_source(self, source: ModelSource) -> None:
        """Set how the open model, and the second one, were opened."""

    def replace_model(self, source: ModelSource, text: str, state: ViewState) -> None:
        """Discard all that belongs to the open model, for another one."""

    def stop_work(self) -> bool:
        """Stop the work on the figures, and keep what is shown; return whether there was any."""

    def fail(self, failed: LoadFailed) -> None:
        """Show why the model cannot be loaded or run, in place of the figures."""

    def ask(self, draw: Sample | None = None) -> bool:
        """Request the figures that the screen shows now, and perhaps a token."""

    def ask_soon(self) -> None:
        """Ask after a pause in typing."""

    def expect(self) -> None:
        """Mark the figures as out of date if the new ones take long."""

    def rest(self, *, late: bool) -> None:
        """Stop waiting for figures."""

    def present(self) -> None:
        """Draw the view state."""

    # What Textual's App offers.

    @property
    def size(self) -> Size:
        """The size of the terminal, in cells."""

    @property
    def screen(self) -> Screen[Any]:
        """The screen that gets the keys."""

    @property
    def screen_stack(self) -> Sequence[Screen[Any]]:
        """The base screen and the dialogs over it."""

    @property
    def focused(self) -> Widget | None:
        """The widget that gets the keys."""

    @property
    def workers(self) -> Any:
        """The background work."""

    def push_screen(self, screen: Any, callback: Any = None) -> Any:
        """Open a dialog; `callback` gets what it returns."""

    def set_timer(self, delay: float, callback: Callable[[], Any]) -> Timer:
        """Call a function once after a delay in seconds."""

    def set_interval(self, interval: float, callback: Callable[[], Any]) -> Timer:
        """Call a function every `interval` seconds."""

    def call_after_refresh(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Call a function after the next redraw."""

    def call_later(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Call a function once the messages that wait now were handled."""

    def holds(self, kind: type[Screen[Any]]) -> bool:
        """Return whether a dialog of a kind is open."""

    def suspend(self) -> AbstractContextManager[None]:
        """Give the terminal to another program within the block."""

    def action_suspend_process(self) -> None:
        """Stop the program until the shell resumes it."""

    def batch_update(self) -> AbstractContextManager[None]:
        """Draw what changes within the block at once."""

    def copy_to_clipboard(self, text: str) -> None:
        """Copy a text to the terminal's clipboard."""

    def exit(self, result: int | None = None) -> None:
        """End the app."""
