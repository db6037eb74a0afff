"""The first svg of a lens in a process that has loaded its model as the command does.

`python -m tests.benchmarks.one_svg FOLDER LENS` prints the seconds from the recording to the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.setting import Setting
from tests.benchmarks.workers import ROOT

LENSES = ("attention", "next-token", "logit-lens")
PROMPT = "The capital of France is"


def measure(setting: Setting, found: dict[str, Any]) -> None:
    """`{"svg attention": {"seconds": […]}}`, and under `svg` the slowest of each round."""
    slowest = found.setdefault("llmscope.svg", {"seconds": []})
    for _ in range(setting.rounds):
        for lens in LENSES:
            command = (sys.executable, "-m", "tests.benchmarks.one_svg", setting.folder, lens)
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=os.environ | setting.environment,
            )
            seconds = json.loads(done.stdout.splitlines()[-1])
            found.setdefault(f"llmscope.svg of {lens}", {"seconds": []})["seconds"].append(seconds)
        slowest["seconds"].append(
            max(found[f"llmscope.svg of {lens}"]["seconds"][-1] for lens in LENSES)
        )


def main() -> None:
    """One svg."""
    folder, lens = sys.argv[1:]
    from llmscope.cli.options.loading import Loader

    scope = Loader(folder, "cpu", "float32", int(os.environ["OMP_NUM_THREADS"]))(None)
    scope.record(PROMPT, fresh=True)
    with tempfile.TemporaryDirectory() as home:
        begun = time.perf_counter()
        scope.look(lens).save(Path(home) / "a.svg")
        print(json.dumps(time.perf_counter() - begun))


if __name__ == "__main__":
    main()
