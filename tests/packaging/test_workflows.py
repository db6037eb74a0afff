"""The hosted service runs commands that are here, and its forms ask for what helps."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmscope import __version__

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [
    path
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    if path.stem != "config"
]
SCRIPT = re.compile(r"bash (\.ci/\w+)")
pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no workflows")


def read(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return content


def commands(path: Path) -> list[str]:
    steps = [step for job in read(path)["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_scripts_of_the_checkout(path: Path) -> None:
    scripts = SCRIPT.findall("\n".join(commands(path)))
    assert all((ROOT / script).is_file() for script in scripts)
    assert all(len(command.splitlines()) <= 6 for command in commands(path)), "a script of its own"


def test_landing_and_hosted_checks_are_the_same() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "bash .ci/checks" in script
    assert "bash .ci/checks" in commands(ROOT / ".github" / "workflows" / "checks.yml")
    assert script.rstrip().endswith("\npytest"), "the README's own command, with no choice"


def test_nothing_but_a_release_may_write() -> None:
    for path in WORKFLOWS:
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"}
        writing = [
            name
            for name, job in workflow["jobs"].items()
            if "write" in (job.get("permissions") or {}).values()
        ]
        assert not writing or path.stem in ("docs", "release")


def notes(version: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / ".ci" / "notes"), version]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_notes_of_a_release_are_those_of_the_changelog() -> None:
    printed = notes(__version__)
    assert printed.returncode == 0
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = changelog.split(f"## [{__version__}]")[1].split("\n## [")[0]
    assert printed.stdout.strip() == section.partition("\n")[2].strip()


def test_a_version_that_the_changelog_lacks_has_no_notes() -> None:
    printed = notes("99.0.0")
    assert printed.returncode == 1
    assert printed.stderr == "CHANGELOG.md says nothing of 99.0.0\n"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_what_the_program_prints(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    required = [field for field in form["body"] if field.get("validations", {}).get("required")]
    assert len(required) >= 2
    labels = " ".join(field["attributes"]["label"] for field in form["body"])
    descriptions = " ".join(field["attributes"].get("description", "") for field in form["body"])
    assert "llmscope doctor" in labels + descriptions
