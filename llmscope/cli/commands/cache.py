"""`llmscope cache`: list what llmscope keeps on the disk, and remove what is not needed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell_plainly
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.support.text import NOTE, display_text, one_line

if TYPE_CHECKING:
    from llmscope.cache.entries import CacheEntry
    from llmscope.cache.prune import PruneChoice

_MEGABYTE = 1e6
_DAY = 86_400
_AGE = re.compile(r"(\d{1,6})\s*([hdw]?)", re.ASCII)
_SPANS = {"h": 3600, "": _DAY, "d": _DAY, "w": 7 * _DAY}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([kmgt]?)b?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}

cache = typer.Typer(
    rich_markup_mode=None,
    help="List what llmscope keeps on the disk: models, conversions, runs, measurements, state. "
    "`llmscope cache prune` removes what is not needed.",
)


@dataclass(frozen=True)
class Folders:
    """Where llmscope and the hub's library keep things."""

    cache: Path
    state: Path
    hub: Path


@cache.callback(invoke_without_command=True)
def _default(
    ctx: typer.Context,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    if ctx.invoked_subcommand is None:
        list_cache(json=json, format=format, quiet=quiet, debug=debug)
    else:
        where = f"put it after {ctx.invoked_subcommand}"
        usage(not json, where, "--json")
        usage(format is None, where, "--format")


@cache.command("list", cls=PanelCommand)
def list_cache(
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """List what lies in llmscope's cache and state folders: sizes, and when it was last used."""
    with reported(debug):
        as_json = wants_json(json, format)
        from llmscope.cache.entries import entries
        from llmscope.cache.hub import folder_bytes

        at = _folders()
        cache_entries = entries(at.cache, at.state)
        hub = folder_bytes(at.hub)
        if as_json:
            _put_json(
                {
                    **_head(at),
                    "hub": {"path": str(at.hub), "bytes": hub},
                    "entries": [_record(entry) for entry in cache_entries],
                }
            )
            return
        put(_table(cache_entries))
        total = sum(entry.bytes for entry in cache_entries)
        _say(f"in all: {_size(total)}; `llmscope cache prune` tells what is of no use any more")
        _say(f"the cache: {at.cache}")
        _say(f"the state: {at.state}")
        _say(
            f"the hub's cache, which other programs share: {at.hub}, {_size(hub)}; "
            "`hf cache ls` lists it, `hf cache rm` and `hf cache prune` make room"
        )


@cache.command(cls=PanelCommand)
def prune(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Of this kind, as the list names it; all for every kind. Repeat for several.",
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="30d", help="Not used for that long: hours h, days d or weeks w."),
    ] = None,
    larger_than: Annotated[
        str | None, typer.Option(metavar="100MB", help="Of at least this size: kB, MB, GB.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without, only tell what would be removed.")
    ] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Remove what meets every condition; without one, what is of no use any more.

    That is: what killed processes left, conversions and digests of files that are gone, runs that
    cannot be read. Without --yes it removes nothing. Prompts, sessions and files that llmscope did
    not put there are never removed, nor what another process has open, nor the hub's own cache.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        choice = _choice(kind, older_than, larger_than)
        from llmscope.cache.entries import entries
        from llmscope.cache.prune import choose_entries, pruning, remove

        at = _folders()
        failed: list[tuple[CacheEntry, str]] = []
        if yes:
            with pruning(at.cache):
                removable, busy = choose_entries(entries(at.cache, at.state), choice)
                for entry in removable:
                    if reason := remove(entry, (at.cache, at.state)):
                        failed.append((entry, reason))
        else:
            removable, busy = choose_entries(entries(at.cache, at.state), choice)
        left = [entry for entry, _ in failed]
        gone = [entry for entry in removable if entry not in left]
        if as_json:
            _put_json(
                {
                    **_head(at),
                    "dry": not yes,
                    "removed": [_record(entry) for entry in gone],
                    "in_use": [_record(entry) for entry in busy],
                    "failed": [_record(entry) | {"reason": reason} for entry, reason in failed],
                }
            )
        else:
            _tell(gone, busy, yes)
        if failed:
            entry, reason = failed[0]
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise ScopeError(
                f"{one_line(entry.name)} could not be removed: {reason}{more}",
                "again, once no program uses it, or by hand",
            )


def _tell(gone: list[CacheEntry], busy: list[CacheEntry], yes: bool) -> None:
    if gone:
        put(_table(gone))
    total = _size(sum(entry.bytes for entry in gone))
    if not gone:
        _say("nothing to remove")
    elif yes:
        _say(f"removed {total}")
    else:
        _say(f"{total} would be removed: the same with --yes removes it")
    for entry_in_use in busy:
        _say(f"left alone: {entry_in_use.name}: {entry_in_use.busy}")


def _choice(kinds: list[str] | None, older: str | None, larger: str | None) -> PruneChoice:
    """Return the conditions.

    Raises:
        BadParameter: one cannot be read.
    """
    from llmscope.cache.entries import KEPT, KINDS
    from llmscope.cache.prune import PruneChoice

    known = [kind for kind in KINDS if kind not in KEPT]
    listed = ", ".join((*known, "all"))
    for chosen_kind in kinds or ():
        wrong = f"no kind {display_text(chosen_kind)!r}; there are {listed}"
        usage(chosen_kind in (*known, "all"), wrong, "--kind")
    age = None if older is None else _AGE.fullmatch(older.strip())
    usage(older is None or age is not None, "an age such as 12h, 30d or 8w", "--older-than")
    size = None if larger is None else _SIZE.fullmatch(larger.strip())
    usage(larger is None or size is not None, "a size such as 500MB or 2GB", "--larger-than")
    wanted = None
    if kinds:
        wanted = frozenset(known if "all" in kinds else kinds)
    return PruneChoice(
        wanted,
        None if age is None else float(int(age[1]) * _SPANS[age[2]]),
        None if size is None else round(float(size[1]) * _UNITS[size[2].lower()]),
    )


def _folders() -> Folders:
    from llmscope.cache.hub import hub_folder
    from llmscope.models.files.cache import cache_folder
    from llmscope.tui.session.state_folder import state_folder

    return Folders(cache_folder(), state_folder(), hub_folder(os.environ))


def _head(at: Folders) -> dict[str, Any]:
    from llmscope.version import __version__

    folders = {name: str(path) for name, path in asdict(at).items()}
    return {"schema": 1, "llmscope": __version__, "folders": folders}


def _record(entry: CacheEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "paths": [str(path) for path in entry.paths],
        "bytes": entry.bytes,
        "files": entry.files,
        "written": entry.written,
        "used": entry.used,
        "useless": entry.useless or None,
        "in_use": entry.busy or None,
        "note": entry.note or None,
    }


def _table(cache_entries: Iterable[CacheEntry]) -> str:
    from llmscope.cli.output.table import table

    rows = [("kind", "name", "MB", "last use", "")]
    for entry in cache_entries:
        day = time.strftime("%Y-%m-%d", time.localtime(entry.used)) if entry.used else ""
        remark = "; ".join(filter(None, (entry.useless, entry.busy, entry.note)))
        rows.append(
            (entry.kind, one_line(entry.name), f"{entry.bytes / _MEGABYTE:.1f}", day, remark)
        )
    return table(rows, right=frozenset({2}))


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / _MEGABYTE:.1f} MB"


def _say(line: str) -> None:
    tell_plainly(one_line(line, NOTE))


def _put_json(record: dict[str, Any]) -> None:
    from llmscope.export import json_text

    put(json_text(record))
