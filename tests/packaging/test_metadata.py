"""What the two distributions say of themselves, and that both hold the whole package."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

import llmscope
from llmscope.support.distributions import FULL, LEFT_OUT, LIGHT

ROOT = Path(__file__).parents[2]
LIGHT_HOME = ROOT / "packaging" / "light"


def read(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def full():
    return read(ROOT)


@pytest.fixture(scope="module")
def light():
    return read(LIGHT_HOME)


def requirements(record: dict) -> dict[str, str]:
    """Return the specifiers by name, of the dependencies and all extras."""
    groups = record["project"].get("optional-dependencies", {}).values()
    texts = [*record["project"]["dependencies"], *(one for group in groups for one in group)]
    found = map(Requirement, texts)
    return {f"{one.name}[{','.join(sorted(one.extras))}]": str(one.specifier) for one in found}


def test_the_names(full, light):
    assert (full["project"]["name"], light["project"]["name"]) == (FULL, LIGHT)


def test_the_version_is_in_one_place(full, light):
    for record, home in ((full, ROOT), (light, LIGHT_HOME)):
        assert "version" not in record["project"]
        assert record["project"]["dynamic"] == ["version"]
        source = (home / record["tool"]["hatch"]["version"]["path"]).resolve()
        assert source == ROOT / "llmscope" / "version.py"
        found = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.MULTILINE)
        assert found is not None
        assert found[1] == llmscope.__version__


def test_the_changelog_and_the_citation_are_of_this_version():
    headings = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", changelog(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    assert (version, bool(date)) == (llmscope.__version__, True)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert "cff-version: 1.2.0\n" in citation
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date.removeprefix(' - ')}\n" in citation


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_commands(full, light):
    ours = full["project"]["scripts"]
    theirs = light["project"]["scripts"]
    assert set(ours) == {"llmscope", FULL}
    assert set(theirs) == {*ours, LIGHT}
    assert set(ours.values()) | set(theirs.values()) == {"llmscope_tui:main"}


def test_the_light_one_requires_nothing_that_the_full_one_does_not(full, light):
    ours, theirs = requirements(full), requirements(light)
    assert theirs.items() <= ours.items(), theirs.items() - ours.items()


def test_the_light_one_leaves_out_what_it_says(full, light):
    required = {Requirement(one).name for one in light["project"]["dependencies"]}
    ours = {Requirement(one).name for one in full["project"]["dependencies"]}
    assert not required & {"torch", "transformers", "pyarrow"}
    left = {name.replace("_", "-") for name in LEFT_OUT}
    assert left <= ours - required


def test_what_both_say_alike(full, light):
    for key in ("requires-python", "license", "classifiers"):
        assert full["project"][key] == light["project"][key]
    assert full["build-system"] == light["build-system"]


def test_no_address_is_invented(full, light):
    assert "urls" not in full["project"]
    assert "urls" not in light["project"]


def test_both_hold_the_same_folders(full, light):
    wheel = full["tool"]["hatch"]["build"]["targets"]["wheel"]
    theirs = light["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    places = {(ROOT / name).resolve(): to for name, to in wheel["force-include"].items()}
    found = {(LIGHT_HOME / name).resolve(): to for name, to in theirs.items()}
    assert found.pop(ROOT / "LICENSE") == "llmscope/LICENSE"
    package = ROOT / "llmscope_tui"  # `packages` of the full one has it
    assert found.pop(package) == "llmscope_tui"
    assert found == places
    assert all(path.is_dir() for path in places)


def test_the_light_one_holds_the_package_without_its_models(full, monkeypatch):
    assert full["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "llmscope",
        "llmscope_tui",
    ]
    interface = "hatchling.builders.hooks.plugin.interface"  # only builds need hatchling
    monkeypatch.setitem(sys.modules, interface, SimpleNamespace(BuildHookInterface=object))
    hook = runpy.run_path(str(LIGHT_HOME / "hatch_build.py"))
    data = {"force_include": {}}
    hook["LightBuildHook"]().initialize("standard", data)
    found = data["force_include"]
    assert all(str(ROOT / place) == source for source, place in found.items())
    every = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "llmscope").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    left = [name.split("/") for name in every - set(found.values())]
    assert {tuple(parts[:2]) for parts in left} == {("llmscope", "builtin")}
    folders = {path.name for path in (ROOT / "llmscope" / "builtin").iterdir() if path.is_dir()}
    assert {parts[2] for parts in left} == folders - {"town-run", "__pycache__"}
    assert "llmscope/builtin/town-run/run.json" in found.values()


def test_textual_and_transformers_are_ranges(full):
    ranges = {one.name: one for one in map(Requirement, full["project"]["dependencies"])}
    for name in ("textual", "transformers"):
        operators = {one.operator for one in ranges[name].specifier}
        assert operators == {">=", "<"}, name


def test_the_container_copies_what_exists_and_nothing_else_is_sent():
    home = ROOT / "packaging" / "docker"
    text = (home / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    copied = [
        source
        for line in text.splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert "llmscope" in copied
    for source in copied:
        assert (ROOT / source).exists(), source
    sent = (home / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert sent[0] == "*"
    assert {line.removeprefix("!") for line in sent[1:] if line.startswith("!")} == set(copied)
    # What the wheel is built from has to be there.
    wheel = read(ROOT)["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = read(ROOT)["project"]
    needed = [*wheel["packages"], *wheel["force-include"], "pyproject.toml", project["readme"]]
    assert set(needed) | set(project["license-files"]) == set(copied)


def test_the_container_has_both_targets_and_no_rights():
    text = (ROOT / "packaging" / "docker" / "Dockerfile").read_text("utf-8")
    stages = re.split(r"^FROM \S+ AS (\w+)$", text, flags=re.MULTILINE)
    by_name = dict(zip(stages[1::2], stages[2::2], strict=True))
    assert set(by_name) == {"base", "cpu", "cuda"}
    assert "whl/cpu" in by_name["cpu"]
    assert "whl/cpu" not in by_name["cuda"]
    for name in ("cpu", "cuda"):
        after_installing = by_name[name].partition("pip install")[2]
        assert "\nUSER llmscope\n" in after_installing
