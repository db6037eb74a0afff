"""The smallest plug-in of docs/plugins.md: its files, its command and its test, as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.plugins import forked
from tests.plugins.packages import install

pytestmark = pytest.mark.xdist_group("plugins")  # one process to fork from
PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
SECTION = PAGE.partition("## The smallest one\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", SECTION, re.M | re.S)


def blocks(kind: str) -> list[str]:
    """Return the page's blocks of a kind."""
    return [text for name, text in BLOCKS if name == kind]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (project,), (module, _) = blocks("toml"), blocks("python")
    about = tomllib.loads(project)
    assert about["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["repeats.py"]
    entries = {
        group.removeprefix("llmscope."): next(
            f"{name} = {target.removeprefix('repeats:')}" for name, target in named.items()
        )
        for group, named in about["project"]["entry-points"].items()
    }
    assert list(entries) == ["interface", "lenses"]
    return install(tmp_path / "site", about["project"]["name"], module, **entries)


def run(site: Path, words: list[str], code: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "NO_COLOR": "1", "LLMSCOPE_STATE": str(site / "state")}
    return forked.run(words, code, site, environ)


def test_its_command_prints_what_stands_there(site: Path) -> None:
    (command,), (picture,) = blocks("sh"), blocks("")
    name, *words = shlex.split(command)
    assert name == "llmscope"
    done = run(site, words)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row.rstrip() for row in done.stdout.splitlines()] == picture.splitlines()


def test_its_own_test_passes_and_can_fail(site: Path) -> None:
    _, test = blocks("python")
    assert run(site, [], test).returncode == 0
    assert "AssertionError" in run(site, [], test.replace("CABAC", "CABBB")).stderr


@pytest.mark.slow
def test_pip_builds_it_from_the_two_files(tmp_path: Path) -> None:
    (project,), (module, _) = blocks("toml"), blocks("python")
    (tmp_path / "pyproject.toml").write_text(project)
    (tmp_path / "repeats.py").write_text(module)
    options = ("--no-deps", "--target", tmp_path / "site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *options, tmp_path]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "repeats 0.1" in run(tmp_path / "site", ["lenses"]).stdout
