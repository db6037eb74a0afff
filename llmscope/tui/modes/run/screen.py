"""Create the app for a run, with an engine that reads its folder and follows it as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from textual.timer import Timer
from textual.widget import Widget

from llmscope.draw.numbers import number
from llmscope.figure import Focus
from llmscope.support.text import display_text
from llmscope.tui.actions.user_keymap import Keymap
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.modes.mode import REPLAY_ACTIONS, of_run
from llmscope.tui.modes.read_only import Replay
from llmscope.tui.modes.replay.pane_map import PaneFigure, pages, panes_of_figures
from llmscope.tui.modes.replay.screen import facts
from llmscope.tui.modes.run.engine import CURVE, LOGGED, TIME, WatchEngine
from llmscope.tui.modes.run.run_bar import RunBar
from llmscope.tui.modes.run.run_view import RecorderLike, RunSlot, RunView
from llmscope.tui.state.moment import Moment
from llmscope.tui.state.workspaces import Workspace
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.user_state import UserState

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.runs.format import StepLine
    from llmscope.tui.host import Host
    from llmscope.tui.panes import FigurePane

POLL = 0.5
"""Seconds between two looks at the folder for new steps."""
PLAY = 0.2
"""Seconds that a step is shown while the run is played."""
PER_PAGE = 3
"""Most maps over the steps on a page, beside the two curves."""
RUN_HELP = """\
This is a training, seen at its recorded steps. The line above the panes is a slider: \
{run-step-previous} and {run-step-next} go one step back and forward, {run-step-first} to the \
first, \
{run-step-last} to the newest, which the screen then follows while the run grows; {run-play} plays \
all of them. {run-prompt-next} shows the next prompt. The first pages hold the figures of the \
step; the pages over time hold maps whose columns are the steps, and curves: of the number under \
the cursor, and of the loss. The prompt is read only: there is no model to read another one. \
{provenance} tells about the run: its steps, its files, and the time that recording took."""
REFUSED = "this is a recorded run: there is no model for"


@dataclass
class RunFollower:
    """What the screen of a run does by itself: it follows the folder, and plays the steps."""

    view: RunView
    recorder: RecorderLike | None = None
    timer: Timer | None = None
    told: set[str] = field(default_factory=set)

    def begin(self, host: Host) -> None:
        """Look at the folder from now on."""
        self.tell_flaws(host)
        host.set_interval(POLL, partial(self.look, host))

    def look(self, host: Host) -> None:
        """Show what is new in the folder; stay where the user is, unless that is the newest."""
        if not host.screen_stack:
            return
        moment = host.state.moment
        if moment is None:
            return
        if self.view.poll() and self.view.main.steps:
            grown = moment.grown(len(self.view.main.steps))
            host.figures.repeat()  # the maps over time have a new column
            host.look_at(replace(host.state, moment=grown))
            host.ask()
        if self.recorder is not None:  # what it does now is in the line of the run
            host.present()
        self.tell_flaws(host)

    def tell_flaws(self, host: Host) -> None:
        """Tell what is missing or damaged, once for each."""
        failures = () if self.recorder is None else self.recorder.failures
        for flaws in (failures, *(tuple(run.flaws.values()) for run in self.view.runs)):
            new = [flaw for flaw in flaws if flaw not in self.told]
            self.told.update(new)
            if new:
                more = f" (and {len(new) - 1} more: see where from)" if len(new) > 1 else ""
                host.tell(f"{new[0]}{more}", "warning")

    def toggle(self, host: Host) -> None:
        """Play the steps from here, from the first one at the end; or stop."""
        if self.timer is not None:
            self.stop()
            return
        moment = host.state.moment
        if moment is None or moment.steps < 2:
            return
        if moment.newest:
            host.look_at(replace(host.state, moment=moment.at(0)))
        self.timer = host.set_interval(PLAY, partial(self.go_on, host))
        host.present()

    def go_on(self, host: Host) -> None:
        """Go one step on; stop at the newest."""
        moment = host.state.moment
        if moment is None or moment.newest:
            self.stop()
            host.present()
            return
        host.look_at(replace(host.state, moment=moment.moved(1)))

    def stop(self) -> None:
        """Stop playing."""
        if self.timer is not None:
            self.timer.stop()
            self.timer = None


@dataclass(frozen=True, kw_only=True)
class RunMode(Replay):
    """A run shown on the screen.

    Attributes:
        playing: what goes on by itself.
    """

    playing: RunFollower
    subject: str = "A run"
    help: str = RUN_HELP
    refused: str = REFUSED
    hints: str = "run"

    def offers(self, action: str) -> bool:
        """Return whether an action can run without a model."""
        if action == "map-view" or action in REPLAY_ACTIONS or of_run(action):
            return True
        return super().offers(action)

    def usage(self, pane: FigurePane | None) -> str | None:  # type: ignore[override]
        """Return how to use a pane over time; None for the others."""
        view = None if pane is None else vars(type(pane)).get("view")
        return None if pane is None or view is None else pane.usage

    def clauses(self, host: Host) -> list[str]:
        """Return the clauses about the cursor; in a map or curve over the steps, of its cell."""
        described = getattr(host.grid.pane, "described", None)
        text = described() if callable(described) else ""
        return [text] if text else super().clauses(host)

    def current_facts(self) -> Sequence[tuple[str, str]]:
        """Return facts about the run and its model, as pairs of name and value."""
        return run_facts(self.playing.view)

    def bars(self) -> Sequence[Widget]:
        """Return the line of the run."""
        return (RunBar(),)

    def begin(self, host: Host) -> None:
        """Follow the folder."""
        self.playing.begin(host)

    def present(self, host: Host) -> None:
        """Show prompt and step in the line of the run."""
        moment = host.state.moment
        if moment is None or not host.screen_stack:
            return
        view, recorder = self.playing.view, self.playing.recorder
        doing = "" if recorder is None else recorder.doing
        for bar in host.screen_stack[0].query(RunBar):  # none while the screen is closed
            texts = _bar(view, moment, self.playing.timer is not None, doing)
            bar.show(moment, *texts, _stages(view))

    def play(self, host: Host) -> None:
        """Play the steps, or stop."""
        self.playing.toggle(host)

    def turn_prompt(self, host: Host, by: int) -> None:
        """Show the prompt that is `by` places on, at the same step."""
        moment = host.state.moment
        if moment is None or moment.prompts < 2:
            host.tell("the run has one prompt")
            return
        turned = moment.turned(by)
        from llmscope.tui.modes.run.panes import show_prompt

        recorded = self.playing.view.recorded(turned.prompt)
        state = replace(host.state, moment=turned, following=True, tokens=())
        state = replace(state, focus=replace(state.focus, position=-1))
        show_prompt(host.grid.panes, self.playing.view, turned.prompt)
        host.state = state
        host.editor.load_text(recorded.text)
        host.ask()
        host.present()

    def figure_metadata(self, source: Any, result: Any, state: Any, suffix: str) -> Any:
        """Return a function that returns the metadata of a figure saved at this step."""
        moment = state.moment
        view = self.playing.view
        at = view.main.steps[0 if moment is None else moment.step]
        record = view.recorded(0 if moment is None else moment.prompt).about
        run = {"run": view.name(0), "step": at.step}
        return lambda _: {**record, "provenance": run}


def watch_app(
    view: RunView,
    *,
    look: RenderOptions | None = None,
    bandwidth: Bandwidth = HIGH,
    keymap: Keymap | None = None,
    recorder: RecorderLike | None = None,
) -> LlmscopeApp:
    """Return the app, ready to run.

    Args:
        view: the run.
        look: render options; None asks the terminal.
        bandwidth: what may be sent to the terminal.
        keymap: the user's keys.
        recorder: what records the run in this process; None if nothing does.
    """
    last = len(view.main.steps) - 1
    first = view.recorded(0)
    at_step = _panes(view)
    over = {
        f"{TIME}{slot.key}": (slot, title) for slot in view.slots if (title := view.map_title(slot))
    }

    def make(look: RenderOptions) -> Any:
        from llmscope.tui.modes.run.panes import build_panes

        return build_panes(view, at_step, over, look)

    playing = RunFollower(view, recorder)
    mode = RunMode(
        about=first.about,
        command=None,
        banner=_banner(view),
        workspaces=_workspaces(view, at_step, over),
        panes=make,
        playing=playing,
        facts=(),
    )
    app = LlmscopeApp(
        partial(WatchEngine, view, at_step, recorder),
        spec=first.info.spec,
        prompt=first.text,
        look=look,
        focus=replace(first.focus, target=None, versus=None, mode=""),
        bandwidth=bandwidth,
        user=UserState(
            keymap=(keymap or Keymap()).for_run(), source=ModelSource(first.info.spec), mode=mode
        ),
    )
    moment = Moment(0, last, len(view.main.info.prompts), last + 1)
    app.state = replace(app.state, moment=moment)
    return app


def _panes(view: RunView) -> dict[str, tuple[RunSlot, PaneFigure]]:
    """Return the panes of figures at a step: their slots, and figures that stand for the others."""
    prompts = range(len(view.main.info.prompts))
    figures = [(slot, view.newest_figure(slot, prompts, Focus())) for slot in view.slots]
    known = [(slot, figure) for slot, figure in figures if figure is not None]
    panes: dict[str, tuple[RunSlot, PaneFigure]] = {}
    for pane in panes_of_figures([figure for _, figure in known], view.recorded(0).focus):
        panes[pane.key] = next(slot for slot, figure in known if figure is pane.figure), pane
    return panes


def _workspaces(
    view: RunView,
    at_step: Mapping[str, tuple[RunSlot, PaneFigure]],
    over: Mapping[str, tuple[RunSlot, str]],
) -> tuple[Workspace, ...]:
    """Return the pages: the figures of a step, of each run; then the maps over the steps."""
    workspaces: list[Workspace] = []
    for run in range(len(view.runs)):
        panes = [pane for slot, pane in at_step.values() if slot.run == run]
        name = f" of {view.name(run)}" if len(view.runs) > 1 else ""
        for page in pages(panes, edited=False) if panes else ():
            workspaces.append(
                replace(page, name=f"step-{len(workspaces) + 1}", title=f"At the step{name}")
            )
    maps = list(over)
    count = max(1, -(-len(maps) // PER_PAGE))
    parts = [maps[at * len(maps) // count : (at + 1) * len(maps) // count] for at in range(count)]
    for part in parts:
        spine = next((key for key in part if over[key][0].lens == "logit-lens"), None)
        spine = spine or next(iter(part), CURVE)
        rest = [key for key in (*part, CURVE, LOGGED) if key != spine]
        workspaces.append(
            Workspace(
                name=f"time-{len(workspaces) + 1}",
                title=_over_title([over[key][0].lens for key in part], len(parts)),
                spine=spine,
                details=tuple(rest),
                least=CURVE,
            )
        )
    return tuple(workspaces)


def _over_title(lenses: Sequence[str], pages: int) -> str:
    return "Over time" + (f": {', '.join(dict.fromkeys(lenses))}" if pages > 1 else "")


def _banner(view: RunView) -> tuple[tuple[str, int], ...]:
    names = " and ".join(view.name(run) for run in range(len(view.runs)))
    kind = "checkpoints" if view.main.info.source == "checkpoints" else "run"
    return ((kind, 0), (names, 1), (f"by llmscope {display_text(view.main.info.llmscope)}", 3))


def _bar(
    view: RunView, moment: Moment, plays: bool, source: str
) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]:
    """Return the texts beside the slider."""
    steps = view.main.steps
    line, newest = steps[min(moment.step, len(steps) - 1)], steps[-1]
    left: list[tuple[str, int]] = []
    if moment.prompts > 1:
        left.append((f"prompt {moment.prompt + 1}/{moment.prompts}", 3))
    if line.name:
        left.append((f"{display_text(line.name)[:40]}, {moment.step + 1} of {len(steps)}", 0))
    else:
        left.append((f"step {line.step} of {newest.step}", 0))
    state = "playing" if plays else "newest" if moment.newest else ""
    right = [(f"loss {_loss(view, line)}", 1)] if _loss(view, line) else []
    if state:
        right.append((state, 2))
    text = overhead(view)
    if source:
        right.append((display_text(source), 2))
    elif text:
        right.append((text, 4))
    return tuple(left), tuple(right)


def _stages(view: RunView) -> tuple[tuple[int, str], ...]:
    """Return the first step of each stage, by its index, and its name; empty without stages."""
    names = ["", *(line.stage for line in view.main.steps)]
    return tuple(
        (at, display_text(stage))
        for at, (before, stage) in enumerate(pairwise(names))
        if stage and stage != before
    )


def _loss(view: RunView, line: StepLine) -> str:
    """Return the loss that was logged last up to a step, in the stage of the step."""
    steps, values = view.main.logged("loss")
    known = int(steps.searchsorted(line.step, side="right"))
    if not known or (line.stage and steps[known - 1] < line.start):
        return ""
    return number(float(values[known - 1]))


def overhead(view: RunView) -> str:
    """Return how much of the time of a training went into recording it; empty if unknown."""
    took, whole = view.main.overhead()
    if view.main.info.source != "training" or whole <= 0:
        return ""
    return f"recording took {100 * took / (whole + view.main.steps[-1].took):.0f} %"


def run_facts(view: RunView) -> tuple[tuple[str, str], ...]:
    """Return facts about the run and its model, as pairs of name and value."""
    rows: list[tuple[str, str]] = []
    for at, run in enumerate(view.runs):
        took, whole = run.overhead()
        each = 1000 * took / len(run.steps)
        rows += [
            ("folder", display_text(str(run.folder))),
            ("steps", f"{len(run.steps)}, from {run.steps[0].step} to {run.steps[-1].step}"),
            ("recording", f"{took:.1f} s of {whole:.0f} s, {each:.0f} ms a step"),
            *(("damaged", flaw) for flaw in run.flaws.values()),
        ]
        if not at:
            rows += [row for row in facts(view.recorded(0)) if row[0] not in ("file", "figure")]
    return tuple(rows)
