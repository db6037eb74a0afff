"""What packages outside of the tree add, and that a bad one costs a line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.plugins import forked
from tests.plugins.packages import FORMAT, LENS, PANE, RIVALS, SOURCE, install

pytestmark = pytest.mark.xdist_group("plugins")  # one process to fork from

LOOK = ("snapshot", "builtin:sort", "--prompt", "CAB")


def first_here(*cases: tuple[object, ...]) -> list[object]:
    """Return the cases; all except the first one run with the slow tests, for each is a start."""
    return [cases[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in cases[1:])]


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run llmscope with the packages of a folder installed."""
    return _run(folder, [*map(str, words)], None)


def python(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the packages of a folder installed."""
    return _run(folder, [*words], code)


def _run(folder: Path, words: list[str], code: str | None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "NO_COLOR": "1", "LLMSCOPE_STATE": str(folder / "state")}
    return forked.run(words, code, folder, environ)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path / "site", "their_format", FORMAT, formats="lines = LINES")
    install(tmp_path / "site", "their_pane", PANE, panes="place = PlacePane")
    return install(tmp_path / "site", "their_lens", LENS, lenses="place = LENS")


def test_a_format_is_written_by_name_and_by_suffix(folder: Path, tmp_path: Path) -> None:
    done = run(folder, *LOOK, "--lens", "place", "--format", "lines")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "# place\n0,1,2\n"
    file = tmp_path / "a.lines"
    assert run(folder, *LOOK, "--lens", "place", "--out", file).returncode == 0
    assert file.read_text() == done.stdout


def test_a_format_is_named_where_another_is_wrong(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "cvs")
    assert done.returncode == 2
    assert "html, lines" in " ".join(done.stderr.split())


def test_a_format_takes_a_list_and_refuses_keys(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "tokens", "--lens", "place", "--format", "lines")
    assert done.stdout.startswith("# tokens\nnan,")
    assert done.stdout.endswith("# place\n0,1,2\n")


def test_a_lens_is_listed_and_computed(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "place", "--format", "json")
    (figure,) = json.loads(done.stdout)["figures"]
    assert figure["lens"] == "place"
    assert figure["values"] == [0, 1, 2]
    assert "place" in run(folder, "lenses").stdout


def test_an_option_of_a_lens_is_in_the_command_the_help_and_the_schema(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "place", "--lens", "tokens", "--first", "3")
    found = json.loads(done.stdout)
    assert found["figures"][0]["values"] == [3, 4, 5]
    assert found["focus"]["first"] == 3
    assert " --first 3 " in found["provenance"]["command"]
    told = " ".join(run(folder, "snapshot", "--help").stdout.split())
    assert "With --lens place: the number of the first token. [default: 0; x>=0]" in told
    assert "--first INTEGER The number of the first token." in " ".join(
        run(folder, "lenses", "place").stdout.split()
    )
    schema = json.loads(run(folder, "lenses", "--schema").stdout)
    assert schema["properties"]["focus"]["properties"]["first"] == {
        "type": "integer",
        "minimum": 0,
        "description": "The number of the first token.",
    }
    wrong = run(folder, *LOOK, "--lens", "place", "--first", "-1")
    assert wrong.returncode == 2
    assert "--first" in wrong.stderr


def test_ranks_that_a_lens_declares_may_differ_by_ties_in_a_batch(tmp_path: Path) -> None:
    """Prompts run together only if that gives the same numbers, or ranks that ties allow."""
    folder = install(tmp_path / "site", "their_rivals", RIVALS, lenses="rivals = RIVALS")
    install(folder, "their_loners", RIVALS, lenses="loners = LONERS")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("CAB\nABC\n")
    for name, said in (("rivals", ""), ("loners", "place other ids or ranks")):
        words = ("snapshot", "builtin:sort", "--prompts", prompts, "--lens", name)
        done = run(folder, *words, "--out", tmp_path / name)
        assert done.returncode == 0
        assert ("the prompts go one by one" in done.stderr) == bool(said)
        assert said in done.stderr


def screen(folder: Path, keys: str) -> str:
    """Return the screen after some keys, in the workspace of the pane."""
    words = ("--lens", "screen", "--workspace", "heads", "--size", "200x40", "--format", "txt")
    done = run(folder, *LOOK, *words, "--keys", keys)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_pane_is_on_the_screen_and_in_the_palette(folder: Path) -> None:
    assert "╭─ Place · verified" in screen(folder, "escape")
    listed = screen(folder, 'escape ctrl+p type:"where each"')
    assert "pane: where each token is" in listed


def test_a_pane_has_a_help_page_and_a_command_with_the_option_of_its_lens(folder: Path) -> None:
    reached = 'escape ctrl+p type:"where each" enter'
    page = screen(folder, f"{reached} ?")
    assert "Where is each token?" in page
    assert "Left and right move by tokens." in page
    menu = screen(folder, f"{reached} y")
    assert "llmscope snapshot builtin:sort --lens place --prompt=CAB" in menu
    assert "--first 5 --format txt" in menu


def test_a_pane_shows_the_figure_of_a_snapshot(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    assert run(folder, *LOOK, "--lens", "place", "--out", file).returncode == 0
    code = (
        "import sys; from pathlib import Path;"
        "from llmscope.tui.modes.replay.reader import read_snapshot;"
        "from llmscope.tui.modes.replay.pane_map import panes_of_figures;"
        "snapshot = read_snapshot(Path(sys.argv[1]));"
        "print([pane.kind for pane in panes_of_figures(snapshot.figures, snapshot.focus)])"
    )
    done = python(folder, code, str(file))
    assert done.stdout == "['place']\n", done.stderr


@pytest.mark.parametrize(
    ("old", "new", "told"),
    first_here(
        ("class PlacePane", "1 / 0\nclass PlacePane", "cannot be loaded: ZeroDivisionError"),
        ("class PlacePane(LensPane)", "class PlacePane(dict)", "is left out: it is no FigurePane"),
        ('str] = "place"', 'str] = "map"', "is left out: the name map is taken"),
        ('str] = "heads"', 'str] = "nowhere"', "is left out: there is no workspace 'nowhere'"),
        ("title:", "other:", "is left out: it has no title"),
    ),
)
def test_a_bad_pane_costs_a_note(tmp_path: Path, old: str, new: str, told: str) -> None:
    install(tmp_path / "site", "their_lens", LENS, lenses="place = LENS")
    module = PANE.replace(old, new, 1)
    folder = install(tmp_path / "site", "their_pane", module, panes="place = PlacePane")
    done = run(folder, *LOOK, "--lens", "screen", "--size", "100x30", "--format", "txt")
    assert done.returncode == 0
    assert "╭─ Map · " in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: place in llmscope.panes, of their_pane ")
    assert told in line


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return install(tmp_path / "site", "their_source", SOURCE, sources="copy = COPY")


def test_a_model_of_a_source_opens_and_is_named_by_its_spec(copies: Path) -> None:
    words = ("snapshot", "copy:one", "--prompt", "CAB", "--lens", "next-token")
    found = json.loads(run(copies, *words).stdout)
    own = json.loads(run(copies, *LOOK, "--lens", "next-token").stdout)
    assert found["model"]["spec"] == "copy:one"
    assert found["figures"] == own["figures"]
    assert found["provenance"]["command"].startswith("llmscope snapshot copy:one ")


def test_a_source_is_in_the_help_the_list_and_an_error(copies: Path) -> None:
    for command in ("open", "snapshot", "bake"):
        told = " ".join(run(copies, command, "--help").stdout.split())
        assert "FILE.gguf, a folder or copy:NAME." in told, command
    assert "copy:one" in run(copies, "models").stdout
    wrong = run(copies, "snapshot", "no such", "--lens", "tokens", "--prompt", "A")
    assert "or copy:NAME" in " ".join(wrong.stderr.split())


def test_the_model_picker_lists_a_source_under_its_title(copies: Path) -> None:
    code = (
        "from llmscope.tui.features.models.model_catalog import Catalogue, offers;"
        "from llmscope.tui.features.models.model_picker import asked;"
        "found = Catalogue(); found.add(offers());"
        "print([(one.spec, one.group) for one in found.matching('copy:')], asked())"
    )
    done = python(copies, code)
    assert "('copy:one', 'copies')" in done.stdout
    assert done.stdout.rstrip().endswith("ollama:NAME, copy:NAME")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    first_here(
        ("COPY = Source", "1 / 0\nCOPY = Source", "cannot be loaded: ZeroDivisionError"),
        ('Source("copy"', 'Source("pypi"', "is left out: the name pypi is taken"),
        ('Source("copy"', 'Source("a b"', "is left out: 'a b' is no word of small letters"),
        ("parse, fetch, stored", "parse", "is left out: it needs `parse` and `fetch`"),
    ),
)
def test_a_bad_source_costs_a_note(tmp_path: Path, old: str, new: str, told: str) -> None:
    module = SOURCE.replace(old, new, 1)
    folder = install(tmp_path / "site", "their_source", module, sources="copy = COPY")
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "txt")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: copy in llmscope.sources, of their_source ")
    assert told in line


@pytest.mark.parametrize(
    ("place", "words", "code", "told"),
    first_here(
        ("return Weights", ("snapshot", "copy:one", *LOOK[2:], "--lens", "tokens"), 1, "copy:one"),
        ("return Spec", ("snapshot", "copy:one", *LOOK[2:], "--lens", "tokens"), 1, "division"),
        ("yield Stored", ("models",), 0, "the models of copy cannot be listed"),
    ),
)
def test_a_source_that_fails_costs_a_line(
    tmp_path: Path, place: str, words: tuple[str, ...], code: int, told: str
) -> None:
    module = SOURCE.replace(place, f"1 / 0; {place}", 1)
    folder = install(tmp_path / "site", "their_source", module, sources="copy = COPY")
    done = run(folder, *words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert told in done.stderr


def test_an_option_of_a_lens_is_a_keyword_in_python(folder: Path) -> None:
    code = (
        "import llmscope; scope = llmscope.load('builtin:sort'); scope.record('CAB');"
        "print(scope.look('place', first=4).values.tolist());"
        "scope.look('place', first='x')"
    )
    done = python(folder, code)
    assert done.stdout == "[4.0, 5.0, 6.0]\n"
    assert (
        done.stderr.splitlines()[-1]
        == "llmscope.errors.WrongTypeError: first must be an integer, not 'x'"
    )


@pytest.mark.parametrize(
    ("declared", "told"),
    first_here(
        ('LensOption("first", "colour", 0)', "ValueError: option 'first': no type 'colour'"),
        ('LensOption("size", "text", "")', "its option size is one of llmscope snapshot's own"),
        ('LensOption("pool", "text", "")', "its option pool is another lens's, declared in anoth"),
        ('LensOption("a-b", "text", "")', "ValueError: an option's name must be an identifier"),
        ("7", "TypeError lens place: 7 is no LensOption"),
    ),
)
def test_a_lens_with_a_wrong_option_costs_a_note(tmp_path: Path, declared: str, told: str) -> None:
    module = LENS.replace("FIRST = LensOption(", f"FIRST = {declared}  # (", 1)
    folder = install(tmp_path / "site", "their_lens", module, lenses="place = LENS")
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "txt")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: place in llmscope.lenses, of their_lens ")
    assert told in line


def test_no_lens_may_take_the_name_of_another_option() -> None:
    from llmscope.cli.commands.snapshot import snapshot_command
    from llmscope.lenses import command_options
    from llmscope.lenses.options import RESERVED

    declared = {option.name for option in command_options()}
    own = {one.name for one in snapshot_command().params} - declared
    assert own <= RESERVED
    assert not RESERVED & declared


@pytest.mark.parametrize(
    ("module", "entry", "told"),
    first_here(
        (
            "raise ImportError('no')",
            "lines = LINES",
            "cannot be loaded: ImportError: no",
        ),
        ("raise SystemExit(3)", "lines = LINES", "cannot be loaded: SystemExit 3"),
        ("LINES = 7", "lines = LINES", "is left out: it is no Format"),
        ("x = 1", "lines = LINES", "cannot be loaded: AttributeError"),
        (FORMAT.replace('"lines"', '"svg"'), "svg = LINES", "is left out: the name svg is taken"),
    ),
)
def test_a_bad_package_costs_a_note_that_names_it(
    tmp_path: Path, module: str, entry: str, told: str
) -> None:
    folder = install(tmp_path / "site", "their_format", module, formats=entry)
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "txt")
    assert done.returncode == 0
    assert "Tokens" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"note: {entry.partition(' ')[0]} in llmscope.formats, of their_format")
    assert told in line


def test_two_lenses_of_one_name(tmp_path: Path) -> None:
    folder = install(
        tmp_path / "site", "first_lens", LENS.replace('"place"', '"tokens"'), lenses="a = LENS"
    )
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "json")
    (line,) = done.stderr.splitlines()
    assert line == (
        "note: a in llmscope.lenses, of first_lens is left out: the name tokens is taken"
    )
    assert json.loads(done.stdout)["figures"][0]["unit"] == "bits"
