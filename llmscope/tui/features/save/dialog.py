"""The save dialog (key `s`): asks for a file, and confirms before replacing one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.support.text import display_line, display_text
from llmscope.tui.dialogs.file_line import FileLineScreen, free_name
from llmscope.tui.features.copy.cursor_value import paper_picture, picture
from llmscope.tui.features.save.provenance import found_out
from llmscope.tui.pane_grid import ELSEWHERE
from llmscope.tui.state.figure_store import Shown

if TYPE_CHECKING:
    from llmscope.export import FilePair
    from llmscope.tui.host import Host


PAPER_SUFFIXES = ("pdf", "svg", "png")
"""The suffixes of a picture for a paper."""


def ask(host: Host) -> None:
    """Open the save dialog for the focused pane."""
    if not host.may("save"):
        return
    result = host.figures.shown(host.grid.pane.key)
    if result is None or host.state.token is None:
        host.tell("nothing to save yet", "warning")
        return
    if result.figure.extra.get(ELSEWHERE):
        host.tell(f"nothing to save: {result.figure.verdict.reason}", "warning")
        return
    host.push_screen(SaveScreen(host, result))


class SaveScreen(FileLineScreen):
    """One line at the bottom: enter saves, esc closes.

    Tab changes between the picture as on the screen and one for a paper. The dialog saves the
    figure that the pane showed when it was opened, with its provenance, which is computed while the
    user types the name.
    """

    def __init__(self, host: Host, result: Shown) -> None:
        self._host = host
        self._shown = result
        self._state = host.state
        self._pane = host.grid.pane
        self._tokens = host.figures.tokens_of(result)
        self._paper = False
        self._known: Future[dict[str, Any]] | None = None
        stem = f"llmscope-{self._pane.key}-layer{max(0, self._state.focus.layer)}"
        super().__init__(self._line_label(), free_name(Path.cwd(), stem, ".svg"))

    def _line_label(self) -> str:
        """Return the label of the line."""
        if self._paper:
            listed = f"{', '.join(PAPER_SUFFIXES[:-1])} or {PAPER_SUFFIXES[-1]}"
            return f"save {self._pane.called} for a paper as · tab: as on the screen · {listed}"
        return f"save {self._pane.called} as · tab: for a paper · {suffixes()}"

    def action_paper(self) -> None:
        """Change between the picture as on the screen and one for a paper."""
        self._paper = not self._paper
        old, new = (".svg", ".pdf") if self._paper else (".pdf", ".svg")
        if self._line.value.endswith(old):
            self._line.value = self._line.value.removesuffix(old) + new
            self._line.cursor_position = len(self._line.value)
        self.say(self._line_label())

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "paper", "for a paper", show=False, priority=True)
    ]

    def on_mount(self) -> None:
        """Start computing the provenance."""
        if self._shown.origin is not None:
            self._known = found_out(self._shown.origin)

    def submit(self, event: Input.Submitted) -> None:
        """Save the file; if it exists, ask for confirmation first."""
        from llmscope.export import format_of, formats

        path = Path(event.value.strip()).expanduser()
        name_typed = display_line(event.value.strip())
        try:
            paper = self._paper or path.suffix.lower() == ".pdf"
            save = self._save(path, format_of(path, PAPER_SUFFIXES if paper else None), paper)
            existing = [file for file in save.paths if file.exists() and not file.is_dir()]
            name = name_typed if path in existing else display_line((*existing, path)[0])
            if self.asks_to_replace(existing, name):
                return
            save.force = bool(existing)
            stores = paper or formats()[save.format].provenance
            if not stores or save.known is None or save.known.done():
                save.write()
            else:
                save.later()
        except ScopeError as error:
            self.say(f"{error} · {self._line_label()}" if "suffix" in str(error) else str(error))
            return
        except (OSError, ValueError) as error:
            self.say(f"cannot write {name_typed}: {display_text(str(error))}")
            return
        self.action_leave()

    def _save(self, path: Path, format: str, paper: bool) -> Save:  # noqa: A002
        size = self._pane.outer_size
        metadata = self._host.mode.figure_metadata(
            self._host.source, self._shown, self._state, format
        )
        if paper:
            drawn = partial(paper_picture, self._shown, self._state, format)
            return Save(self._host, path, format, drawn, _on_paper(metadata), self._known)
        on_screen = partial(
            picture,
            self._shown,
            self._state,
            format,
            size=(size.width, size.height),
            look=self._host.look,
            tokens=self._tokens,
        )
        return Save(self._host, path, format, on_screen, metadata, self._known)


def suffixes() -> str:
    """Return the suffixes that a file may have, pictures that can be magnified first."""
    from llmscope.export import formats

    order = sorted(
        formats().values(),
        key=lambda file_format: (file_format.holds == "numbers", not file_format.scales),
    )
    names = [file_format.name for file_format in order]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _on_paper(
    metadata: Callable[[dict[str, Any] | None], dict[str, Any] | None],
) -> Callable[[dict[str, Any] | None], dict[str, Any] | None]:
    """Return a function of the metadata whose command makes the picture for a paper."""

    def tell(provenance: dict[str, Any] | None) -> dict[str, Any] | None:
        record = metadata(provenance)
        known = (record or {}).get("provenance")
        if record is None or known is None or not known.get("command"):
            return record
        return record | {"provenance": {**known, "command": f"{known['command']} --look paper"}}

    return tell


@dataclass
class Save:
    """A file to be written.

    Attributes:
        host: the app.
        path: the path of the file.
        format: the format of the file.
        made: returns the content, given the metadata as `about`.
        told: returns the metadata, given the provenance.
        known: the future provenance; None if the figure has no provenance.
        force: whether to replace an existing file.
    """

    host: Host
    path: Path
    format: str
    made: Callable[..., str | bytes | FilePair]
    told: Callable[[dict[str, Any] | None], dict[str, Any] | None]
    known: Future[dict[str, Any]] | None
    force: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths that will be written."""
        from llmscope.export import formats, sidecar_path

        known = formats().get(self.format)  # a pdf is of paper alone
        beside = (sidecar_path(self.path),) if known is not None and known.sidecar else ()
        return (self.path, *beside)

    def write(self) -> None:
        """Write the file now, with the provenance if it is known.

        Raises:
            ScopeError: the file cannot be written.
        """
        from llmscope.export import FilePair, write, write_all

        flaw = None
        provenance = None
        if self.known is not None and self.known.done():
            flaw = self.known.exception()
            provenance = None if flaw else self.known.result()
        content = self.made(about=self.told(provenance))
        if isinstance(content, FilePair):
            write_all(content.at(self.path), force=self.force)
        else:
            write(self.path, content, force=self.force)
        less = f", without where it came from: {display_text(str(flaw))}" if flaw else ""
        self.host.tell(
            f"saved {display_line(self.path)}{less}", "warning" if flaw else "information"
        )

    def later(self) -> None:
        """Write the file once the provenance is known, or when the app closes before that."""
        assert self.known is not None
        self.host.saves.append(self)
        self.host.tell(f"{display_line(self.path)} is saved once the model's weights are read")
        self.known.add_done_callback(lambda _: self.host.call_later(self.land))

    def land(self) -> None:
        """Write the file now that the provenance is known."""
        if self not in self.host.saves:
            return
        self.host.saves.remove(self)
        try:
            self.write()
        except (OSError, ValueError, ScopeError) as error:
            self.host.tell(f"cannot write {display_line(self.path)}: {error}", "error")
