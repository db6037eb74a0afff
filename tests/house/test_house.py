"""The package weighs no more than its limits, and the measures count what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.figures import AIMS, exceeded, figures, limits
from tests.house.measure import (
    Source,
    floors,
    imported_parts,
    pointing_up,
    repeated_classes,
    sources,
)

FILES = {
    "a/__init__.py": "",
    "a/deep.py": '"""Doc.\n\nMore."""\n\nimport os\n\n\n'
    'class Row:\n    """A row."""\n\n    x = 1  # why\n',
    "b.py": "from pack.a.deep import Row\n\n\ndef f(one):\n    found = one\n    import pack.c\n",
    "c.py": "import pack.b\n\n\nclass Row:\n    y = (\n        1\n    )\n",
}


@pytest.fixture
def package(tmp_path: Path) -> list[Source]:
    for name, content in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return sources(tmp_path / "pack")


def test_lines_of_code_are_those_without_comments_docstrings_and_imports(
    package: list[Source],
) -> None:
    assert {source.module: source.code_lines for source in package} == {
        "pack.a": 0,
        "pack.a.deep": 2,
        "pack.b": 2,
        "pack.c": 4,
    }


def test_floors_stand_above_what_they_import(package: list[Source]) -> None:
    assert imported_parts(package, "pack") == {"a": set(), "b": {"a", "c"}, "c": {"b"}}
    at_import = imported_parts(package, "pack", at_import=True)
    assert at_import == {"a": set(), "b": {"a"}, "c": {"b"}}
    assert floors(at_import) == {"a": 1, "b": 2, "c": 3}
    assert floors(imported_parts(package, "pack")) == {"a": 1, "b": 2, "c": 2}
    assert pointing_up(package, "pack") == [("b", "c")]


def test_names_are_counted(package: list[Source]) -> None:
    assert [name for source in package for name in source.vague_names()] == ["one", "found"]
    assert repeated_classes(package) == {"Row": 2}


def test_the_package_keeps_its_limits() -> None:
    assert set(limits()) == set(AIMS)
    assert exceeded(figures(), limits()) == []
