"""Write docs/lenses: a page for each built-in lens, from what it declares, and its picture.

    python -m demo.lens_pages                    the pages
    python -m demo.lens_pages --check            exit with 1 if a page differs, and name it
    python -m demo.lens_pages --pictures         all pictures, by the commands that the pages show
    python -m demo.lens_pages --pictures probe   this one, or those that are named

The commands are in lens_pages.toml.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmscope.lenses import Lens, LensOption, lens, names
from llmscope.lenses.options import IN_COMMAND
from llmscope.tui.panes import pane_classes
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.state.workspaces import KEYS, TITLES, WORKSPACES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "lenses"
PICTURES = PAGES / "pictures"
COMMANDS = Path(__file__).with_suffix(".toml")
WIDTH = 96
"""Columns of a command, before it goes on in the next line."""
INTRODUCTION = (
    "A lens answers one question about a pass of the model, with a figure. `llmscope snapshot "
    'MODEL --prompt TEXT --lens NAME` makes it in a script, `scope.look("NAME")` in Python, and '
    "on the screen each pane shows one. These pages are generated from what the lenses say of "
    "themselves; `llmscope lenses NAME` and `?` on the screen say the same. "
    "[Questions](../questions.md) leads from what you want to know to a lens, and tells what its "
    "answer is worth."
)
MANY = 2
"""Workspaces of a lens that a page lists; of more, the first."""
NEEDS = {
    "readout": "the last stream through the final norm and the unembedding is the model's logits",
    "writes": "what attention and the MLP write adds up to the next stream",
    "patterns": "the attention pattern times the values, projected, is what attention wrote",
    "activations": "the activations through the down projection are what the MLP wrote",
    "experts": "the chosen experts, weighted as the router says, are what the MLP wrote",
}
"""What must hold for a capability to be verified."""
EDITED = {
    "recorded": "With `--edit` the figure is of the edited pass, and `--change` shows edited − "
    "unedited where both passes have the same axes.",
    "again": "With `--edit` it runs the prompt again with the edits in force, and `--change` shows "
    "edited − unedited.",
    "refused": "With `--edit` it is refused: it can only be shown for an unedited pass.",
}
ELSEWHERE = {
    "answer": ("`--answer TEXT`", "The answer, with the space before it."),
    "words": ("`--words-a`, `--words-b`", "Two lists of words, with spaces between them."),
    "versus_prompt": ("`--versus-prompt TEXT`", "Prompt B."),
    "metric": ("`metric=` in Python", ""),
}
"""The options that `llmscope snapshot` declares under other names, or not at all."""
TAKES = {
    "integer": "a whole number",
    "number": "a number",
    "share": "a number from 0 to 1",
    "text": "a text",
    "path": "a path",
    "lens": "a learned lens, by its name or its file",
    "dictionaries": "a folder; may be repeated",
    "switch": "nothing",
    "pair": "two whole numbers",
    "indices": "whole numbers and ranges of them",
    "token": "a token",
    "tokens": "a text",
    "word-lists": "two texts",
    "function": "a function",
}


def built_in() -> tuple[str, ...]:
    """Return the names of the lenses that come with llmscope."""
    return tuple(
        name for name in names() if (lens(name).compute.__module__ or "").startswith("llmscope.")
    )


@cache
def commands() -> dict[str, dict[str, Any]]:
    """Return what lens_pages.toml says, by lens.

    `run`: the commands in order, of which the last makes the picture; `alt`: what is in the
    picture; `before`: a paragraph above the commands; `needs`: what the lens requires besides
    capabilities of the model; `files`: texts that the commands read, by name.
    """
    return tomllib.loads(COMMANDS.read_text("utf-8"))


def pages() -> dict[Path, str]:
    """Return the text of each page, by its path."""
    found = {PAGES / "index.md": _index()}
    return found | {PAGES / f"{name}.md": page(lens(name)) for name in built_in()}


def page(chosen: Lens) -> str:
    """Return the page of a lens."""
    parts = [f"# {_plain(chosen.question)}"]
    parts += [
        f"The lens `{chosen.name}`. On the screen: {_workspaces(chosen)}. In a terminal, "
        f"`llmscope lenses {chosen.name}` describes it."
    ]
    parts += _trial(chosen)
    parts += ["## How to read it", *_help(chosen)]
    if chosen.formula:
        parts += ["## Formula", f"```text\n{chosen.formula}\n```"]
    parts += [_plain(chosen.sources)] if chosen.sources else []
    parts += ["## What it is evidence for"]
    parts += [f"**{begin}** {_linked(rest)}" for begin, rest in chosen.evidence]
    parts += _figures(chosen)
    parts += ["## Options", *_options(chosen)]
    parts += ["## What it needs, and what refuses it", *_needs(chosen)]
    parts += ["## With edits, and with a prompt B", *_changes(chosen)]
    parts += ["## Its table"]
    parts += [
        f"A batch of prompts (`--prompts FILE --out FOLDER`) writes [a table](../tables.md"
        f"#{chosen.name}) of it."
    ]
    return "\n\n".join(parts) + "\n"


def _workspaces(chosen: Lens) -> str:
    """Return the workspaces with a pane of the lens, each with its key; the first of many."""
    panes = {key for key, pane in pane_classes().items() if chosen.name in pane.snapshot_modes()}
    if any(view.lens == chosen.name for view in MAP_VIEWS):
        panes.add("map")
    found = []
    for one in WORKSPACES:
        titles = ", ".join(TITLES[key] for key in one.panes if key in panes)
        if titles:
            found.append(f"`{KEYS[one.name]}` {one.title} ({titles})")
    return f"{found[0]}, and others" if len(found) > MANY else ", ".join(found)


def _trial(chosen: Lens) -> Iterator[str]:
    """Yield what to try, and the picture that it makes."""
    one = commands()[chosen.name]
    if "before" in one:
        yield one["before"]
    for name, text in one.get("files", {}).items():
        yield f"With `{name}`:\n\n```text\n{text.strip()}\n```"
    lines = "\n".join(folded(command) for command in one["run"])
    yield f"```sh\n{lines}\n```"
    yield f"![{_plain(one['alt'])}](pictures/{chosen.name}.svg)"


def folded(command: str) -> str:
    """Return a command on several lines, cut before options, where one is too long."""
    first, *options = re.split(r" (?=--)", command)
    lines = [first]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > WIDTH:  # a blank before it, and " \\" after it
            lines.append(f"  {option}")
        else:
            lines[-1] += f" {option}"
    return " \\\n".join(lines)


def _help(chosen: Lens) -> Iterator[str]:
    """Yield the paragraphs of the help; one that is about a mode begins with its name in bold."""
    for paragraph in chosen.help.strip().split("\n\n"):
        begin, colon, rest = paragraph.partition(":")
        if colon and begin in chosen.modes:
            yield f"**{begin}**:{_linked(rest)}"
        else:
            yield _linked(paragraph)


def _figures(chosen: Lens) -> Iterator[str]:
    """Yield the table of the modes; one row for a lens without."""
    yield "## Modes" if chosen.modes else "## Axes and unit"
    rows = []
    for mode in chosen.modes or ("",):
        axes = chosen.axes.get(mode, chosen.axes.get(""))
        dims = " × ".join(axes) if axes else "depend on the options"
        cells = [_plain(dims), _plain(_unit(chosen, mode))]
        if chosen.modes:
            default = " (the default)" if mode == chosen.modes[0] else ""
            cells = [f"`{mode}`{default}", _linked(chosen.shows.get(mode, "")), *cells]
        rows.append(cells)
    head = ["mode", "what it shows", "axes", "unit"] if chosen.modes else ["axes", "unit"]
    yield _table(head, rows)
    if chosen.of_model:
        yield (
            f"{_listed(chosen.of_model)}: of the model alone, the same for every prompt; a run "
            "records them once a step."
        )
    if chosen.through:
        yield f"{_listed(chosen.through)}: of all layers up to the one that is asked for."
    if not chosen.history:
        yield "The values at a token depend on later tokens too."


def _unit(chosen: Lens, mode: str) -> str:
    """Return the unit of the figure's values in a mode; empty for a plain number."""
    figure: Any = SimpleNamespace(values=object(), extra={})
    for column in chosen.columns:
        here = column.role == "value" and (not column.modes or mode in column.modes)
        if here and column.of is not None and column.of(figure) is figure.values:
            return column.unit
    return ""


