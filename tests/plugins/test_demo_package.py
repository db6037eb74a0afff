"""The package in demo/plugin: what it adds, who is said to give it, and its version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import forked
from tests.plugins.packages import FORMAT, install, install_project

pytestmark = pytest.mark.xdist_group("plugins")  # one process to fork from

ROOT = Path(__file__).parents[2]
PACKAGE = {"name": "llmscope-lab", "version": "0.1"}
LOOK = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "margin", "--format", "tsv")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return install_project(tmp_path / "site", ROOT / "demo" / "plugin")


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "NO_COLOR": "1", "LLMSCOPE_STATE": str(folder / "state"), **environ}
    return forked.run([*words], None, folder, given)


@pytest.mark.slow
def test_its_own_tests_pass(lab: Path) -> None:
    options = ("-n", "0", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(lab))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(ROOT / "demo" / "plugin" / "test_lab.py")],
        env={**os.environ, "PYTHONPATH": f"{lab}{os.pathsep}{ROOT}"},
        cwd=lab,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_its_modules_are_as_short_as_the_page_says() -> None:
    lines = [
        line
        for path in sorted((ROOT / "demo/plugin/llmscope_lab").glob("*.py"))
        for line in path.read_text().splitlines()
        if line.strip() and not line.strip().startswith(('"""', "import ", "from ", "#"))
    ]
    assert 30 <= len(lines) <= 60


def test_its_lens_and_format_are_used_by_name(lab: Path) -> None:
    done = run(lab, *LOOK, "--against", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        ["margin", repr(letter)] for letter in "CAB"
    ]
    shown = (ROOT / "docs/plugins.md").read_text().partition("```\nmargin")[2]
    assert f"margin{shown.partition(chr(10))[0]}" == run(lab, *LOOK).stdout.splitlines()[0]


def test_lenses_lists_who_gives_what(lab: Path) -> None:
    done = run(lab, "lenses")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("margin ")]
    assert line.endswith("How clear was the choice after each token?  [llmscope-lab 0.1]")
    assert done.stdout.count("llmscope-lab 0.1") == 4
    listed = done.stdout.partition("other packages also add\n")[2]
    assert [tuple(row.split()) for row in listed.splitlines()] == [
        (kind, name, "llmscope-lab", "0.1")
        for kind, name in (("pane", "margin"), ("format", "tsv"), ("source", "lab"))
    ]
    assert "\nfrom llmscope-lab 0.1\n" in run(lab, "lenses", "margin").stdout


def test_json_names_the_package_of_a_lens_and_of_a_model(lab: Path) -> None:
    found = json.loads(run(lab, "lenses", "--json").stdout)
    packages = {one["name"]: one["package"] for one in found["lenses"]}
    assert packages.pop("margin") == PACKAGE
    assert set(packages.values()) == {None}
    assert {(one["kind"], one["name"]) for one in found["plugins"]} == {
        *(("lens", "margin"), ("pane", "margin"), ("format", "tsv"), ("source", "lab"))
    }
    from llmscope.models.sources.builtin import home

    models = run(lab, "models", "--format", "json", LAB_MODELS=str(home()))
    of = {one["spec"]: one["package"] for one in json.loads(models.stdout)["models"]}
    assert of["lab:sort"] == PACKAGE
    assert of["builtin:sort"] is None
    listed = run(lab, "models", LAB_MODELS=str(home())).stdout
    assert re.search(r"^lab:sort .* from llmscope-lab 0\.1$", listed, re.M)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("2", "it is made for version 2 of the interface, and this llmscope has 1 (try: a newer"),
        ("newest", "llmscope.interface names a version such as 1, not 'newest'"),
        ("0", "llmscope.interface names a version such as 1, not '0'"),
    ],
)
def test_a_package_of_another_interface_is_not_imported(
    tmp_path: Path, version: str, told: str
) -> None:
    module = f"{FORMAT}\nprint('imported')\n"
    folder = install(tmp_path / "site", "theirs", module, formats="lines = LINES")
    entries = folder / "theirs-1.0.dist-info" / "entry_points.txt"
    entries.write_text(
        f"{entries.read_text()}[llmscope.lenses]\nx = theirs:LINES\n"
        f"[llmscope.interface]\n{version} = theirs\n"
    )
    words = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "tokens", "--format", "txt")
    done = run(folder, *words)
    assert done.returncode == 0
    assert "imported" not in done.stdout
    (line,) = done.stderr.splitlines()  # one for both of its parts
    assert line.startswith(f"note: theirs 1.0 is left out: {told}")
    assert "theirs" not in run(folder, "lenses").stdout


def test_a_package_of_an_interface_that_is_too_old_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmscope import plugins

    folder = install_project(tmp_path, ROOT / "demo" / "plugin")
    monkeypatch.syspath_prepend(folder)
    assert len(plugins.registered()) == 4
    monkeypatch.setattr(plugins, "INTERFACE", 3)
    monkeypatch.setattr(plugins, "OLDEST", 2)
    assert plugins.registered() == []
    assert plugins.with_plugins("formats", object, {}) == {}
    (line,) = plugins.take_flaws()
    assert "made for version 1 of the interface, and this llmscope takes 2 or later" in line
