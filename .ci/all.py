"""Run the parts of the proof that `.ci/run` leaves out, and print a line for each.

Usage: python .ci/all.py [K/N] [--list] [--only PART]... [--again]

Results are kept by commit in a folder (`LLMSCOPE_ALL`, else one in the folder for temporary files):
a run that was cut off goes on with the parts that have none. Ends with 1 where a part is red.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW = 12
"""Parts of the slow tests."""
SHOWN = 5
"""Most failures that the line of a part names; its log has all."""
BUSY = "while True: pass"
SCREEN = (
    *("tests/tui/terminal", "tests/tui/prompt", "tests/tui/panes", "tests/tui/dialogs"),
    *("tests/tui/modes/replay", "tests/golden"),
)


@dataclass(frozen=True)
class Part:
    """A part of the proof.

    Attributes:
        name: as `--only` names it.
        commands: run one after the other in the environment, until one fails.
        requires: what is installed before, beside '.[test,docs]'.
        loops: busy loops that run beside it.
    """

    name: str
    commands: tuple[str, ...]
    requires: str = ""
    loops: int = 0


@dataclass(frozen=True)
class Result:
    """How a part ended.

    Attributes:
        name: of the part.
        minutes: how long it took.
        code: the exit code of the command that ended it; 0: it is green.
        summary: the last line of its tests, or the last line of its log.
        failed: the tests that failed.
    """

    name: str
    minutes: float
    code: int
    summary: str
    failed: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the result as a line of the table."""
        names = ", ".join(self.failed[:SHOWN])
        more = f" and {len(self.failed) - SHOWN} more" if len(self.failed) > SHOWN else ""
        red = f"  {names}{more}" if names else ""
        state = "green" if self.code == 0 else "RED"
        return f"{self.name:22} {self.minutes:6.1f} min  {state:5}  {self.summary}{red}"


def lowest(library: str) -> str:
    """Return the lowest version of a library that pyproject.toml allows."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    match = re.search(rf'"{library}>=([0-9.]+)', text)
    if match is None:
        raise SystemExit(f"pyproject.toml allows any version of {library}")
    return match[1]


def parts() -> tuple[Part, ...]:
    """Return all parts, in the order in which they run."""
    slow = tuple(
        Part(
            f"slow {number}/{SLOW}", (f'pytest -m "slow and not endurance" --part {number}/{SLOW}',)
        )
        for number in range(1, SLOW + 1)
    )
    return (
        Part("packages", ('bash .ci/packages "$WORK/packages"',)),
        Part("paper", ('python -m demo.paper --out "$WORK/llmscope.pdf"',)),
        Part(
            "busy", ('pytest -m "screen and not slow" tests/tui tests/golden tests/report',), "", 2
        ),
        Part(
            "lowest textual",
            (f"pytest {' '.join(SCREEN)} tests/tui/test_*.py",),
            f"textual=={lowest('textual')}",
        ),
        Part(
            "lowest transformers",
            ("pytest tests/models tests/record tests/lenses tests/test_scope.py",),
            f"transformers=={lowest('transformers')}",
        ),
        Part("lowest", ("bash .ci/floors lowest",)),
        Part("newest", ("bash .ci/bounds --all",)),
        Part("peers", ("pytest -n 0 tests/peers",), "'.[bench,train]'"),
        Part("sae-lens", ("pytest -n 0 tests/peers/test_sae_lens.py",), "'sae-lens>=6.54,<7'"),
        Part("fuzz", ("python -m tests.fuzz --count 300",)),
        *slow,
        Part("endurance", ('pytest -n 2 -m "slow and endurance"',)),
    )


def commit() -> str:
    """Return the name of the commit, with a mark where files differ from it."""
    git = ("git", "-C", str(ROOT))
    name = subprocess.run((*git, "rev-parse", "--short=12", "HEAD"), capture_output=True, text=True)
    changed = subprocess.run((*git, "status", "--porcelain"), capture_output=True, text=True)
    return (name.stdout.strip() or "none") + ("-changed" if changed.stdout.strip() else "")


def environment(folder: Path, name: str) -> dict[str, str]:
    """Return the variables of a part, with an environment of its own if it installs anything.

    Args:
        folder: where environments are made.
        name: of the environment.
    """
    venv = folder / "environments" / name
    if not (venv / "ready").exists():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run((sys.executable, "-m", "venv", venv), check=True)
        install(venv, "'.[test]'")
        install(venv, "'.[docs]'")
        (venv / "ready").touch()
    variables = {**os.environ, "HYPOTHESIS_PROFILE": "landing", "VIRTUAL_ENV": str(venv)}
    variables["PATH"] = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # each worker would compile all tests anew
    return variables


def install(venv: Path, what: str) -> None:
    """Install requirements, as a shell reads them, into an environment."""
    subprocess.run(f"{venv}/bin/pip install --quiet {what}", shell=True, cwd=ROOT, check=True)


def run(part: Part, folder: Path) -> Result:
    """Run a part; its log is `NAME.log` in the folder of the results."""
    begun = time.monotonic()
    log = folder / f"{part.name.replace(' ', '-').replace('/', '-of-')}.log"
    loops = [subprocess.Popen((sys.executable, "-c", BUSY)) for _ in range(part.loops)]
    code = 0
    try:
        with tempfile.TemporaryDirectory() as work, log.open("w", encoding="utf-8") as output:
            name = "with " + part.name if part.requires else "plain"
            variables = environment(folder.parent, name.replace(" ", "-"))
            variables |= {"WORK": work, "LLMSCOPE_STATE": f"{work}/state"}
            setup = (f"pip install --quiet {part.requires}",) if part.requires else ()
            for command in (*setup, *part.commands):
                output.write(f"== {command}\n")
                output.flush()
                done = subprocess.run(
                    ("bash", "-c", command), cwd=ROOT, env=variables, stdout=output, stderr=output
                )
                code = done.returncode
                if code:
                    break
    finally:
        for loop in loops:
            loop.kill()
    summary, failed = read_log(log.read_text("utf-8", "replace"))
    return Result(part.name, (time.monotonic() - begun) / 60, code, summary, failed)


def read_log(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the sum of each run of tests in a log, or its last line, and the failed tests."""
    lines = [line for line in text.splitlines() if line.strip()]
    sums = [
        line.strip("= ") for line in lines if re.search(r"\d+ (passed|failed).* in [\d.]+", line)
    ]
    failed = [line.split()[1] for line in lines if re.match(r"(FAILED|ERROR) \S+::", line)]
    last = lines[-1][:100] if lines else "nothing was written"
    return "; ".join(sums) or last, tuple(dict.fromkeys(failed))


