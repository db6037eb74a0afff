"""The base of the app: its widgets, the view state they show, and the requests to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.filter import LineFilter
from textual.geometry import Size
from textual.notifications import Notify, SeverityLevel
from textual.style import Style
from textual.timer import Timer

from llmscope.draw import RenderOptions, detect_render_options
from llmscope.text import display_text
from llmscope.tui.actions.registry import BY_NAME, bindings
from llmscope.tui.features.compare.prompt_b import Comparing
from llmscope.tui.features.context.controller import ContextController
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.features.walkthrough.controller import PLAYING, Walking
from llmscope.tui.pane_grid import PaneGrid
from llmscope.tui.parts import Parts
from llmscope.tui.prompt.chat_template import ChatDesk
from llmscope.tui.prompt.prompt_box import Prompts
from llmscope.tui.state.layout import layout_for
from llmscope.tui.terminal.bandwidth import Bandwidth
from llmscope.tui.theme.textual_theme import inks, variables
from llmscope.tui.theme_switcher import put_on
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.header import Header
from llmscope.tui.widgets.notices import Notice
from llmscope.tui.widgets.placeholder import CARD_ACTIONS, Placeholder
from llmscope.tui.widgets.status_bar import KeyLine, StatusText

if TYPE_CHECKING:
    from llmscope.engine.events import LoadFailed, PassInfo, Sample
    from llmscope.figure import Focus
    from llmscope.tui.engine_client import EngineLike
    from llmscope.tui.features.models.model_switch import PendingSwitch
    from llmscope.tui.state.view_state import ViewState

PATIENCE = 0.15
"""Seconds a figure may be out of date before its title says so; quick passes take less."""
SETTLING = 0.4
"""Seconds without a change to the text or an edit's strength before a sweep is run."""
FADING = 0.6
"""Seconds after which an out-of-date figure is dimmed too, which resends all of its cells."""


