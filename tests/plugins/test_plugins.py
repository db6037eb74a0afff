"""What packages outside of the tree add, and that a bad one costs a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.packages import FORMAT, LENS, install

LOOK = ("snapshot", "builtin:sort", "--prompt", "CAB")


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run llmscope with the packages of a folder installed."""
    environ = {**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1"}
    environ["LLMSCOPE_STATE"] = str(folder / "state")
    command = [sys.executable, "-m", "llmscope", *map(str, words)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path / "site", "their_format", FORMAT, formats="csv = CSV")
    return install(tmp_path / "site", "their_lens", LENS, lenses="place = LENS")


def test_a_format_is_written_by_name_and_by_suffix(folder: Path, tmp_path: Path) -> None:
    done = run(folder, *LOOK, "--lens", "place", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "# place\n0,1,2\n"
    file = tmp_path / "a.csv"
    assert run(folder, *LOOK, "--lens", "place", "--out", file).returncode == 0
    assert file.read_text() == done.stdout


def test_a_format_is_named_where_another_is_wrong(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "tokens", "--format", "cvs")
    assert done.returncode == 2
    assert "html, csv" in " ".join(done.stderr.split())


def test_a_format_takes_a_list_and_refuses_keys(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "tokens", "--lens", "place", "--format", "csv")
    assert done.stdout.startswith("# tokens\nnan,")
    assert done.stdout.endswith("# place\n0,1,2\n")


def test_a_lens_is_listed_and_computed(folder: Path) -> None:
    done = run(folder, *LOOK, "--lens", "place", "--format", "json")
    (figure,) = json.loads(done.stdout)["figures"]
    assert figure["lens"] == "place"
    assert figure["values"] == [0, 1, 2]
    assert "place" in run(folder, "lenses").stdout


@pytest.mark.parametrize(
    ("module", "entry", "told"),
    [
        ("raise ImportError('no such thing')", "csv = CSV", "cannot be loaded: ImportError: no"),
        ("raise SystemExit(3)", "csv = CSV", "cannot be loaded: SystemExit 3"),
        ("CSV = 7", "csv = CSV", "is left out: it is no Format"),
        ("x = 1", "csv = CSV", "cannot be loaded: AttributeError"),
        (FORMAT.replace('"csv"', '"svg"'), "svg = CSV", "is left out: the name svg is taken"),
    ],
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
