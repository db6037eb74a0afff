"""`llmscope themes`: list the themes, with a preview of each."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.cli.options import report_format, shared
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell, tell_plainly
from llmscope.cli.output.streams import put
from llmscope.version import __version__

if TYPE_CHECKING:
    from llmscope.draw import RenderOptions, Row, Theme
    from llmscope.draw.styles import Ramp

WIDTH = 78
"""Width of a preview in cells: it fits into 80 columns."""
INDENT = 2


def themes(
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """List the themes, each with its colours where a terminal shows them.

    Your own are TOML files in the folder named at the end: one that says `inherits = "dark"` needs
    only the colours that differ.
    """
    tier = shared.tier(color)
    with reported(debug):
        as_json = wants_json(json, format)
        from llmscope.config import config_folder
        from llmscope.draw import detect_render_options, load_theme, theme_names
        from llmscope.draw.color.user_themes import hidden_themes, own_path, own_theme_names

        notices: dict[str, list[str]] = {}
        theme_paths: list[tuple[Theme, Path | None]] = []
        for name in (*theme_names(), *own_theme_names()):
            theme = load_theme(name, notices.setdefault(name, []).append)
            theme_paths.append((theme, own_path(name)))
        if as_json:
            put(_json(theme_paths, notices, config_folder() / "themes"))
            return
        tier_shown = tier or (None if sys.stdout.isatty() else "none")
        shared.usage(
            ascii is None or tier_shown != "none", "it is of the ramps: --color 256", "--ascii"
        )
        if tier_shown == "none":
            put(_theme_table(theme_paths))
        else:
            looks = [
                detect_render_options(theme, tier=tier_shown, ascii=ascii)
                for theme, _ in theme_paths
            ]
            from llmscope.export import render_rows

            put("\n".join(str(render_rows(preview(look), "ansi", look)) for look in looks))
        for notice in (line for lines in notices.values() for line in lines):
            tell(notice)
        for path in hidden_themes():
            tell(f"{path} never shows: {path.stem} is the name of a theme that ships")
        from llmscope.support.text import display_line

        tell_plainly(f"your own: {display_line(config_folder() / 'themes')}")


def _json(
    theme_paths: Iterable[tuple[Theme, Path | None]], notices: dict[str, list[str]], folder: Path
) -> str:
    from llmscope.draw.color.theme import COLOURS, RAMPS
    from llmscope.export import json_text

    records = []
    for theme, path in theme_paths:
        values: dict[str, Any] = asdict(theme)
        records.append(
            {
                **{key: values[key] for key in ("name", "description", "dark", "native")},
                "path": None if path is None else str(path),
                "notices": notices[theme.name],
                "colours": {key: values[key] for key in COLOURS},
                "ramps": {key: list(values[key]) for key in RAMPS},
            }
        )
    record = {
        "schema": 1,
        "llmscope": __version__,
        "folder": str(folder),
        "themes": records,
    }
    return json_text(record)


def _theme_table(theme_paths: Iterable[tuple[Theme, Path | None]]) -> str:
    """Return a table of the themes, for a terminal without colours."""
    from llmscope.cli.output.table import table

    rows = [("theme", "background", "")]
    for theme, path in theme_paths:
        background = "terminal's" if theme.native else "dark" if theme.dark else "light"
        rows.append((theme.name, background, theme.description or ("your own" if path else "")))
    return table(rows)


def preview(look: RenderOptions) -> list[Row]:
    """Return rows on the theme's background: its name, the interface styles, and its ramps."""
    from llmscope.draw import styles_for
    from llmscope.draw.cells import Line, fit, plain_text

    theme, ready = look.theme, styles_for(look)
    name, words = (plain_text(text, look.ascii) for text in (theme.name, theme.description))
    named = Line().pad(INDENT, ready.base).add(name, ready.strong).add("  ", ready.base)
    named.add(fit(words, max(WIDTH - named.width, 0), ready.glyphs.ellipsis).rstrip(), ready.dim)
    chrome = Line().pad(INDENT, ready.base)
    inks = [("text", ready.base), ("dim", ready.dim), (" cursor ", ready.cursor)]
    inks += [(status, ready.verdicts[status]) for status in ("verified", "partial", "refused")]
    inks += [(ready.glyphs.box[4] * 4, ready.border), (ready.glyphs.bar * 4, ready.bar)]
    for text, style in inks:
        chrome.add(text, style).add("  ", ready.base)
    ramps = Line().pad(INDENT, ready.base)
    for ramp, cells in ((ready.sequential, 26), (ready.diverging, 26)):
        _swatches(ramps, ramp, cells)
        ramps.add("  ", ready.base)
    for style in ready.series[: (WIDTH - ramps.width) // 2]:
        ramps.add(ready.glyphs.bar * 2, style)
    return [line.row(WIDTH, ready.base) for line in (named, chrome, ramps)]


def _swatches(line: Any, ramp: Ramp, cells: int) -> None:
    """Draw a ramp in `cells` cells, each step about equally wide."""
    for cell in range(cells):
        step = round(cell * (len(ramp) - 1) / (cells - 1))
        line.add(ramp.glyphs[step], ramp.styles[step], 1)
