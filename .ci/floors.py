"""Print each direct dependency: what pyproject.toml allows at least, and what is installed.

Usage: python .ci/floors.py [EXTRA...]   (ends with 1 where a floor is not the version installed)
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))[
    "project"
]


def floors(extras: list[str]) -> dict[str, Version]:
    """Return the lowest version allowed of each dependency, by name."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return {
        requirement.name: Version(specifier.version)
        for requirement in map(Requirement, texts)
        if requirement.marker is None or requirement.marker.evaluate()
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }


if __name__ == "__main__":
    untrue = False
    for name, floor in sorted(floors(sys.argv[1:]).items()):
        installed = Version(Version(version(name)).public)  # a build for the CPU is of that version
        untrue |= installed != floor
        sys.stdout.write(
            f"{name:24} {floor!s:10} {installed}{'' if installed == floor else '  *'}\n"
        )
    sys.exit(untrue)
