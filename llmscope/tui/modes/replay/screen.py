"""Create the app for a snapshot, with an engine that reads from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from llmscope.export.edits_caption import EditsCaption as Told
from llmscope.support.text import display_line
from llmscope.tui.actions.user_keymap import Keymap
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.modes.read_only import Replay
from llmscope.tui.modes.replay.command import safe_command
from llmscope.tui.modes.replay.engine import ReplayEngine
from llmscope.tui.modes.replay.pane_map import pages, panes_of_figures
from llmscope.tui.modes.replay.reader import Recorded
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.terminal.bandwidth import HIGH, Bandwidth
from llmscope.tui.user_state import UserState

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.engine.events import ModelInfo
    from llmscope.tui.widgets.header import Part

MOST_FACTS = 1000
"""Maximum number of rows of facts."""
LONGEST_FACT = 2000
"""Maximum number of characters of a fact."""


def replay_app(
    snapshot: Recorded,
    *,
    look: RenderOptions | None = None,
    bandwidth: Bandwidth = HIGH,
    keymap: Keymap | None = None,
) -> LlmscopeApp:
    """Return the app, ready to run on the content of a file."""
    panes = panes_of_figures(snapshot.figures, snapshot.focus)
    caption = Told(tuple(map(str, snapshot.edits)), snapshot.other, held=snapshot.other is not None)
    edited = bool(caption.edits) or caption.held

    def make(look: RenderOptions) -> Any:
        from llmscope.tui.modes.replay.panes import panes_of

        return panes_of(panes, caption, look)

    replay = Replay(
        about=snapshot.about,
        command=_command(snapshot.about),
        banner=_banner(snapshot),
        facts=facts(snapshot),
        workspaces=pages(panes, edited=edited),
        panes=make,
    )
    app = LlmscopeApp(
        partial(ReplayEngine, snapshot, panes),
        spec=snapshot.info.spec,
        prompt=snapshot.text,
        look=look,
        focus=replace(snapshot.focus, target=None, versus=None, mode=""),
        bandwidth=bandwidth,
        user=UserState(
            keymap=keymap or Keymap(),
            source=ModelSource(snapshot.info.spec),
            mode=replay,
        ),
    )
    edits = tuple(map(ListedEdit.of, snapshot.edits))
    app.state = replace(app.state, edits=edits, versus_prompt=snapshot.other)
    return app


def _banner(snapshot: Recorded) -> tuple[Part, ...]:
    """Return the right side of the header: token count, "replay", file name and version."""
    name = display_line(snapshot.path.name)
    count = len(snapshot.tokens)
    version = _display_line(snapshot.about.get("llmscope"))
    parts = [
        (f"{count} token{'s' * (count != 1)}", 7),
        ("replay", 0),
        (name if len(name) <= 40 else f"{name[:39]}…", 2),
    ]
    return (*parts, (f"by llmscope {version}", 3)) if version else tuple(parts)


def facts(snapshot: Recorded) -> tuple[tuple[str, str], ...]:
    """Return the provenance of the numbers, as far as the file has it, as (name, value) rows."""
    about, info = snapshot.about, snapshot.info
    origin = about.get("provenance")
    origin = origin if isinstance(origin, Mapping) else {}
    versions = about.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    table = {
        "file": str(snapshot.path),
        "model": info.spec,
        "revision": info.revision,
        "architecture": info.architecture,
        "adapter": info.adapter,
        "size": _size(info),
        "device": info.device,
        "dtype": info.dtype,
        "llmscope": about.get("llmscope"),
        **versions,
        **origin,
    }
    rows: list[tuple[str, str]] = []
    for name, value in table.items():
        rows.extend(_rows(str(name), value))
    more = len(rows) - MOST_FACTS
    if more > 0:
        rows[MOST_FACTS:] = [("and", f"{more:,} more")]
    rows.extend(("edit", str(edit)) for edit in snapshot.edits)
    rows.extend(
        ("figure", f"{figure.title} ({figure.verdict.status})") for figure in snapshot.figures
    )
    return tuple((_display_line(name), _display_line(value)) for name, value in rows)


def _size(info: ModelInfo) -> str:
    """Return the sizes of the model; empty for hidden states, which do not tell them."""
    if not info.parameters:
        return ""
    return f"{info.layers} layers, {info.heads} heads, {info.parameters:,} parameters"


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    name = name[:LONGEST_FACT]
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in _rows(f"{name} {key}", item)]
    if isinstance(value, list):
        return [(name, str(item)) for item in value]
    return [(name, str(value))]


def _display_line(value: Any) -> str:
    """Return untrusted text sanitized on one line; empty for other types."""
    text = value if isinstance(value, str) else ""
    return display_line(text[:LONGEST_FACT])


def _command(about: Mapping[str, Any]) -> str | None:
    origin = about.get("provenance")
    command = origin.get("command") if isinstance(origin, Mapping) else None
    return safe_command(command)
