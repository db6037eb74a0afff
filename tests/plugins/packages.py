"""Packages outside of the tree: a folder with one module and the metadata of its entry points."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

FORMAT = '''
"""A format of files in one module: the values of figures as lines of comma-separated numbers."""

import numpy as np

from llmscope.export import Document, Format


def write(document: Document) -> str:
    lines = []
    for figure in document.figures:
        lines.append(f"# {figure.lens}")
        lines += [",".join(f"{x:.6g}" for x in row) for row in np.atleast_2d(figure.values)]
    return "\\n".join(lines) + "\\n"


LINES = Format("lines", "numbers", write, provenance=False)
'''
LENS = '''
"""A lens in one module: how many tokens the prompt has before each one, with an option."""

import numpy as np

from llmscope.figure import Axis, Figure
from llmscope.lenses import Lens, LensOption

FIRST = LensOption("first", "integer", 0, "The number of the first token.", least=0)


def compute(recording, focus, run):
    """Count the tokens before each one. [position]"""
    labels = recording.prompt.labels
    return Figure(
        lens="place",
        title="Place",
        kind="bars",
        axes=(Axis("token", labels),),
        values=FIRST.of(focus) + np.arange(len(labels), dtype=np.float32),
        unit="tokens",
    )


LENS = Lens(
    name="place",
    question="Where is each token?",
    compute=compute,
    options=(FIRST,),
    help="Counts.",
)
'''
PANE = '''
"""A pane in one module: the lens `place`, counted from 5."""

from typing import ClassVar

from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.panes import LensPane
from their_lens import FIRST


class PlacePane(LensPane):
    key: ClassVar[str] = "place"
    title: ClassVar[str] = "where each token is"
    workspace: ClassVar[str] = "heads"
    usage: ClassVar[str] = "Left and right move by tokens."
    lens: ClassVar[str] = "place"

    def want(self, state):
        return Want(self.key, "place", FIRST.set(Focus(), 5))
'''
RIVALS = '''
"""Lenses whose rank is another one in each figure, as that of a token whose logit ties may be."""

from itertools import cycle

import numpy as np

from llmscope.figure import Axis, Figure
from llmscope.lenses import Lens

PLACES = cycle((1, 2))


def figure(name):
    axes = (Axis("token", ("A",)),)
    extra = {"place": np.array([next(PLACES)])}
    return Figure(name, "Rivals", "bars", axes, np.ones(1, np.float32), "tokens", extra=extra)


def tied(figure, recording, focus, bound):
    return np.array([1.0]), np.array([2.0])


RIVALS = Lens("rivals", "Which of two?", lambda *_: figure("rivals"), ranks={"place": tied})
LONERS = Lens("loners", "Which of two?", lambda *_: figure("loners"))
'''
SOURCE = '''
"""A source of models in one module: copies of the built-in sorter under other names."""

from llmscope.models.local_models import Stored
from llmscope.models.sources import Weights, builtin
from llmscope.models.spec import Source, Spec


def parse(text):
    return Spec(text, "copy", text.partition(":")[2])


def fetch(spec, options):
    return Weights(builtin.home() / "sort", spec.name)


def stored():
    yield Stored("copy:one", "copy", builtin.home() / "sort", 4_000_000)


COPY = Source("copy", "copy:NAME", "copies", parse, fetch, stored)
'''


def install(folder: Path, package: str, module: str, **entries: str) -> Path:
    """Write a package as pip would install it; return the folder for PYTHONPATH.

    Args:
        folder: where it is installed.
        package: its name.
        module: the code of its one module.
        entries: entry point group without `llmscope.` -> `name = object`.
    """
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(module)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, entry in entries.items():
        name, _, target = entry.partition(" = ")
        lines.append(f"[llmscope.{group}]\n{name} = {package}:{target}\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def install_project(folder: Path, project: Path) -> Path:
    """Install a project of one package as pip would; return the folder for PYTHONPATH."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    package = about["name"].replace("-", "_")
    shutil.copytree(
        project / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
    )
    info = folder / f"{package}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    )
    lines = []
    for group, entries in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
