"""A contender's own process: takes commands as lines of JSON, answers each with one.

`open` loads the contender, `prepare` makes a job, `run` runs it once, `memory` runs it once in a
process that has run nothing else, `text` gives a prompt and `count` the tokens of a text.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from tests.benchmarks.jobs import Job


class Server:
    def __init__(self) -> None:
        self.contender: Any = None
        self.jobs: dict[str, Job] = {}

    def open(
        self, *, name: str, folder: str, device: str, threads: int, dtype: str
    ) -> dict[str, Any]:
        from tests.benchmarks.contenders import open_contender

        self.contender = open_contender(name, folder, device, threads, dtype)
        import torch

        return {"threads": torch.get_num_threads(), "device": device}

    def prepare(self, *, job: str, length: int) -> dict[str, Any]:
        made: Job = getattr(self.contender, job)(length)
        made.reset()
        made.run()  # caches warm up outside of the clock
        self.jobs[f"{job} {length}"] = made
        return {}

    def run(self, *, job: str, length: int) -> dict[str, Any]:
        made = self.jobs[f"{job} {length}"]
        made.reset()
        gc.collect()
        synchronize()
        begun = time.perf_counter()
        result = made.run()
        synchronize()
        seconds = time.perf_counter() - begun
        told = result if type(result) is dict else {}
        return {"seconds": seconds, **told}

    def memory(self, *, job: str, length: int) -> dict[str, Any]:
        from tests.benchmarks.memory import extra_peak

        small: Job = getattr(self.contender, job)(32)
        small.run()  # what libraries allocate once is not the job's
        made: Job = getattr(self.contender, job)(length)
        made.reset()  # the small prompt is the beginning of this one
        gc.collect()
        return extra_peak(made.run)

    def forget(self) -> dict[str, Any]:
        self.jobs.clear()
        gc.collect()
        return {}

    def text(self, *, length: int) -> dict[str, Any]:
        return asdict(self.contender.prompt(length))

    def count(self, *, text: str) -> dict[str, Any]:
        return {"tokens": len(self.contender.tokenizer(text)["input_ids"])}


def synchronize() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(server, command.pop("do"))(**command)
        except Exception as error:
            told = str(error).strip().splitlines()
            kind = "" if type(error).__name__ == "NotRun" else f"{type(error).__name__}: "
            answer = {"refused": f"{kind}{told[0] if told else ''}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
