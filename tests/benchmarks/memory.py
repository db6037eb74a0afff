"""Extra memory of one run, over what the process held before it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

STATUS = Path("/proc/self/status")


def extra_peak(run: Callable[[], Any]) -> dict[str, Any]:
    """Run once. Bytes of peak memory above the beginning: resident, or on the GPU if there is one.

    Linux counts the peak itself; elsewhere it is sampled a thousand times a second.
    """
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        return {
            "bytes": torch.cuda.max_memory_allocated() - before,
            "of": "GPU",
            "kept": bool(kept),
        }
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    except OSError:
        return _sampled(run)
    before = _status("VmRSS")
    kept = run()
    peak, after = _status("VmHWM"), _status("VmRSS")
    del kept
    return {"bytes": peak - before, "held": after - before, "of": "resident"}


def _status(field: str) -> int:
    line = next(row for row in STATUS.read_text().splitlines() if row.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _sampled(run: Callable[[], Any]) -> dict[str, Any]:
    import psutil

    process, over = psutil.Process(), Event()
    before = peak = process.memory_info().rss

    def sample() -> None:
        nonlocal peak
        while not over.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    thread = Thread(target=sample)
    thread.start()
    try:
        kept = run()
    finally:
        over.set()
        thread.join()
    after = process.memory_info().rss
    del kept
    return {"bytes": max(peak, after) - before, "held": after - before, "of": "resident, sampled"}
