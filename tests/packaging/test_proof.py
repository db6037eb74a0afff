"""What `.ci/all` and `.ci/bounds` make of their arguments, of logs and of pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

CI = Path(__file__).parents[2] / ".ci"
pytestmark = pytest.mark.skipif(not CI.is_dir(), reason="a source distribution has no .ci")


@pytest.fixture(scope="module")
def proof() -> dict[str, Any]:
    return runpy.run_path(str(CI / "all.py"))


@pytest.fixture(scope="module")
def bounds() -> dict[str, Any]:
    return runpy.run_path(str(CI / "bounds.py"))


@pytest.mark.parametrize("count", [1, 4, 6, 50])
def test_each_part_is_in_one_share(proof: dict[str, Any], count: int) -> None:
    every = proof["parts"]()
    shares = [
        part.name
        for number in range(1, count + 1)
        for part in proof["chosen"](every, f"{number}/{count}", [])
    ]
    assert sorted(shares) == sorted(part.name for part in every)
    assert len(set(shares)) == len(shares)


def test_all_slow_tests_are_in_a_part(proof: dict[str, Any]) -> None:
    commands = [command for part in proof["parts"]() for command in part.commands]
    count = proof["SLOW"]
    for number in range(1, count + 1):
        assert f'pytest -m "slow and not endurance" --part {number}/{count}' in commands
    assert any('"slow and endurance"' in command for command in commands)


@pytest.mark.parametrize(
    ("share", "only", "why"),
    [("0/3", [], "not a share"), ("4/3", [], "not a share"), ("", ["pears"], "no part is called")],
)
def test_what_is_no_part_is_refused(proof: dict[str, Any], share: str, only: Any, why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        list(proof["chosen"](proof["parts"](), share, only))


def test_a_log_tells_what_was_red(proof: dict[str, Any]) -> None:
    log = """..F
FAILED tests/a.py::test_one[2] - AssertionError: no
ERROR tests/b.py::test_two
1 failed, 7 passed, 1 error in 3.20s
"""
    summary, failed = proof["read_log"](log)
    assert summary == "1 failed, 7 passed, 1 error in 3.20s"
    assert failed == ("tests/a.py::test_one[2]", "tests/b.py::test_two")
    assert proof["read_log"]("building\nno disk\n") == ("no disk", ())
    line = proof["Result"]("fuzz", 1.26, 1, summary, failed).line()
    assert " ".join(line.split()) == f"fuzz 1.3 min RED {summary} {', '.join(failed)}"


def test_libraries_whose_insides_are_read_have_an_upper_bound(bounds: dict[str, Any]) -> None:
    texts = bounds["requirements"]()
    for library in bounds["TOUCHES"]:
        assert "<" in texts[library], library
        assert bounds["unbounded"](texts[library]) == texts[library].partition(",")[0]
    assert (
        bounds["unbounded"]("a>=1,<2; sys_platform != 'win32'") == "a>=1; sys_platform != 'win32'"
    )


def test_what_touches_a_library_is_there(bounds: dict[str, Any]) -> None:
    for tests in bounds["TOUCHES"].values():
        assert all((CI.parent / path).exists() for path in tests.split())
