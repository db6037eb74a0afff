"""Run the mutations: `python -m tests.fuzz`, 10,000 of each kind of file.

    python -m tests.fuzz --kind config --count 500 --first 2000
    python -m tests.fuzz --kind config --keep FOLDER --first 17 --count 1   # to look at one file

Exits 1 if any of them hung, took more than 1.5 GB, or cost more than one line.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Finding, fuzz
from tests.fuzz.seeds import make_seeds


def main() -> int:
    """Fuzz each kind that was asked for and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="all, unless named")
    parser.add_argument("--count", type=int, default=10_000, help="mutations of each kind")
    parser.add_argument("--minutes", type=float, help="stop a kind after this time")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seeds", type=Path, help="folder for the good files, used again if full")
    parser.add_argument("--keep", type=Path, help="write the mutated files there; run nothing")
    parser.add_argument("--out", type=Path, help="findings as lines of JSON")
    options = parser.parse_args()
    seeds = options.seeds or Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
    if not (seeds / "gguf").is_dir():
        make_seeds(seeds)
    found: list[Finding] = []
    for kind in options.kind or KINDS:
        if options.keep:
            for number in range(options.first, options.first + options.count):
                folder = options.keep / f"{kind}-{number}"
                folder.mkdir(parents=True)
                rng = random.Random(f"{kind} {number}")
                print(KINDS[kind].make(seeds, folder, rng))
            continue
        began, mine, done = time.monotonic(), [], 0
        for done, finding in enumerate(fuzz(kind, seeds, options.first, options.count), 1):
            if finding is not None:
                mine.append(finding)
                print(f"{kind} {finding.seed} {finding.command}: {finding.reason}", flush=True)
                print(f"    {finding.text[-200:]!r}", flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(asdict(finding)) + "\n")
            if done % 1000 == 0:
                print(f"{kind}: {done} done, {len(mine)} found", flush=True)
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                break
        seconds = time.monotonic() - began
        reasons = Counter(one.reason.split(" ")[0] for one in mine)
        print(f"{kind}: {done} mutations, {len(mine)} found, {seconds:.0f} s {dict(reasons)}")
        found += mine
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