def _options(chosen: Lens) -> Iterator[str]:
    rows = [_option(option) for option in chosen.options]
    if rows:
        yield _table(["option", "takes", "default", ""], rows)
    yield (
        f"{'Besides, as' if rows else 'It has none of its own. As'} with every lens: "
        + ("`--mode`, " if chosen.modes else "")
        + "`--edit`, `--change` and `--versus-prompt`."
    )


def _option(option: LensOption[Any]) -> list[str]:
    """Return the row of an option: name, limits, default, help."""
    shown, about = f"`{option.flag}`", option.help
    if option.name in ELSEWHERE:
        shown, about = ELSEWHERE[option.name]
        about = about or option.help
    elif option.kind in IN_COMMAND and option.metavar:
        shown = f"`{option.flag} {option.metavar}`"
    limits = TAKES[option.kind]
    if option.least is not None:
        limits += f" ≥ {option.least}"
    if option.above is not None:
        limits += f" > {option.above:g}"
    default = option.shown
    if not default and option.default not in (None, "", ()):
        default = str(option.default)
    return [shown, limits, _plain(default), _linked(about)]


def _needs(chosen: Lens) -> Iterator[str]:
    extra = commands()[chosen.name].get("needs", "")
    if chosen.needs:
        rows = [[f"`{need}`", NEEDS[need]] for need in chosen.needs]
        yield "It relies on these capabilities, which are checked on the model itself:"
        yield _table(["capability", "what must hold"], rows)
        refusal = (
            "Where one does not hold, in a layer or in the whole model, it is refused with the "
            "error that was measured; `--unverified` shows it all the same, marked. `llmscope "
            "doctor MODEL` tells which hold."
        )
        if chosen.own_logits:
            refusal += " Where the readout is refused, the model's own logits take its place."
        yield refusal
    else:
        yield "It relies on no capability that a model could lack: it reads tensors as they are."
    if chosen.versus:
        yield "It requires a prompt B (`--versus-prompt`)."
    if extra:
        yield extra


