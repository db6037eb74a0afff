"""Try the newest version of a library, or of all, above the bounds of pyproject.toml; see `bounds`.

Usage: python .ci/bounds.py [LIBRARY | --all]   (ends with 1 where a test fails)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TOUCHES = {
    "transformers": "tests/models tests/record tests/lenses tests/engine tests/test_scope.py",
    "tokenizers": "tests/models/tokenizer tests/engine tests/lenses tests/corpus",
    "torch": "tests/models tests/record tests/lenses tests/learned tests/jobs",
    "peft": "tests/models/loading tests/hostile tests/runs tests/record/compare",
    "textual": "tests/tui tests/golden tests/web",
    "llama-cpp-py-sync": "tests/models/llama tests/cli",
}
"""By library whose insides are read, the tests of what reads them."""


def requirements() -> dict[str, str]:
    """Return what the package and its tests require, by name, as it is written."""
    texts = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    return {re.split(r"[^\w-]", text)[0]: text for text in texts}


def unbounded(text: str) -> str:
    """Return a requirement without its upper bound."""
    requirement, semicolon, marker = text.partition(";")
    return re.sub(r",?<=?[\w.]+", "", requirement) + semicolon + marker


def newest_on_the_index(library: str) -> str:
    """Return the newest version that the package index has."""
    command = (sys.executable, "-m", "pip", "index", "versions", library)
    done = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"\(([^)]+)\)", done.stdout)
    return match[1] if match else "not known"


def print_bounds() -> None:
    """Print a line for each library whose insides are read."""
    texts = requirements()
    for library in TOUCHES:
        print(f"{texts[library]:32} newest: {newest_on_the_index(library)}")


def try_newest(libraries: list[str], tests: str) -> int:
    """Install newest versions in a fresh environment, run tests, and print a line a file.

    Args:
        libraries: those without an upper bound.
        tests: what pytest is given.

    Returns:
        The exit code of the tests.
    """
    texts = requirements()
    with tempfile.TemporaryDirectory() as work:
        venv, report = Path(work) / "venv", Path(work) / "report.xml"
        subprocess.run((sys.executable, "-m", "venv", venv), check=True)
        pip = (venv / "bin" / "pip", "install", "--quiet")
        wanted = [unbounded(text) if name in libraries else text for name, text in texts.items()]
        subprocess.run((*pip, "--upgrade", *wanted), check=True)
        subprocess.run((*pip, "--no-deps", "."), cwd=ROOT, check=True)
        shown = f"{venv}/bin/pip list --format=freeze"
        versions = subprocess.run(shown.split(), capture_output=True, text=True).stdout.split()
        for library in libraries:
            print(next((line for line in versions if line.startswith(f"{library}==")), library))
        command = [venv / "bin" / "python", "-m", "pytest", f"--junitxml={report}", *tests.split()]
        variables = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        variables |= {"LLMSCOPE_STATE": f"{work}/state", "HYPOTHESIS_PROFILE": "landing"}
        code = subprocess.run(command, cwd=ROOT, env=variables).returncode
        counts = Counter[tuple[str, bool]]()
        for case in ElementTree.parse(report).getroot().iter("testcase"):  # written by pytest
            red = case.find("failure") is not None or case.find("error") is not None
            counts[case.get("classname", "").replace(".", "/"), red] += 1
        for file in sorted({file for file, _ in counts}):
            if counts[file, True]:
                print(f"{file:60} {counts[file, False]:5} passed  {counts[file, True]:4} FAILED")
        print(f"{sum(counts[key] for key in counts if not key[1])} passed, ", end="")
        print(f"{sum(counts[key] for key in counts if key[1])} failed")
    return code


def main(arguments: list[str]) -> int:
    """Do what the command line asks; return the exit code."""
    if not arguments:
        print_bounds()
        return 0
    (name,) = arguments
    if name == "--all":
        return try_newest(list(requirements()), "tests")
    if name not in TOUCHES:
        raise SystemExit(f"{name!r} has no bound that is raised here (try: {', '.join(TOUCHES)})")
    return try_newest([name], TOUCHES[name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
