"""The command: runs the sections one after the other and writes the report."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.gpu.report import FAILED, SKIPPED, Section, Skipped, write

SECTIONS = (
    *("truth", "reuse", "edits", "batches", "quantised", "offload", "memory", "compiled"),
    *("shared", "split", "speed", "big"),
)
"""The sections in their order; each is a module here with a function `check`."""
WRONG_USE = 2
Check = Callable[[Any, Section], None]


def main(
    arguments: Sequence[str] | None = None, *, spoil: Callable[[Any], None] | None = None
) -> int:
    """Run the command and return the exit status: 1 if a check failed.

    Args:
        arguments: those of the command line; None: the program's.
        spoil: changes the model of the independent side, so that tests see checks fail.
    """
    options = _options(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmscope-gpu-", dir=options.scratch) as home:
        _environment(Path(home))
        from tests.gpu.setting import NoDevice, Setting, about

        try:
            setting = Setting.of(options.device, options.quick, Path(home), options.model, spoil)
        except NoDevice as error:
            print(f"error: {error}", file=sys.stderr)
            return WRONG_USE
        from transformers.utils import logging

        logging.disable_progress_bar()
        head = about(setting)
        done: list[Section] = []
        for name in SECTIONS:
            if options.only and name not in options.only:
                continue
            late = time.monotonic() - begun > 60 * options.minutes
            section = Section(name, SKIPPED, "out of time") if late else _ran(name, setting)
            done.append(section)
            print(f"{name:<10} {section.status} in {section.seconds:.1f} s {section.reason}")
            if options.out is not None:  # a run that is broken off keeps what it has
                write(options.out, {**head, "seconds": time.monotonic() - begun}, done)
    return int(any(section.status == FAILED for section in done))


def _ran(name: str, setting: Any) -> Section:
    """Run a section; what it raises is its reason."""
    section, begun = Section(name), time.monotonic()
    try:
        check: Check = import_module(f"tests.gpu.{name}").check
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(setting, section)
        section.settle()
    except Skipped as reason:
        if section.figures:
            section.settle()
            section.skip("the rest", reason)
        else:
            section.status, section.reason = SKIPPED, str(reason)
    except Exception as error:
        section.fail(error)
    section.seconds = time.monotonic() - begun
    gc.collect()
    setting.free()
    return section


def _environment(home: Path) -> None:
    """Keep the run from the network, and from settings and state of the user."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "LLMSCOPE_STATE": str(home / "state"),
        "LLMSCOPE_CACHE": str(home / "cache"),
        "LLMSCOPE_CONFIG": str(home / "config.toml"),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the report goes")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda if there is one")
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        choices=SECTIONS,
        metavar="SECTION",
        help=", ".join(SECTIONS),
    )
    parser.add_argument("--quick", action="store_true", help="fewer families, small shapes")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a real model beside the random ones"
    )
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="no section begins after these (9)"
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="FOLDER", help="for weights; the system's temporary folder"
    )
    options = parser.parse_args(arguments)
    if options.model is not None and not (options.model / "config.json").is_file():
        parser.error(f"--model: {options.model} holds no config.json")
    if options.out is not None and not options.out.parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.parent}")
    return options


def now() -> str:
    """Return the time in UTC as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