class Desk(Parts, inherit_bindings=False):
    """Holds the widgets, and keeps them consistent with the view state.

    The first paint shows nothing of a model: the parts about figures are created after it.

    Attributes:
        text: the text of the editor.
    """

    CSS_PATH = "main.tcss"
    TITLE = "llmscope"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("anywhere")]
    ENABLE_COMMAND_PALETTE = False  # Textual's key would not open `CommandPaletteScreen`
    NOTIFICATION_TIMEOUT = 4
    engine: EngineLike
    own_filters: Sequence[LineFilter]
    overview: PaneGrid

    def __init__(
        self,
        *,
        spec: str,
        prompt: str,
        special_tokens: bool,
        look: RenderOptions | None,
        focus: Focus | None,
        chat: ChatDesk,
        bandwidth: Bandwidth,
        own: UserState | None,
    ) -> None:
        self.look = bandwidth.look(look or detect_render_options())
        self.inks = inks(self.look.theme)
        super().__init__(bandwidth)
        put_on(self, self.look)
        self.own = own or UserState()
        self.text = prompt
        self._focus, self.special_tokens = focus, special_tokens
        self.chat = chat
        self.lessons = ContextController()
        self.comparing = Comparing()
        self.walking = Walking()
        self.cost: PassInfo | None = None
        self._spec = spec
        self.opening: PendingSwitch | None = None
        self.source = self.own.source or ModelSource(spec)
        self._late = self._dim = self._under_way = False
        self._asks_again = self._turning = False
        self._timer: Timer | None = None
        self._pause: Timer | None = None
        self._settling: Timer | None = None

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
        theme = self.look.theme
        self.title_line = Header(theme, self._spec, self.own.banner)
        self.prompts = Prompts(self.text, self._prompt_b, past=self.own.past)
        self.editor = self.prompts.a
        self.editor.read_only = self.own.replay is not None
        self.overview = PaneGrid(self.look, fades=self.bandwidth.fades, **self.own.panes)
        self.card = Placeholder(theme, self._spec, still=self.own.replay is not None)
        self.words = StatusText(theme)
        self.keys = KeyLine(theme, self.own.keymap, invites=self.own.newcomer, own=self.own)
        self.own.keymap.bind(self, "anywhere")
        self.own.keymap.bind(self.editor, "prompt")
        self.own.keymap.bind(self.card, "figures", only=CARD_ACTIONS)
        self.overview.display = False
        yield self.title_line
        yield self.prompts
        yield self.overview
        yield self.card
        yield self.words
        yield self.keys

    def fill(self) -> None:
        """Mount the widgets that the first paint does not show."""
        self.mount(self.find, before=self.words)
        self.own.keymap.bind(self.prompts.b, "prompt")
        self.prompts.fill()
        self.overview.fill(self.own.keymap)

    def _prompt_b(self) -> str:
        return self.scene.versus_prompt or ""

    def on_resize(self, event: events.Resize) -> None:
        """Adapt to the terminal's size: no frames when tiny, longer prompts when large."""
        self._make_room(event.size)
        if event.size == self.mirror.size:
            self.send_all()

    def _make_room(self, size: Size) -> None:
        layout = layout_for(*size)
        self.set_class(layout == "tiny", "-tiny")
        self.set_class(layout in ("medium", "wide"), "-roomy")

    async def on_event(self, event: events.Event) -> None:
        """Handle an event; a key press stops running generation, whichever widget takes the key."""
        if self.own.replay is not None and self.own.replay.refuses(self, event):
            return
        if isinstance(event, events.Key):
            self.generating.heed(self, event.key)
        await super().on_event(event)

    def on_key(self, event: events.Key) -> None:
        """Forward a letter that was typed just before a change of focus to the focused text field.

        A text field handles its own letters: one that arrives here while a text field has the focus
        was sent to a pane that had the focus before.
        """
        if self.focused in (self.prompts.a, self.prompts.b, self.find) and event.is_printable:
            event.stop()
            event.prevent_default()
            self.focused._forward_event(events.Key(event.key, event.character))
            return
        from llmscope.tui.dialogs.base import LineScreen

        if isinstance(self.screen, LineScreen):
            # The dialog's input handles all its keys: this one was sent to a pane before it opened.
            self.screen.typed_ahead(event)

    @property
    def begun(self) -> bool:
        """Return whether `compose` has run."""
        return hasattr(self, "overview")

    @property
    def unsettled(self) -> bool:
        """Return whether the app is about to ask for more, or to mark an answer as late."""
        waits = (self._timer, self._pause, self._settling)
        return self._asks_again or any(timer is not None for timer in waits)

    @property
    def in_prompt(self) -> bool:
        """Return whether keys type text into prompt A or prompt B."""
        return self.focused in (self.prompts.a, self.prompts.b)

    def action_act(self, name: str) -> None:
        """Run an action of the registry.

        A modal captures every key except that of quit-anywhere.
        """
        if len(self.screen_stack) > 1 and name != "quit-anywhere":
            raise SkipAction
        if not self.own.offers(name):
            self.own.refuse(self, BY_NAME[name])
            return
        if name not in PLAYING:
            self.walking.stop()
        BY_NAME[name].run(self)

    def look_at(self, scene: ViewState, *, patiently: bool = False) -> None:
        """Move the cursor: every pane follows, and asks for the figures it lacks.

        Args:
            patiently: let a running pass land first. Otherwise a key that is held down would
                cancel one pass after the other, and nothing would show until its release.
        """
        if scene != self.scene:
            self.scene, self._turning = scene, patiently
            if patiently:
                self._settle()
            if patiently and self.ledger.waiting:
                self._asks_again = True
            else:
                self.ask()
            self.present()

    def ask_soon(self) -> None:
        """Ask after a pause in typing if the bandwidth sets one; else ask at once."""
        self._settle()
        if self._pause is not None:
            self._pause.stop()
        if self.bandwidth.pause:
            self.ledger.overtaken()
            self.expect()
            self._pause = self.set_timer(self.bandwidth.pause, self._paused)
        else:
            self.ask()

    def ask(self, draw: Sample | None = None) -> bool:
        """Request the figures that the screen shows now, unless they were requested already.

        Args:
            draw: a token to sample after the text.

        Returns:
            Whether a token was requested.
        """
        self._asks_again = False
        if self.scene.info is None or self.chat.waiting or self.lessons.waiting or self.opening:
            return False
        if not self.screen_stack:  # a timer may fire while the screen is being closed
            return False
        if self.card.display == bool(self.text):
            self._show_card(not self.text)
            # Only panes that were laid out know how many rows they have.
            self.call_after_refresh(self.ask)
            return False
        if not self.text:
            self.ledger.forget()
            self.scene = replace(self.scene, tokens=())
            self.card.ask_for_prompt()
            self.note("", self.inks.dim)
            self.rest(late=False)
            return False
        draw = draw or self.generating.pending
        if draw is not None:
            self._settle()  # the text is about to change
        wants = self.overview.wants(self.scene, sweeps=self._settling is None)
        found, written, before = self.generating.reading(self.text)
        templated = self.chat.follows(before)
        request = self.ledger.ask(
            *(found.text, wants),
            adapter=self.scene.adapter,
            templated=templated,
            context=found.cut,
            edits=self.scene.in_force,
            versus_prompt=self.scene.versus_prompt,
            words=self.scene.words,
            written=written,
            draw=draw,
        )
        if request is not None:
            self.engine.ask(request)
            self.expect()
        return request is not None and draw is not None

    def fail(self, failed: LoadFailed) -> None:
        """Show why the model cannot be loaded or run, in place of the figures."""
        self.scene = replace(self.scene, info=None, tokens=())
        self.card.failed(failed)
        if not self.card.display:
            self._show_card(True)
        self.rest(late=False)

    def rest(self, *, late: bool) -> None:
        """Stop waiting: all figures landed, or (`late`) some never will."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._late, self._dim, self._under_way = None, late, late, False
        if self._asks_again:
            self.ask()
        else:
            self._turning = False
        self.present()

    def present(self) -> None:
        """Show the view state, in one update of the screen."""
        with self.batch_update():
            self.overview.present(self.scene, self.ledger, late=self._late, dim=self._dim)
            self.editor.show_roles(self.chat.roles)
            self.editor.show_written(self.generating.marks, self.generating.note(self.scene.info))
            self.comparing.present(self)
            shown = self.ledger.shown("tokens")
            if shown is not None:
                prompt = shown.marked
                tokens, here = prompt.in_editor(shown.tokens), self.scene.focus.position
                self.editor.show_tokens(prompt.written, tokens, here)
            cost = self.cost if self.scene.tokens else None
            self.title_line.cost(cost, len(self.scene.tokens), running=self._under_way)
            self.title_line.edits(len(self.scene.in_force))
            # While a strength is changing, the status text waits for the next pass: no flicker.
            if self._late or not self._turning:
                said = self.own.said(self)
                said[1:1] = self.comparing.said(self.scene) if said else ()
                self.words.say(said)

    def note(self, text: str, ink: Style) -> None:
        """Show a note about the prompt on the editor's border."""
        shown = display_text(text).replace("\n", " ")
        self.editor.say(Content.assemble((shown, ink)) if shown else None)

    def tell(self, text: str, severity: str = "information") -> None:
        """Show a notice that disappears by itself."""
        level = severity if severity in ("warning", "error") else "information"
        self.notify(display_text(text), severity=level, markup=False)  # type: ignore[arg-type]

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
        self.post_message(Notify(Notice(message, title, severity, lasting, markup=markup)))

    def _settle(self) -> None:
        """Hold back sweeps until nothing has changed for a while: each letter would start one."""
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(SETTLING, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self.ask()

    def _paused(self) -> None:
        self._pause = None
        self.ask()

    def expect(self) -> None:
        """Mark the figures as out of date if the new ones take long."""
        if self._timer is None:
            self._timer = self.set_timer(PATIENCE, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        waiting = self.ledger.waiting and not self.generating.runs
        self._dim = waiting and self._late
        self._late = self._under_way = waiting
        if waiting and not self._dim:
            self._timer = self.set_timer(FADING - PATIENCE, self._overdue)
        self.present()

    def _show_card(self, shown: bool) -> None:
        inside = self.focused is not None and not self.in_prompt
        if not shown:
            # The panes get the placeholder's area: fitted now, they need no second layout.
            self.overview.fit(*self.size, self.card.outer_size.height)
        self.card.display, self.overview.display = shown, not shown
        if inside:
            BY_NAME["figures"].run(self)
