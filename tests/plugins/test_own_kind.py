"""A lens in one file of another package: its own drawing, columns, and phrases for the cursor."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.plugins import forked
from tests.plugins.packages import install

pytestmark = pytest.mark.xdist_group("plugins")  # one process to fork from

LETTERS = '''
"""How often each letter stood up to each token."""

import numpy as np

from llmscope.figure import Axis, Figure, Kind
from llmscope.figure.tables import number
from llmscope.lenses import Lens


def compute(recording, focus, run):
    """Count the letters up to each token. [position, letter]"""
    labels = recording.prompt.labels
    counts = [["".join(labels[: at + 1]).count(x) for x in "ABC"] for at in range(len(labels))]
    axes = (Axis("position", labels), Axis("letter", ("A", "B", "C")))
    return Figure("letters", "Letters", "heatmap", axes, np.array(counts, np.float32), "letters")


def tally(counts):
    return " ".join(letter * int(count) for letter, count in zip("ABC", counts, strict=True))


def paint(figure, canvas):
    from llmscope.draw import Painting
    from llmscope.draw.cells import Line, finish

    base = canvas.styles.base
    lines = [Line().add(f"tally {tally(counts)}", base) for counts in figure.values]
    rows = [line.row(canvas.width, base) for line in lines]
    return Painting(finish(rows, canvas.width, canvas.height, base))


def page(figure, look):
    return {"legend": "letters so far"}


def plot(axes, figure):
    axes.set_title("letters so far")


def describe_cursor(figure, focus):
    yield f"so far {tally(figure.values[focus.position])}"


LENS = Lens(
    name="letters",
    question="Which letters were there?",
    compute=compute,
    axes={"": ("position", "letter")},
    columns=(number("count", "how often the letter stood there"),),
    kinds=(
        Kind(
            "heatmap",
            paint,
            (("position", "letter"),),
            rows=lambda figure: len(figure.axes[0]),
            page=page,
            plot=plot,
        ),
    ),
    describe=describe_cursor,
    help="Counts.",
)
'''
PANE = """
from llmscope.tui.panes import LensPane


class LettersPane(LensPane):
    key = "letters"
    title = "which letters were there"
    workspace = "heads"
    usage = "Left and right move by tokens."
    lens = "letters"
"""
DRAWN = ["tally   C", "tally A  C", "tally A B C", "tally A B CC"]
"""The picture of CABC: a row a token."""
EVERYWHERE = """
import sys
from pathlib import Path

import pyarrow.parquet

import llmscope
from llmscope.agents.files import OutputFolder
from llmscope.agents.session import AgentSession, LoadOptions, AgentCall
from llmscope.agents.tools.look import look

folder = Path(sys.argv[1])
scope = llmscope.load("builtin:sort", device="cpu")
scope.record("CABC")
figure = scope.look("letters")
print(figure.values.tolist())
figure.save(folder / "letters.json")
figure.save(folder / "letters.txt", size=(30, 6))
figure.save(folder / "letters.html")
print(figure.plot().axes[0].get_title())
session = AgentSession(LoadOptions("builtin:sort"), OutputFolder(folder))
print(look(session, {"lens": "letters", "prompt": "CABC"}, AgentCall()))
"""


def run(folder: Path, words: list[str], code: str | None = None) -> str:
    """Return what llmscope, or a program, prints with the packages of a folder installed."""
    environ = {**os.environ, "NO_COLOR": "1", "LLMSCOPE_STATE": str(folder / "state")}
    done: subprocess.CompletedProcess[str] = forked.run(words, code, folder, environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "their_letters_pane", PANE, panes="letters = LettersPane")
    return install(tmp_path / "site", "their_letters", LETTERS, lenses="letters = LENS")


def drawn(text: str) -> list[str]:
    """Return the rows of the picture within a frame."""
    rows = (row.strip("│ ") for row in text.splitlines())
    return [row for row in rows if row.startswith("tally")]


def screen_of(site: Path) -> str:
    """Return the screen with the cursor on the token before the last."""
    words = ("--lens", "screen", "--workspace", "heads", "--size", "200x50", "--format", "txt")
    prompt = ("snapshot", "builtin:sort", "--prompt", "CABC", "--keys", "escape left")
    return run(site, [*prompt, *words])


def test_the_screen_draws_it_and_describes_the_cursor(site: Path) -> None:
    text = screen_of(site)
    assert all(row in text for row in DRAWN)
    assert "; so far A B C" in text


def test_what_it_raises_is_told_in_place_of_it(tmp_path: Path) -> None:
    broken = LETTERS.replace("    yield f", "    1 / 0\n    yield f").replace(
        "    base = canvas", "    1 / 0\n    base = canvas"
    )
    install(tmp_path / "site", "their_letters_pane", PANE, panes="letters = LettersPane")
    site = install(tmp_path / "site", "their_letters", broken, lenses="letters = LENS")
    text = screen_of(site)
    assert "its lens cannot draw it: ZeroDivisionError" in text
    assert "; letters cannot describe it: ZeroDivisionError" in text


def test_files_python_and_agents_have_it(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    values, title, *answer = run(site, [str(tmp_path)], EVERYWHERE).splitlines()
    assert values == "[[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]]"
    assert title == "letters so far"
    assert "letters so far" in (tmp_path / "letters.html").read_text()
    assert drawn((tmp_path / "letters.txt").read_text()) == DRAWN
    assert answer[0] == "letters · Letters"
    assert any("count" in line for line in answer)


def test_a_snapshot_is_drawn_again_from_its_file(site: Path, tmp_path: Path) -> None:
    """Where no lens was computed, the lens of a figure is still found."""
    file = tmp_path / "a.json"
    run(site, ["snapshot", "builtin:sort", "--prompt=CABC", "--lens=letters", f"--out={file}"])
    code = (
        "import sys; from pathlib import Path; from llmscope.export.read import read;"
        "from llmscope.draw import RenderOptions, natural_height, paint;"
        "(figure,) = read(Path(sys.argv[1])).figures;"
        "rows = paint(figure, 20, natural_height(figure), RenderOptions(tier='none')).rows;"
        "print(*(''.join(one.text for one in row) for row in rows), sep='\\n')"
    )
    assert drawn(run(site, [str(file)], code)) == DRAWN


def test_a_batch_has_its_columns(site: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("CAB\nB\n")
    words = ["snapshot", "builtin:sort", f"--prompts={prompts}", "--lens=letters", f"--out={out}"]
    run(site, words)
    table = parquet.read_table(out / "letters")
    assert table.column_names == [
        *("line", "position", "from_end", "token", "letter", "count", "status"),
    ]
    assert table["count"].to_pylist() == [0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0]
