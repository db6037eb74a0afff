"""The command: measures, prints tables, writes JSON, fills in docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, inserted  # noqa: E402
from tests.benchmarks import (  # noqa: E402
    exports,
    lenses,
    long,
    machine,
    passes,
    recordings,
    report,
    screenbytes,
    starts,
    training,
    whatif,
)
from tests.benchmarks.setting import MODEL, Setting, weights  # noqa: E402

MEASURES = (
    starts.measure,
    passes.measure,
    whatif.measure,
    exports.measure,
    recordings.measure,
    screenbytes.measure,
    training.measure,
    lenses.measure,
    long.measure,
)
PARTS = dict(zip(report.PARTS, MEASURES, strict=True))


def main() -> int:
    """Run what was asked for, and return the exit code."""
    options = _options()
    if options.page:
        raw = json.loads(Path(options.page).read_text("utf-8"))["raw"]
        page = DOCS / "performance.md"
        made = inserted(page.read_text("utf-8"), "tests/benchmarks", report.block(raw))
        page.write_text(made, "utf-8")
        return 0
    setting = Setting(
        options.model,
        weights(options.model),
        options.device or _device(),
        options.threads or machine.cores(),
        options.quick,
        dict(entry.split("=", 1) for entry in options.python),
        tuple(options.contender),
        tuple(options.length),
    )
    raw: dict[str, Any] = {
        "model": options.model,
        "quick": setting.quick,
        "machine": machine.about(setting.device, setting.threads),
    }

    def tell(what: str) -> None:
        _tell(what)
        if options.out:  # a run that is broken off keeps what it has
            made = json.dumps(report.with_summaries(raw), indent=1)
            Path(options.out).write_text(made + "\n", "utf-8")

    for name in options.only or PARTS:
        raw[name] = {}
        PARTS[name](setting, tell, raw[name])
    tell("")
    print(report.medians(raw))
    print(report.table(raw))
    setting.home.cleanup()
    failed = report.failed(raw)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if options.check and failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer lengths and rounds")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="a part; may be given again", metavar="NAME"
    )
    parser.add_argument(
        "--contender",
        action="append",
        default=[],
        choices=passes.CONTENDERS,
        help="who takes part in the passes; may be given again",
    )
    parser.add_argument(
        "--length", action="append", default=[], type=int, help="tokens; may be given again"
    )
    parser.add_argument("--out", metavar="FILE.json", help="all numbers, as JSON")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a target is missed or not measured"
    )
    parser.add_argument("--model", default=MODEL, help=f"what to load ({MODEL})")
    parser.add_argument("--device", help="cpu or cuda; the GPU if there is one")
    parser.add_argument("--threads", type=int, help="of torch; all cores")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="CONTENDER=PATH",
        help="the interpreter of a contender that needs another environment",
    )
    parser.add_argument(
        "--page",
        metavar="FILE.json",
        help="put the table of an earlier run into docs/performance.md",
    )
    return parser.parse_args()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _tell(what: str) -> None:
    """Where it is now, on stderr."""
    end = "\r" if os.isatty(2) else "\n"
    sys.stderr.write(f"\x1b[2K{what}{end}" if end == "\r" else f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
