"""What llmscope costs beside the bare model: both sides in turns, medians, synchronised.

The contenders are those of `tests.benchmarks`, each in its own process.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from tests.benchmarks.passes import opened, rounds
from tests.benchmarks.setting import Setting as Benchmark
from tests.benchmarks.stats import ratio, summary
from tests.gpu.report import Section, Skipped
from tests.gpu.setting import Setting
from tests.gpu.shapes import EIGHT_BILLION, SMALL, random_checkpoint
from tests.gpu.words import with_tokenizer

LENGTH, QUICK_LENGTH = 2_000, 120
"""Tokens of the prompt of a letter and of a recording."""
SWEPT, PROMPTS, QUICK_PROMPTS = 32, 320, 32
"""Tokens of the prompt whose heads are ablated, and prompts of a batch."""
ROUNDS = 7
FAULT = re.compile(r"\w+(Error|Exception)\b|its process ended")
"""How a job that failed is told; one that cannot run here says so without a type."""
JOBS: dict[str, tuple[tuple[str, str], ...]] = {
    "letter": (("bare", "decode"), ("screen", "append"), ("screen", "painted")),
    "record": (("bare", "forward"), ("screen", "anew")),
    "ablation": (("bare", "loop"), ("screen", "sweep")),
    "batches": (("bare", "batched_lens"), ("screen", "export")),
}


def check(setting: Setting, section: Section) -> None:
    """Measure a letter, a recording, an ablation and a batch. On a CPU nothing is limited."""
    shape = EIGHT_BILLION if setting.cuda and not setting.quick else SMALL
    folder = random_checkpoint(setting, shape)
    with_tokenizer(folder, shape.vocabulary)
    section.tell("shape", shape.name)
    quick = setting.quick or not setting.cuda
    length = QUICK_LENGTH if quick else LENGTH
    sizes = {
        "letter": length,
        "record": length,
        "ablation": SWEPT,
        "batches": QUICK_PROMPTS if quick else PROMPTS,
    }
    threads = 16 if setting.cuda else 1  # on a CPU the shape is small
    benchmark = Benchmark(
        *(str(folder), str(folder), setting.device.type, threads),
        quick=True,
        most_rounds=3 if quick else ROUNDS,
        dtype="bfloat16" if setting.cuda else "float32",
    )
    found: dict[str, Any] = {}
    try:
        with ExitStack() as stack:
            workers, refused = opened(("bare", "screen"), benchmark, stack, lambda _: None)
            if refused:
                raise RuntimeError("; ".join(f"{name}: {why}" for name, why in refused.items()))
            for part, jobs in JOBS.items():
                if part == "ablation":  # a loop takes half a minute
                    benchmark.most_rounds = min(benchmark.rounds, 3)
                found[part] = {}
                rounds(workers, list(jobs), sizes[part], benchmark, lambda _: None, found[part])
                benchmark.most_rounds = 3 if quick else ROUNDS
    finally:
        benchmark.home.cleanup()
    _told(section, found, sizes, limited=setting.cuda and not setting.quick)


def _told(section: Section, found: dict[str, Any], sizes: dict[str, int], *, limited: bool) -> None:
    def limit(value: float) -> float | None:
        return value if limited else None

    letter, record, sweep, batches = (found[part] for part in JOBS)
    length = sizes["letter"]
    _seconds(section, found, sizes)
    what = f"a letter at {length} tokens, figures of all panes ÷ bare cached decode"
    _share(section, what, letter, "screen.append", "bare.decode", limit(1.3))
    painted = _median(section, "a letter", letter, "screen.painted")
    if painted is not None:
        what = f"a letter at {length} tokens, ms from the key to the repaint"
        section.at_most(what, 1000 * painted, limit(60.0))
    what = f"{length} tokens recorded ÷ bare forward"
    _share(section, what, record, "screen.anew", "bare.forward", limit(1.1))
    what = "a plain loop over all heads ÷ the lens ablation"
    _share(section, what, sweep, "bare.loop", "screen.sweep", limit(20.0), least=True)
    what = f"{sizes['batches']} prompts exported ÷ bare batches with the same lens by hand"
    _share(section, what, batches, "screen.export", "bare.batched_lens", limit(1.15))


def _seconds(section: Section, found: dict[str, Any], sizes: dict[str, int]) -> None:
    for part, entries in found.items():
        for name, entry in entries.items():
            measured = summary(entry.get("seconds", ()))
            if measured is not None:
                low, high = 1000 * measured.low, 1000 * measured.high
                section.tell(
                    f"{name} {sizes[part]}, ms ({low:.4g} to {high:.4g})", 1000 * measured.value
                )


def _median(section: Section, what: str, entries: dict[str, Any], name: str) -> float | None:
    refused = entries[name].get("refused")
    if refused and FAULT.match(refused) and "pyarrow" not in refused:
        section.true(f"{what}: {name}", refused, False)
        return None
    if refused:
        section.skip(f"{what}: {name}", refused)
        return None
    measured = summary(entries[name]["seconds"])
    if measured is None:
        raise Skipped(f"{name} was not measured")
    return measured.value


def _share(
    section: Section,
    what: str,
    entries: dict[str, Any],
    above: str,
    below: str,
    limit: float | None,
    *,
    least: bool = False,
) -> None:
    """Tell the ratio of two medians, and hold it against its limit."""
    for name in (above, below):
        if _median(section, what, entries, name) is None:
            return
    found = ratio(entries[above]["seconds"], entries[below]["seconds"])
    assert found is not None
    what = f"{what} (quartiles of rounds {found.low:.3g} to {found.high:.3g})"
    (section.at_least if least else section.at_most)(what, found.value, limit)