def chosen(all_parts: Sequence[Part], share: str, only: Sequence[str]) -> Iterator[Part]:
    """Yield the parts that are asked for.

    Args:
        all_parts: the parts.
        share: "K/N", each Nth part from the Kth on; empty: all.
        only: names of parts; empty: all.

    Raises:
        SystemExit: a share or a name is none of those.
    """
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", share or "1/1")
    if match is None or int(match[1]) > int(match[2]):
        raise SystemExit(f"{share!r} is not a share (try: .ci/all 1/4)")
    unknown = set(only) - {part.name for part in all_parts}
    if unknown:
        raise SystemExit(f"no part is called {sorted(unknown)[0]!r} (try: .ci/all --list)")
    first, count = int(match[1]), int(match[2])
    for number, part in enumerate(all_parts):
        if number % count == first - 1 and (not only or part.name in only):
            yield part


def main(arguments: Sequence[str]) -> int:
    """Run the parts that are asked for and have no result of this commit; return the exit code."""
    parser = argparse.ArgumentParser(prog=".ci/all", description="The proof beyond .ci/run.")
    parser.add_argument("share", nargs="?", default="", metavar="K/N", help="each Nth part")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="that part")
    parser.add_argument("--again", action="store_true", help="run parts that were red once more")
    asked = parser.parse_args(arguments)
    wanted = list(chosen(parts(), asked.share, asked.only))
    if asked.list:
        print("\n".join(part.name for part in wanted))
        return 0
    base = Path(os.environ.get("LLMSCOPE_ALL") or Path(tempfile.gettempdir()) / "llmscope-all")
    folder = base / commit()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(("bash", str(ROOT / ".ci" / "programs")), check=False)
    red = False
    for part in wanted:
        file = folder / f"{part.name.replace(' ', '-').replace('/', '-of-')}.json"
        known = Result(**json.loads(file.read_text("utf-8"))) if file.exists() else None
        if known is None or (known.code and asked.again):
            known = run(part, folder)
            file.write_text(json.dumps(asdict(known)), "utf-8")
        red |= known.code != 0
        print(known.line(), flush=True)
    print(f"logs: {folder}")
    return int(red)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