def _changes(chosen: Lens) -> Iterator[str]:
    yield EDITED[chosen.edited]
    whole = chosen.unpaired.get("")
    if whole:
        yield f"It has no difference A − B: {_plain(whole)}."
        return
    yield "With a prompt B, or a second model, `--change` shows A − B."
    reasons: dict[str, list[str]] = {}
    for mode, reason in chosen.unpaired.items():
        reasons.setdefault(reason, []).append(mode)
    if reasons:
        rows = [f"- {_listed(modes)}: {_plain(reason)}" for reason, modes in reasons.items()]
        yield "Modes without one between two prompts:"
        yield "\n".join(rows)


def _index() -> str:
    rows = []
    for name in built_in():
        one = lens(name)
        rows.append([f"[{name}]({name}.md)", _plain(one.question), _listed(one.modes)])
    return f"# Lenses\n\n{INTRODUCTION}\n\n{_table(['lens', 'question', 'modes'], rows)}\n"


def _listed(modes: Sequence[str]) -> str:
    return ", ".join(f"`{mode}`" for mode in modes)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines
    )


def _plain(text: str) -> str:
    """Return text in which Markdown finds no markup, except code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_])", r"\\\1", part).replace("<", "&lt;")
        for part in parts
    )


def _linked(text: str) -> str:
    """Return plain text with options as code, and the names of lenses as links."""
    known = "|".join(sorted(built_in(), key=len, reverse=True))
    plain = re.sub(r"(?<![`\w-])(--[a-z][a-z-]*)", r"`\1`", _plain(text))
    return re.sub(rf"\blens ({known})\b(?!-)", r"lens [\1](\1.md)", plain)


def run(name: str, folder: Path) -> None:
    """Run the commands of a lens in a folder, which then holds its picture.

    Raises:
        CalledProcessError: a command failed.
    """
    for words in prepared(name, folder):
        here = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *words], check=True, cwd=folder, env=here)


def prepared(name: str, folder: Path) -> list[list[str]]:
    """Write the files of a lens into a folder, and return the words after `python` of each command.

    Scripts and data of `demo` are found there too.
    """
    one = commands()[name]
    for file, text in one.get("files", {}).items():
        (folder / file).write_text(text, "utf-8")
    shutil.copytree(ROOT / "demo" / "directions", folder / "demo" / "directions")
    shutil.copy(ROOT / "demo" / "experts.py", folder / "demo")
    found = []
    for command in one["run"]:
        first, *words = shlex.split(command)
        found.append(words if first == "python" else ["-m", "llmscope", *words])
    return found


def take(name: str) -> None:
    """Make the picture of a lens."""
    with tempfile.TemporaryDirectory() as folder:
        run(name, Path(folder))
        made = Path(folder) / f"{name}.svg"
        shutil.copy(made, PICTURES / made.name)
    print(PICTURES / f"{name}.svg")


def main(arguments: Sequence[str]) -> int:
    """Write or check the pages, or make pictures; return the exit status."""
    if arguments[:1] == ["--pictures"]:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in arguments[1:] or built_in():
            take(name)
        return 0
    for path, text in pages().items():
        if arguments[:1] == ["--check"]:
            if not path.is_file() or path.read_text("utf-8") != text:
                print(
                    f"{path.relative_to(ROOT)} differs: python -m demo.lens_pages writes it again"
                )
                return 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
