"""The app: dispatches events of the engine and input of the user to their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.widgets import Input, TextArea

from llmscope.draw import RenderOptions
from llmscope.text import shared_length
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.desk import Desk
from llmscope.tui.engine_client import EngineSays
from llmscope.tui.pane_grid import PaneGrid
from llmscope.tui.prompt.chat_template import ChatDesk
from llmscope.tui.state.context_marker import marked
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.terminal.output_guard import outlive_stops
from llmscope.tui.theme_switcher import ThemeFileWatch
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.placeholder import Placeholder
from llmscope.tui.widgets.status_bar import KeyLine

if TYPE_CHECKING:
    from llmscope.engine.events import Event, Frame, ModelInfo, Refused
    from llmscope.figure import Focus
    from llmscope.tui.engine_client import MakeEngine
    from llmscope.tui.panes import FigurePane


class LlmscopeApp(Desk, inherit_bindings=True):
    """The llmscope app.

    Args:
        make_engine: makes the engine, given where it posts its events.
        spec: the model's name as the user wrote it.
        prompt: the first text of the editor.
        special_tokens: whether the tokenizer adds its special tokens.
        look: render options (theme, colours, characters); None asks the terminal.
        focus: where the cursor starts.
        chat: put the first prompt into the chat template once the model is loaded.
        system: the system message for the template.
        bandwidth: limits on what is sent to the terminal.
        own: the user's settings and stored state; None uses the defaults.
    """

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
        bandwidth: Bandwidth = HIGH,
        own: UserState | None = None,
    ) -> None:
        super().__init__(
            spec=spec,
            prompt=prompt,
            special_tokens=special_tokens,
            look=look,
            focus=focus,
            chat=ChatDesk(system=system, at_first=chat),
            bandwidth=bandwidth,
            own=own,
        )
        self.engine = make_engine(self.hear)

    def on_mount(self) -> None:
        """Show the screen, and only then let the engine run its slow imports."""
        outlive_stops(self)
        ThemeFileWatch(self).begin()
        for notice in filter(None, (self.own.keymap.notice, self.own.notice)):
            self.tell(notice, "warning")
        self.editor.focus()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Mount what the first paint does not show, and start the engine, which is slow."""
        if self._exit or not self.screen_stack or not self.screen.is_attached:
            return  # left while a long prompt was still being laid out
        self.fill()
        if self.own.session is not None:
            self.own.session.put_back(self)
        self.engine.start()
        if self.own.replay is not None:
            BY_NAME["figures"].run(self)

    def hear(self, event: Event) -> None:
        """Post an event of the engine to the app; called from the engine's thread."""
        self.post_message(EngineSays(event))

    @on(EngineSays)
    def _engine_says(self, message: EngineSays) -> None:
        # Imported late: the first paint needs none of it.
        from llmscope.engine import events
        from llmscope.tui.features.models import model_switch

        event = message.event
        match event:
            case events.Loading():
                model_switch.progress(self, event)
            case events.Loaded():
                self.scene = self.own.loaded(self.scene.loaded(event.info))
                self._loaded(event.info)
            case events.Opened():
                if model_switch.opened(self, event):
                    self._loaded(event.info)
            case events.OpenFailed():
                model_switch.failed(self, event)
            case events.LoadFailed():
                if self.opening is None:
                    self.fail(event)
            case events.Frame():
                self._land(event)
            case events.Refused():
                self._refused(event)
            case events.Sampled():
                self.generating.land(self, event)
            case events.Templated():
                self.chat.land(self, event)
            case events.ContextAdded():
                self.lessons.land(self, event)

    def _loaded(self, info: ModelInfo) -> None:
        self.title_line.model(info, self.scene.adapter)
        self.overview.model(info.layers)
        for notice in info.notices:
            self.tell(notice, "warning")
        self.chat.read(self.text, info)
        if self.opening is not None or not self.chat.begin(self):
            self.ask()

    def _land(self, frame: Frame) -> None:
        if not self.ledger.take(frame):
            return
        self.cost = frame.cost
        before, self.scene = len(self.scene.tokens), self.scene.landed(frame.tokens)
        if len(frame.tokens) != before:
            self.ask()  # only now is the number of visible columns known
        self.note(" · ".join(frame.notices), self.inks.warning)
        self.comparing.landed(self, frame)
        if self.ledger.waiting:
            self.present()
        else:
            self.rest(late=False)
            self.generating.landed(self)

    def _refused(self, refused: Refused) -> None:
        if self.ledger.concerns(refused):
            self.generating.stop(self)
        if self.ledger.concerns(refused) and refused.faults:
            from llmscope.tui.features.edits import controller

            controller.refused(self, refused)
        elif self.ledger.concerns(refused) and refused.of_b:
            self.comparing.refused(self, refused)
        elif self.ledger.concerns(refused):
            hint = f" · try: {refused.hint}" if refused.hint else ""
            self.note(f"{refused.reason}{hint}", self.inks.error)
            self.rest(late=True)

    @on(TextArea.Changed, "#prompt-b")
    def _edited_b(self) -> None:
        self.comparing.written(self)

    @on(TextArea.SelectionChanged, "#prompt-b")
    def _walked_b(self) -> None:
        self.comparing.walked(self)

    @on(TextArea.Changed, "#prompt")
    def _edited(self) -> None:
        old, self.text = self.text, self.editor.text
        if old != self.text:
            shared = shared_length(marked(old).text, marked(self.text).text)
            self.scene = self.scene.edited(shared)
            self.chat.read(self.text, self.scene.info)
            self.chat.learn(self)
            self.generating.read(self, old)
            if not self.generating.goes_on(self):
                self.ask_soon()
            self.present()
            if self.own.autosave:
                self.own.autosave.edited(self)

    @on(TextArea.SelectionChanged, "#prompt")
    def _walked(self) -> None:
        position = self.editor.token_at_cursor if self.editor.has_focus else None
        if position is not None and self.editor.text == self.text:
            self.look_at(self.scene.go(position=position))

    def on_figure_pane_pointed(self, message: FigurePane.Pointed) -> None:
        """Move the cursor where a figure was clicked or scrolled with the wheel."""
        self.look_at(message.scene)

    def on_figure_pane_zoomed(self) -> None:
        """Maximize or restore a pane on a double click."""
        self.overview.maximize()

    @on(PaneGrid.Rearranged)
    def _rearranged(self) -> None:
        self.on_figure_pane_sized()

    def on_figure_pane_sized(self) -> None:
        """Present and ask again: other panes or sizes may need more rows or columns."""
        self.present()
        self.call_after_refresh(self.ask)

    @on(Placeholder.Picked)
    def _picked(self, message: Placeholder.Picked) -> None:
        self.editor.replace_all(message.text)
        BY_NAME["edit"].run(self)

    @on(KeyLine.Chosen)
    def _chosen(self, message: KeyLine.Chosen) -> None:
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
        focused = self.screen_stack[0].focused
        if focused is self.editor:
            self.keys.show("prompt-a" if self.prompts.both else "prompt")
        elif focused is self.prompts.b:
            self.keys.show("prompt-b")
        elif focused is self.card:
            self.keys.show("message")
        else:
            pane, workspace = self.overview.pane, self.overview.workspace.name
            place = "edits" if pane.key == "edits" else "figures"
            if self.own.replay is not None:
                place = "replay"
            self.keys.show(place, pane.row, workspace, column=pane.column)
