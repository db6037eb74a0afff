"""The app: its widgets and their state, and what follows from events of the user and the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.color import ColorSystem
from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.filter import LineFilter
from textual.geometry import Size
from textual.notifications import Notify, SeverityLevel
from textual.widget import Widget
from textual.widgets import Input, TextArea

from llmscope.draw import RenderOptions, detect_render_options
from llmscope.models.spec import DEFAULT
from llmscope.support.text import shared_length
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.engine_client import EngineSays
from llmscope.tui.features.compare.prompt_b import PromptBController
from llmscope.tui.features.context.controller import ContextController
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.features.dictionaries.choice import DictionaryChoice
from llmscope.tui.features.dictionaries.search import FeatureSearch
from llmscope.tui.features.models.lens_choice import LensChoice
from llmscope.tui.features.undo import UndoController
from llmscope.tui.features.walkthrough.controller import PLAYING, WalkthroughPlayer
from llmscope.tui.host import Host
from llmscope.tui.pane_grid import PaneGrid
from llmscope.tui.prompt.chat_template import ChatTemplate
from llmscope.tui.prompt.prompt_box import PromptEditors
from llmscope.tui.request_scheduler import RequestScheduler
from llmscope.tui.state.context_marker import has_parts, marked
from llmscope.tui.state.layout import layout_for
from llmscope.tui.state.workspaces import with_subject
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.terminal.clipboard import hand_to_tmux, inside_tmux
from llmscope.tui.terminal.output_filter import filters
from llmscope.tui.terminal.output_guard import outlive_stops
from llmscope.tui.terminal.paced_driver import PacedApp
from llmscope.tui.theme.textual_theme import text_styles, textual_theme, variables
from llmscope.tui.theme_switcher import ThemeFileWatch
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.header import ScreenHeader
from llmscope.tui.widgets.notices import LOGGED, Notice, place_notices
from llmscope.tui.widgets.placeholder import PLACEHOLDER_ACTIONS, Placeholder
from llmscope.tui.widgets.status_bar import KeyLine, StatusText
from llmscope.tui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    from llmscope.engine.events import (
        Event,
        Frame,
        LoadFailed,
        ModelInfo,
        PassInfo,
        Refused,
        Sample,
        Working,
    )
    from llmscope.figure import Focus
    from llmscope.models.tokenizer.conversation import TurnSpan
    from llmscope.tui.engine_client import MakeEngine
    from llmscope.tui.panes import FigurePane
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.widgets.kl_row import KlRow
    from llmscope.tui.widgets.overview_strip import OverviewStrip
    from llmscope.tui.widgets.tour_line import TourLine

LOWEST_WITH_TABS = 11
"""Rows of a terminal that leave the panes four rows beside two prompts and the tab bar."""
LOWEST_WITH_KEYS = 6
"""Rows of a terminal that leave the pane a row of its figure beside the line of keys."""
LOW = 8
"""Rows of a screen below which the tour is not offered, for the figures need them."""
COLOUR_SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
    "none": ColorSystem.STANDARD,
}


EMPTY_PANES = "the first pass of this prompt"
"""What empty panes say until they have their first figures."""
WAITS = "these figures are saved: live ones follow once the model is loaded"
"""The status text over the figures of an earlier session."""


class LlmscopeApp(PacedApp, Host, inherit_bindings=False):
    """The llmscope app: keeps its widgets consistent with the view state.

    The first paint shows nothing of a model: what holds figures is created on first access.

    Args:
        make_engine: makes the engine, given where it posts its events.
        spec: the model's name as the user wrote it.
        prompt: the first text of the editor.
        special_tokens: whether the tokenizer adds its special tokens.
        look: render options (theme, colours, characters); None asks the terminal.
        focus: where the cursor starts.
        chat: put the first prompt into the chat template once the model is loaded.
        system: the system message for the template.
        turns: the turns of the prompt, which is a conversation in its template; empty for others.
        bandwidth: limits on what is sent to the terminal.
        user: the user's settings and stored state; None uses the defaults.

    Attributes:
        text: the text of the editor.
    """

    CSS_PATH = "main.tcss"
    TITLE = "llmscope"
    BINDINGS: ClassVar[list[BindingType]] = []
    ENABLE_COMMAND_PALETTE = False  # Textual's key would not open `CommandPaletteScreen`
    NOTIFICATION_TIMEOUT = 4
    own_filters: Sequence[LineFilter]

    def __init__(
        self,
        make_engine: MakeEngine,
        *,
        spec: str,
        prompt: str = "",
        special_tokens: bool = True,
        look: RenderOptions | None = None,
        focus: Focus | None = None,
        chat: bool = False,
        system: str | None = None,
        turns: Sequence[TurnSpan] = (),
        bandwidth: Bandwidth = HIGH,
        user: UserState | None = None,
    ) -> None:
        self.look = bandwidth.look(look or detect_render_options())
        super().__init__(bandwidth)
        self.set_render_options(self.look)
        self.user = user or UserState()
        self.mode = self.user.mode
        self.text = prompt
        self.opening_focus, self.special_tokens = focus, special_tokens
        self.chat = ChatTemplate(system=system, at_first=chat, text=prompt, turns=turns)
        self.context = ContextController()
        self.lenses = LensChoice()
        self.dictionaries = DictionaryChoice()
        self.feature_search = FeatureSearch()
        self.comparison = PromptBController()
        self.walkthrough = WalkthroughPlayer()
        self.undo = UndoController()
        self.requests = RequestScheduler(self, self.set_timer)
        self.tour_line = None
        self.saves = []
        self.messages = deque(maxlen=LOGGED)
        self.cost: PassInfo | None = None
        self.work: Working | None = None
        self._calls: list[Callable[[], Any]] = []  # those that wait for a redraw
        self._named_tabs: set[str] = set()
        self._tabs_of: str | None = None  # the model that the tabs were shown of before
        self._pressed = False  # a mouse button is down: nothing moves away from under it
        self._saved_pass: object = None  # while figures of an earlier session are shown
        self._spec = spec
        self.source = self.user.source or ModelSource(spec)
        self.engine = make_engine(self.hear)

    @property
    def _lists_prompts(self) -> bool:
        """Whether the list of a file of prompts is on screen, which needs no prompt."""
        return self.state.prompts is not None and self.grid.workspace.name == "prompts"

    def set_render_options(self, look: RenderOptions) -> None:
        """Apply render options. Existing widgets are redrawn by `theme_switcher.apply_theme`."""
        self.look, self.text_styles = look, text_styles(look.theme)
        self.console._color_system = COLOUR_SYSTEMS[look.tier]
        self.own_filters = filters(look)
        self.set_class(look.tier in ("16", "none"), "-few-colours")
        self.set_class(look.tier == "none", "-colourless")
        self.set_class(look.tier != "truecolor", "-no-tints")
        theme = textual_theme(look.theme)
        self.register_theme(theme)
        self.theme = theme.name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the filters of the render options, which have read the environment already."""
        return self.own_filters

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return defaults for all variables: one that a theme lacks would stop the app."""
        return variables(self.look.theme)

    def refresh_css(self, animate: bool = True) -> None:
        """Apply a theme's colours. Before `compose` no style was parsed, so variables suffice."""
        if self.begun:
            super().refresh_css(animate)
        else:
            self.stylesheet.set_variables(self.get_css_variables())

    def compose(self) -> ComposeResult:
        """Yield the widgets from top to bottom."""
        self._make_room(self.size)
        self.header = ScreenHeader(self._spec, self.mode.banner)
        self.prompts = PromptEditors(self.text, self._prompt_b, past=self.user.past)
        self.editor = self.prompts.a
        self.editor.read_only = self.mode.read_only
        self.grid = PaneGrid(self.look, fades=self.bandwidth.fades, **self.user.panes)
        self.placeholder = Placeholder(self._spec, still=self.mode.read_only)
        self.placeholder.hold_keys(self.user.typed)
        self.status = StatusText()
        self.key_line = KeyLine()
        self.user.keymap.bind("anywhere", self)
        self.user.keymap.bind("prompt", self.editor)
        self.user.keymap.bind("figures", self.placeholder, only=PLACEHOLDER_ACTIONS)
        self.tabs = TabBar(
            self.grid.tabs,
            self.grid.workspace.name,
            more=self.grid.has_more_tabs,
        )
        self.grid.display = False
        yield self.header
        yield self.prompts
        if self.user.newcomer:
            self.tour_line = self._make_tour_line()
            yield self.tour_line
        yield self.tabs
        yield from self.mode.bars()
        yield self.grid
        yield self.placeholder
        yield self.status
        yield self.key_line

    def on_mount(self) -> None:
        """Show the screen, and only then let the engine run its slow imports."""
        outlive_stops(self)
        ThemeFileWatch(self).begin()
        for notice in filter(None, (self.user.keymap.notice, self.user.notice)):
            self.tell(notice, "warning")
        if self.user.greeting:
            self.tell(self.user.keymap.filled(self.user.greeting))
        (self.placeholder if self.in_figures else self.editor).focus()
        self.screen.screen_layout_refresh_signal.subscribe(self.grid, self._place_notices)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Mount what the first paint does not show, and start the engine, which is slow."""
        if self._exit or not self.screen_stack:
            return  # left while a long prompt was still being laid out
        self.fill()
        self.editor.show_roles(self.chat.roles)
        if self.user.session is not None:
            self.user.session.put_back(self)
            self.dictionaries.owe(self, self.user.session)
        if self.user.saves_figures:
            self._show_saved()
        self.engine.start()
        self.mode.begin(self)
        if self.in_figures:
            BY_NAME["figures"].run(self)

    @property
    def in_figures(self) -> bool:
        """Whether the figures have the focus at first, and not the prompt."""
        return self.mode.read_only or self.user.in_figures

    def _show_saved(self) -> None:
        """Show the figures of the last session while the model is loaded."""
        from llmscope.tui.session.saved_figures import pass_of, saved_figures

        saved = saved_figures(self)
        if saved is None or not self.text:
            return
        self.figures.restore(saved.shown)
        state = self.state.loaded(saved.info).with_tokens(saved.tokens)
        self.state = self.user.loaded(state)
        self._saved_pass = pass_of(self)
        self.grid.model(saved.info.layers)
        self._show_placeholder(False)
        self.present()

    @cached_property
    def kl_row(self) -> KlRow:
        """Return the row below the prompt that compares two models."""
        from llmscope.tui.widgets.kl_row import KlRow

        return KlRow()

    @cached_property
    def strip(self) -> OverviewStrip:
        """Return the strip over the panes that shows one number of each token of a long text."""
        from llmscope.tui.widgets.overview_strip import OverviewStrip

        return OverviewStrip()

    def fill(self) -> None:
        """Mount the widgets that the first paint does not show, below a dialog that is open."""
        screen = self.screen_stack[0]
        screen.mount(self.kl_row, after=self.prompts)
        screen.mount(self.strip, before=self.grid)
        self.user.keymap.bind("prompt", self.prompts.b)
        self.prompts.fill()
        self.grid.fill(self.user.keymap)

    def _prompt_b(self) -> str:
        return self.state.versus_prompt or ""

    def on_resize(self, event: events.Resize) -> None:
        """Adapt to the terminal's size: no frames when tiny, longer prompts when large."""
        self._make_room(event.size)
        if self.shows(*event.size):
            self.send_all()

    def _make_room(self, size: Size) -> None:
        layout = layout_for(*size)
        self.set_class(layout == "tiny", "-tiny")
        self.set_class(size.height < LOWEST_WITH_TABS, "-without-tabs")
        self.set_class(layout in ("medium", "wide"), "-roomy")
        self.set_class(layout == "small", "-small")
        self.set_class(size.height < LOW, "-low")
        self.set_class(size.height < LOWEST_WITH_KEYS, "-lowest")

    async def on_event(self, event: events.Event) -> None:
        """Handle an event; a key press stops running generation, whichever widget takes the key."""
        if self.mode.blocks(self, event):
            return
        if isinstance(event, events.Key):
            self.generation.stop_on_key(self, event.key)
            self._pressed = False  # the button may have been let go outside of the terminal
        elif isinstance(event, events.MouseDown):
            self._pressed = True
        await super().on_event(event)
        if isinstance(event, events.MouseUp):
            self._pressed = False
            self.call_after_refresh(self._show_keys)

    def on_paste(self, event: events.Paste) -> None:
        """Offer a text that was pasted into the figures as a prompt: it is no row of commands."""
        inside = self.focused is self.placeholder or self.focused in self.grid.panes.values()
        if inside and len(self.screen_stack) == 1 and not self.mode.read_only:
            from llmscope.tui.features.paste import offer

            offer(self, event.text)

    def on_key(self, event: events.Key) -> None:
        """Hand a key to the open menu, or to the text field that has got the focus since.

        All keys of a menu come by here, in the order in which they were pressed: those that were
        sent to a pane before the menu opened, and those that were sent to the menu. A text field
        handles its own letters: one that arrives here while a text field has the focus
        was sent to a pane that had the focus before.
        """
        from llmscope.tui.dialogs.menu import MenuScreen

        if isinstance(self.screen, MenuScreen):
            event.stop()
            event.prevent_default()
            self.screen.press(event.key, event.character)
            return
        field = self.focused
        if field in (self.prompts.a, self.prompts.b, self.find) and event.is_printable:
            event.stop()
            event.prevent_default()
            if event._sender is not field:  # else it had it, and refused it
                field._forward_event(events.Key(event.key, event.character).set_sender(field))
            return
        from llmscope.tui.dialogs.base import LineScreen

        if isinstance(self.screen, LineScreen):
            # The dialog's input handles all its keys: this one was sent to a pane before it opened.
            self.screen.typed_ahead(event)

    @property
    def begun(self) -> bool:
        """Return whether `compose` has run."""
        return hasattr(self, "grid")

    def _make_tour_line(self) -> TourLine:
        from llmscope.tui.widgets.tour_line import TourLine

        return TourLine(self.user.keymap)

    def begin_tour(self) -> None:
        """Show the line of the tour, with its first step."""
        if self.size.height < LOW:
            self.tell(f"the tour needs a terminal of {LOW} rows", "warning")
            return
        if self.tour_line is None:
            self.tour_line = self._make_tour_line()
            self.screen_stack[0].mount(self.tour_line, after=self.prompts)
        self.tour_line.begin(self)
        self.screen_stack[0].set_focus(self.editor)

    def action_act(self, name: str) -> None:
        """Run an action of the registry.

        A modal captures every key except that of quit-anywhere.
        """
        if len(self.screen_stack) > 1 and name != "quit-anywhere":
            raise SkipAction
        if not self.mode.offers(name):
            self.mode.explain_refusal(self, BY_NAME[name])
            return
        if name not in PLAYING:
            self.walkthrough.stop()
        if name not in ("undo", "redo"):
            self._note_figures_used()
        BY_NAME[name].run(self)
        if self.tour_line is not None:
            self.tour_line.advance(self, acted=name != "tour")

    def _note_figures_used(self) -> None:
        if self.user.autosave and not self.prompts.active.has_focus:
            self.user.autosave.worked()

    def hear(self, event: Event) -> None:
        """Post an event of the engine to the app; called from the engine's thread."""
        self.post_message(EngineSays(event))

    @on(EngineSays)
    def _engine_says(self, message: EngineSays) -> None:
        if not self.screen_stack:  # the app is closing, and its screens are gone
            return
        # Imported late: the first paint needs none of it.
        from llmscope.engine import events
        from llmscope.tui.features.models.model_switch import amount_of

        event = message.event
        match event:
            case events.Loading():
                self.models.progress(self, event)
                self.lenses.progress(self, event)
                self.dictionaries.progress(self, event)
                if self._saved_pass is not None:
                    self._works(events.Working(0, f"loading: {amount_of(event)}"))
            case events.Loaded():
                self._saved_pass = self.work = None
                self.state = self.user.loaded(self.state.loaded(event.info))
                self.dictionaries.owe(self, self.user.session)
                if lost := self.user.lost(self.state):
                    self.tell(lost, "warning")
                self._model_is_loaded(event.info)
            case events.Opened():
                self._saved_pass = None
                if self.models.opened(self, event):
                    self._model_is_loaded(event.info)
            case events.OpenFailed():
                self.models.failed(self, event)
            case events.LoadFailed():
                if self.models.pending is None:
                    self.fail(event)
            case events.Working():
                self._works(event)
            case events.Frame():
                self._land(event)
            case events.Refused():
                self._refused(event)
            case events.Sampled():
                self.generation.land(self, event)
            case events.Templated():
                self.chat.land(self, event)
            case events.ContextAdded():
                self.context.land(self, event)
            case events.LensRead():
                self.lenses.land(self, event)
            case events.DictionariesRead():
                self.dictionaries.land(self, event)
            case events.PromptsRead():
                self.prompt_list.landed(self, event)
            case events.ChatFileRead():
                self.prompt_list.chat_landed(self, event)

    def _model_is_loaded(self, info: ModelInfo) -> None:
        self.header.model(info, self.state.adapter)
        self.grid.model(info.layers)
        from llmscope.plugins import take_flaws

        # A snapshot leaves them to the command line, whose notes outlive the picture.
        flaws = () if self.user.anonymous else take_flaws()
        for notice in (*info.notices, *flaws):
            self.tell(notice, "warning")
        self.chat.read(self.text, info)
        if self.models.pending is not None or not self.chat.begin(self):
            self.ask()

    def _works(self, work: Working) -> None:
        """Show how far the work on the last request is, or the check of the model."""
        if work.serial in (0, self.figures.newest) and not self.figures.stopped:
            self.work = work if work.task else None
            with self.batch_update():
                self._present_work()

    def stop_work(self) -> bool:
        """Stop the work on the figures, and keep what is shown; the next change asks again.

        Work that the header does not show yet goes on: the key may have been meant for the prompt.
        Return whether any was stopped.
        """
        for read in (self.lenses, self.dictionaries):
            if read.waiting:
                read.stop(self)
                return True
        waits = self.models.pending is not None or self.chat.waiting or self.context.waiting
        is_visible = self.requests.running or (self.work is not None and self.work.serial)
        if waits or not is_visible:
            return False
        from llmscope.engine.events import StopRequest

        self.generation.stop(self)
        self.requests.cancel()
        self.figures.stop()
        self.work = None
        self.engine.ask(StopRequest())
        self.requests.finish(late=True)
        return True

    def _land(self, frame: Frame) -> None:
        # A part of a text without the cursor's token would move the cursor.
        hidden = frame.partial and not self.state.following
        if hidden and self.state.focus.position >= len(frame.tokens):
            return
        if not self.figures.take(frame):
            return
        from llmscope.tui.state.work import sweep_of

        self.cost, self.work = frame.cost, None if frame.complete else sweep_of(frame) or self.work
        before, state = len(self.state.tokens), self.state.with_tokens(frame.tokens)
        self.state = self.grid.landed(state, self.figures, frame.figures)
        if len(frame.tokens) != before or self.state is not state:
            self.ask()  # what is asked of a long prompt depends on its length
        self.note(" · ".join(frame.notices), self.text_styles.warning)
        self.comparison.landed(self, frame)
        self.feature_search.landed(self)
        if self.figures.waiting:
            self.present()
        else:
            self.requests.finish(late=False)
            self.generation.landed(self)

    def _refused(self, refused: Refused) -> None:
        if not self.figures.concerns(refused):
            return
        self.generation.stop(self)
        self.work = None
        if not self.figures.concerns(refused):  # the end of generation asked for another text
            return
        if refused.faults:
            from llmscope.tui.features.edits import controller

            if controller.refused(self, refused):
                return
        if refused.of_b:
            self.comparison.refused(self, refused)
            return
        hint = f" · try: {refused.hint}" if refused.hint else ""
        self.note(f"{refused.reason}{hint}", self.text_styles.error)
        self.requests.finish(late=True)

    def replace_model(self, source: ModelSource, text: str, state: ViewState) -> None:
        """Discard all that belongs to the open model, for another one.

        Args:
            source: how the other model was opened.
            text: its prompt.
            state: its view state.
        """
        self.state = state
        self.chat, self.context = self.chat.anew(), ContextController()
        self.lenses.drop()
        self.dictionaries.drop()
        self.feature_search.drop()
        self.walkthrough, self.undo = WalkthroughPlayer(), UndoController()
        vars(self).pop("generation", None)  # made anew on its next use
        self.comparison.prompt_b = None
        self.cost = self.work = None
        self.figures.forget()
        self.requests.finish(late=False)
        self.source, self.text = source, text

    def look_at(self, state: ViewState, *, patiently: bool = False) -> None:
        """Move the cursor: every pane follows, and asks for the figures it lacks.

        Args:
            patiently: let a running pass land first; see `RequestScheduler.moved`.
        """
        stopped = self.figures.stopped
        if stopped:  # also where nothing can move yet, as in a prompt whose first pass was stopped
            self.figures.repeat()
        self.undo.moved(self, self.state, state)
        if state != self.state or stopped:
            self.state = state
            self.requests.moved(patiently=patiently)
            self.present()

    def ask(self, draw: Sample | None = None) -> bool:
        """Request the figures that the screen shows now, unless they were requested already.

        Args:
            draw: a token to sample after the text.

        Returns:
            Whether a token was requested.
        """
        self.requests.request_sent()
        reads = self.lenses.waiting or self.dictionaries.waiting
        waits = self.chat.waiting or self.context.waiting or reads
        if self.state.info is None or waits:
            return False
        if self._saved_pass is not None:
            from llmscope.tui.session.saved_figures import pass_of

            if pass_of(self) != self._saved_pass:  # what is shown is of another pass by now
                self.figures.overtaken()
                self.requests.expect()
            return False
        if self.models.pending is not None or self.dictionaries.read_owed(self):
            return False
        if not self.screen_stack:  # a timer may fire while the screen is being closed
            return False
        if self.state.prompts is not None:
            if self.prompt_list.waiting:
                return False
            self.prompt_list.follow(self)
        shows_figures = bool(self.text) or self._lists_prompts
        if self.placeholder.display == shows_figures:
            self._show_placeholder(not shows_figures)
            self.call_after_refresh(self._ask_laid_out)
            return False
        if not self.text:
            self.figures.forget()
            self.state = replace(self.state, tokens=())
            self.placeholder.ask_for_prompt()
            self.note("", self.text_styles.dim)
            self.requests.finish(late=False)
            return False
        draw = draw or self.generation.pending
        if draw is not None:
            self.requests.settle()  # the text is about to change
        wants = self.grid.wants(self.state, sweeps=self.requests.sweeps)
        if self.state.compares_models and not self.mode.read_only:
            from llmscope.tui.state.figure_store import PROMPT_KL

            wants.insert(1, PROMPT_KL)
        from llmscope.tui.widgets.overview_strip import shows_strip, strip_want

        if shows_strip(self) and (want := strip_want(self.state)) not in wants:
            wants.insert(1, want)
        prompt, written, before = self.generation.reading(self.text)
        templated = self.chat.follows(before)
        moment = self.state.moment
        request = self.figures.ask(
            prompt.text,
            wants,
            adapter=self.state.adapter,
            templated=templated,
            context=prompt.cut,
            edits=self.state.in_force,
            translator=self.state.lens_of_edits,
            features=self.state.features,
            two_models=self.state.two_models,
            versus_prompt=self.state.versus_prompt,
            words=self.state.words,
            written=written,
            draw=draw,
            moment=None if moment is None else (moment.prompt, moment.step),
        )
        if request is not None:
            self.work = None
            self.engine.ask(request)
            self.requests.expect()
        return request is not None and draw is not None

    def _ask_laid_out(self) -> None:
        """Ask once the panes know their size, on which the rows and columns depend."""
        if self.grid.size.area:
            self.ask()
        else:
            self.call_after_refresh(self.ask)

    def fail(self, failed: LoadFailed) -> None:
        """Show why the model cannot be loaded or run, in place of the figures."""
        self.state, self.work = replace(self.state, info=None, tokens=()), None
        self._saved_pass = None
        able = self.user.other is not None and self.source.spec != DEFAULT
        self.placeholder.failed(failed, DEFAULT if able else "")
        if not self.placeholder.display:
            self._show_placeholder(True)
        self.requests.finish(late=False)

    def present(self) -> None:
        """Show the view state, in one update of the screen."""
        requests = self.requests
        with self.batch_update():
            self._present_work()
            self.mode.present(self)
            self._present_tabs()
            if self.tour_line is not None:
                self.tour_line.advance(self)
            late, dim, runs = requests.late, requests.dim, requests.running
            self.grid.present(self.state, self.figures, late=late, dim=dim, runs=runs)
            self.editor.show_roles(self.chat.roles)
            self.editor.show_written(self.generation.marks, self.generation.note(self.state.info))
            self.comparison.present(self)
            result = self.figures.shown("tokens")
            if result is not None:
                prompt = result.marked
                tokens, here = prompt.in_editor(result.tokens), self.state.focus.position
                self.editor.show_tokens(prompt.written, tokens, here)
            self._present_kl()
            self._present_strip()
            self.header.edits(len(self.state.in_force))
            # While a strength is changing, the status text waits for the next pass: no flicker.
            if requests.late or not requests.changing_strength:
                clauses = [WAITS] if self._saved_pass is not None else self.mode.clauses(self)
                clauses[1:1] = self.comparison.said(self.state) if clauses else ()
                self.status.say(clauses)
        self._save_soon()

    def _save_soon(self) -> None:
        """Save what the screen shows soon, beside the letters: a thread writes it."""
        if self.user.autosave:
            self.user.autosave.changed(self)

    def _present_tabs(self) -> None:
        """Give a tab to each workspace whose subject is there now, and say so once."""
        info = self.state.info
        parts = bool(self.chat.roles) or has_parts(self.text)
        context = marked(self.text).cut is not None
        names = with_subject(self.state, context=context, parts=parts)
        is_news = info is not None and self._tabs_of == info.spec  # not what comes with a model
        tabs = {tab.tab for tab in self.grid.tabs}
        for workspace in self.grid.offer(names, turns=is_news):
            if is_news and workspace.name not in self._named_tabs:
                at = [tab.tab for tab in self.grid.tabs].index(workspace.tab) + 1
                if workspace.tab in tabs:
                    self.tell(f"tab {at} shows {workspace.title} too: its digit turns it")
                else:
                    self.tell(f"{workspace.title} is tab {at} now")
        if info is not None:
            self._named_tabs |= names
            self._tabs_of = info.spec
        self.tabs.show(self.grid.tabs, self.grid.workspace.name)

    def _present_strip(self) -> None:
        """Show the overview of the whole text, where it is long or the user wants it."""
        from llmscope.tui.widgets.overview_strip import shows_strip, strip_want

        is_shown = shows_strip(self)
        if self.strip.display != is_shown:
            self.strip.display = is_shown
        if not is_shown:
            return
        from llmscope.tui.state.token_measures import measure_numbers, measure_of

        measure, want = measure_of(self.state), strip_want(self.state)
        result = self.figures.shown(want.key)
        figure = None if result is None else result.figure
        if figure is not None and figure.verdict.status != "refused":
            # What is kept may be of the measure before: it is shown once its own has come.
            figure = None if measure_numbers(figure, measure) is None else figure
        self.strip.show(
            figure,
            measure,
            cursor=self.state.focus.position,
            window=self.grid.window,
            special=tuple(token.special for token in self.state.tokens),
        )

    def _present_kl(self) -> None:
        """Show the row that compares two models, if there are two; edits leave it empty."""
        state = self.state
        row = self.kl_row
        room = self.size.height >= LOWEST_WITH_TABS
        is_shown = state.two_models and not self.mode.read_only and room
        if row.display != is_shown:  # setting it lays the screen out again, also below a dialog
            row.display = is_shown
        if is_shown:
            from llmscope.tui.state.figure_store import PROMPT_KL
            from llmscope.tui.widgets.kl_row import WITH_EDITS

            result = self.figures.shown(PROMPT_KL.key)
            note = "" if state.compares_models else WITH_EDITS
            row.show(None if result is None else result.figure, state.focus.position, note=note)

    def _present_work(self) -> None:
        """Show how far the running work is, in the header and in the panes that wait for it."""
        cost = self.cost if self.state.tokens else None
        self.header.cost(cost, len(self.state.tokens), work=self._work_text())
        work = self.work
        if work is None and self.state.info is not None and self.figures.waits_for_first:
            from llmscope.engine.events import Working

            work = Working(0, EMPTY_PANES)
        self.grid.show_work(work)

    def _work_text(self) -> str:
        """Return how far the running work is, and which keys stop it; empty if nothing runs."""
        if self.figures.stopped:
            return "stopped: a change starts it again"
        if self.work is None and not self.requests.running:
            return ""
        from llmscope.tui.state.work import describe_work

        text, keys = "running" if self.work is None else describe_work(self.work), ""
        # The check of a model cannot be stopped; a letter's pass is over before one can read it.
        if self.requests.dim if self.work is None else self.work.serial:
            keys = self.user.keymap.keys_from(self.key_line.in_prompt, "cancel")
        return f"{text} · {keys} stops" if keys else text

    def copy_to_clipboard(self, text: str) -> None:
        """Copy a text to the terminal's clipboard: by tmux where the terminal is a pane of it."""
        if not inside_tmux():
            super().copy_to_clipboard(text)
            return
        self._clipboard = text
        plain = super().copy_to_clipboard

        def hand_over() -> None:
            if not hand_to_tmux(text):
                with suppress(RuntimeError):  # the program has ended
                    self.call_from_thread(plain, text)

        self.run_worker(hand_over, thread=True, group="clipboard")

    def call_after_refresh(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call a function after the next redraw, of whichever screen is on top by then.

        Textual leaves the call to the screen on top, and forgets it with a dialog that is closed
        before it was drawn: the engine was never started, and panes waited for ever.
        """
        call = partial(callback, *args, **kwargs)
        self._calls.append(call)
        return super().call_after_refresh(self._call_once, call)

    def _call_once(self, call: Callable[[], Any]) -> Any:
        if any(call is waiting for waiting in self._calls):
            self._calls = [waiting for waiting in self._calls if waiting is not call]
            return call()
        return None

    def pop_screen(self) -> AwaitComplete:
        """Remove the screen on top, and leave the calls that wait for a redraw to the one below.

        Its painted lines go at once: a cache of Textual's over a method (`get_inner_outer`) keeps
        those of 1,024 removed widgets alive.
        """
        widgets = (self.screen, *self.screen.walk_children(Widget))
        closing = super().pop_screen()
        for widget in widgets:
            widget._styles_cache.clear()
        for call in self._calls:
            super().call_after_refresh(self._call_once, call)
        return closing

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Notify as the base class does, with a notice that cannot block the screen."""
        lasting = self.NOTIFICATION_TIMEOUT if timeout is None else timeout
        notice = Notice(message, title, severity, lasting, markup=markup)
        self.messages.append(notice)
        self.post_message(Notify(notice))

    def _refresh_notifications(self) -> None:
        super()._refresh_notifications()
        self.call_later(self._place_notices)

    def _place_notices(self, *_: object) -> None:
        if self._notifications and self.screen_stack and self.begun:
            panes = self.grid if self.grid.display else self.placeholder
            # The lower frames hold the legends.
            below = 0 if self.has_class("-tiny") else 1
            place_notices(self.screen, panes.region.shrink((0, 0, below, 0)))

    @property
    def waiting(self) -> bool:
        """Return whether any pane shows something other than what was requested last."""
        return self.figures.waiting

    @property
    def generating(self) -> bool:
        """Return whether the model generates token after token."""
        return self.generation.runs

    def drop_requests(self) -> None:
        """Drop the pending requests: the text has changed."""
        self.figures.overtaken()

    def _show_placeholder(self, visible: bool) -> None:
        focused = self.screen_stack[0].focused  # a dialog on top has a focus of its own
        inside = focused is not None and focused not in (self.prompts.a, self.prompts.b)
        if not visible:
            # The panes get the placeholder's area: fitted now, they need no second layout.
            self.grid.fit(*self.size, self.placeholder.outer_size.height)
        self.placeholder.display, self.grid.display = visible, not visible
        if inside:
            BY_NAME["figures"].run(self)
        if inside and not visible:
            self.call_after_refresh(self._press_waiting)

    def _press_waiting(self) -> None:
        """Press the keys that waited for the figures, if those have the focus."""
        keys = self.placeholder.take_keys()
        if self.grid.display and self.focused in self.grid.panes.values():
            for key in keys:
                self.post_message(key)

    @on(TextArea.Changed, "#prompt-b")
    def _edited_b(self) -> None:
        self.comparison.written(self)

    @on(TextArea.SelectionChanged, "#prompt-b")
    def _walked_b(self) -> None:
        self.comparison.walked(self)

    @on(TextArea.Changed, "#prompt")
    def _edited(self) -> None:
        old, self.text = self.text, self.editor.text
        if old != self.text:
            shared = shared_length(marked(old).text, marked(self.text).text)
            self.state = self.state.edited(shared)
            if "prompt_list" in vars(self):
                self.state = self.prompt_list.place_cursor(self.text, self.state)
            self.chat.read(self.text, self.state.info)
            self.chat.learn(self)
            self.generation.read(self, old)
            if not self.generation.goes_on(self):
                self.requests.typed(self.bandwidth.pause)
            self.present()
            if self.user.autosave:
                self.user.autosave.edited(self)

    @on(TextArea.SelectionChanged, "#prompt")
    def _walked(self) -> None:
        position = self.editor.token_at_cursor if self.editor.has_focus else None
        if position is not None and self.editor.text == self.text:
            self.look_at(self.state.move_to(position=position))
        self._save_soon()

    def on_figure_pane_pointed(self, message: FigurePane.Pointed) -> None:
        """Move the cursor where a figure was clicked or scrolled with the wheel."""
        self._note_figures_used()
        self.look_at(message.state)

    def on_overview_strip_pointed(self, message: OverviewStrip.Pointed) -> None:
        """Move the cursor where the strip was clicked."""
        self._note_figures_used()
        self.look_at(self.state.move_to(position=message.position))

    def on_figure_pane_title_clicked(self) -> None:
        """Open the menu of the views of the pane, which the click has focused."""
        BY_NAME["menu-view"].run(self)

    def on_figure_pane_zoomed(self) -> None:
        """Maximize or restore a pane on a double click."""
        self.grid.maximize()

    @on(PaneGrid.Rearranged)
    def _rearranged(self) -> None:
        self.tabs.show(self.grid.tabs, self.grid.workspace.name)
        self._show_keys()
        self._save_soon()
        self.on_figure_pane_sized()

    def on_figure_pane_sized(self) -> None:
        """Present and ask again: other panes or sizes may need more rows or columns."""
        self.present()
        self.call_after_refresh(self.ask)

    @on(Placeholder.Picked)
    def _picked(self, message: Placeholder.Picked) -> None:
        self.editor.replace_all(message.text)
        BY_NAME["edit"].run(self)

    @on(Placeholder.OpenedInstead)
    def _open_instead(self, message: Placeholder.OpenedInstead) -> None:
        self.models.switch(self, message.spec)

    @on(KeyLine.Chosen)
    @on(TabBar.Chosen)
    @on(ScreenHeader.Chosen)
    def _chosen(self, message: KeyLine.Chosen | TabBar.Chosen | ScreenHeader.Chosen) -> None:
        BY_NAME[message.action].run(self)

    @on(Input.Changed)
    def _seek(self, message: Input.Changed) -> None:
        if message.input is self.find:
            from llmscope.tui.features import find

            find.seek(self, message.value)

    def on_find_line_left(self) -> None:
        """End the search."""
        from llmscope.tui.features import find

        find.close_find(self)

    def on_descendant_focus(self) -> None:
        """Show the keys of the base screen's focused widget, even below a dialog."""
        self._show_keys()
        self._save_soon()

    def _show_keys(self) -> None:
        if not self.screen_stack:  # the app is closing
            return
        focused = self.screen_stack[0].focused
        # Prompt B is made when it is first asked for, which the first paint does not wait for.
        in_b = self.prompts.both and focused is self.prompts.b
        self.tabs.hide_keys(focused is self.editor or in_b)
        if not self._pressed:
            self.prompts.give_way(not (focused is self.editor or in_b))
            self.grid.show_focus(focused in self.grid.children)
        if focused is self.editor:
            self.key_line.show("prompt-a" if self.prompts.both else "prompt")
        elif in_b:
            self.key_line.show("prompt-b")
        elif focused is self.placeholder:
            self.key_line.show("message")
        else:
            pane, workspace = self.grid.pane, self.grid.workspace.name
            place = self.mode.hint_group(pane.key)
            panes = self.grid.shown_of
            self.key_line.show(place, pane.row, workspace, column=pane.column, panes=panes)
