"""The report of a comparison over a corpus, from its summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmscope.cli.output.difference_report import difference_report
from llmscope.cli.output.table import table
from llmscope.support.text import display_line, display_text

MOVED = 10
"""Pairs of predictions that are listed, with the token that moved most of each."""
LAYERS = 12
"""Layers that are listed."""
CONTEXT = 28
"""Characters of the text before a token."""


def report(summary: Mapping[str, Any], out: Path) -> str:
    """Return a comparison as text for a terminal."""
    folder = display_line(out)
    texts = summary["texts"]
    words = [f"{summary['tokens']:,} tokens of {_count(texts['count'], 'text')}"]
    words += [f"{texts[name]:,} {reason}" for name, reason in _LEFT_OUT.items() if texts[name]]
    parts = [
        f"A  {_model(summary['a'])}\nB  {_model(summary['b'])}\n{', '.join(words)}: {folder}\n",
        _predictions(summary),
        _streams(summary["streams"]),
        _moved_tokens_text(summary["moved"]),
        difference_report(summary["difference"]) if "difference" in summary else "",
    ]
    return "\n".join(part for part in parts if part)


_LEFT_OUT = {"cut": "cut at the length", "skipped": "left out as too short"}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _model(origin: Mapping[str, Any]) -> str:
    model = origin["model"]
    words = [str(model["spec"]), *([str(model["adapter"])] if model["adapter"] else [])]
    return display_text(f"{' + '.join(words)}, {origin['dtype']} on {origin['device']}")


def _predictions(summary: Mapping[str, Any]) -> str:
    kl, same = summary["kl"], summary["same_top"]
    gain, perplexity = summary["log_likelihood"], summary["perplexity"]
    rows = [
        ("KL(A ‖ B), nats", f"mean {kl['mean']:.6f}{_between(kl['interval'], '.6f')}"),
        (
            "",
            f"median {kl['median']:.6f}, 90 % {kl['p90']:.6f}, 99 % {kl['p99']:.6f}, "
            f"max {kl['max']:.6f}",
        ),
        ("same likeliest token", f"{same['share']:.2%}{_between(same['interval'], '.2%')}"),
        (
            "log p a token, B − A",
            f"{gain['b_minus_a']:+.6f}{_between(gain['interval'], '+.6f')}",
        ),
        ("perplexity", f"A {perplexity['a']:.4f}, B {perplexity['b']:.4f}"),
    ]
    how = summary["intervals"]
    note = f"in brackets: {how['level']:.0%} intervals, {how['resamples']:,} draws of texts"
    return table(rows) + (f"{note}\n" if kl["interval"] else "")


def _between(interval: Sequence[float] | None, form: str) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f" ({low:{form}} to {high:{form}})"


def _after(layer: int | None) -> str:
    if layer is None:
        return "–"
    return "embedding" if layer < 0 else f"layer {layer}"


def _streams(streams: Mapping[str, Any] | None) -> str:
    """Return how far the streams are apart by layer; empty if they were not compared."""
    if streams is None:
        return ""
    if streams["layers"] is None:
        return f"{streams['reason']}\n"
    bound, parts = streams["bound"], streams["parts_after"]
    if parts is None:
        sentence = f"the streams agree within rounding ({bound:.1g})"
    else:
        where = "the embedding" if parts < 0 else _after(parts)
        sentence = (
            f"the streams part after {where}: more than rounding ({bound:.1g}) at most tokens"
        )
    if streams["aligned_by_depth"]:
        sentence += (
            f"; layers aligned by depth, {streams['layers_a']} of A and {streams['layers_b']} of B"
        )
    every = streams["layers"]
    wanted = {round(at * (len(every) - 1) / (LAYERS - 1)) for at in range(LAYERS)}
    wanted.add(-1 if parts is None else parts + 1)
    rows = [("after", "", "cosine", "‖A − B‖ / ‖A‖", "tokens beyond rounding")]
    rows += [
        (
            _after(layer["after"]),
            f"B: {_after(layer['after_b'])}" if streams["aligned_by_depth"] else "",
            f"{layer['cosine']:.6f}",
            f"{layer['difference']:.2e}",
            f"{layer['beyond_rounding']:.1%}",
        )
        for at, layer in enumerate(every)
        if at in wanted
    ]
    return f"{sentence}\n{table(rows, frozenset({2, 3, 4}))}"


def _moved_tokens_text(moved: Sequence[Mapping[str, Any]]) -> str:
    """Return the tokens that moved most, in their context; empty if nothing moved.

    Tokens with the same two predictions moved for one cause, and get the line of the first one.
    """
    if not moved or not moved[0]["kl"] > 0:
        return ""
    causes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for token in moved:
        causes.setdefault((token["top_a"], token["top_b"]), []).append(token)
    listed = list(causes.values())[:MOVED]
    folded = any(len(tokens) > 1 for tokens in listed)
    rows = [
        ("KL", "line", "the tokens that moved most", "A", "B", "A says", "B says", "parts after")
        + ("times",) * folded
    ]
    rows += [
        (
            f"{first['kl']:.4f}",
            str(first["line"]),
            f"{first['context'][-CONTEXT:]}‹{first['token']}›",
            f"{math.exp(first['log_p_a']):.3f}",
            f"{math.exp(first['log_p_b']):.3f}",
            f"{first['top_a']} {first['p_top_a']:.3f}",
            f"{first['top_b']} {first['p_top_b']:.3f}",
            _after(first.get("lenses_part_after")),
            *((f"{len(tokens)}",) * folded),
        )
        for tokens in listed
        for first in tokens[:1]
    ]
    remarks = ""
    if "layers" in moved[0]:
        remarks = "parts after: the logit lenses differ by half of the KL or more from there on\n"
    if folded:
        remarks += (
            f"times: how many of the {len(moved)} tokens that moved most have the two predictions "
            "of the line; it shows the one that moved most\n"
        )
    return table(rows, frozenset({0, 1, 3, 4, 8})) + remarks
