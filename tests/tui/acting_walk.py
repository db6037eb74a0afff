"""Figures of a walk through the pass, and of two prompts, as the scripted engine makes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmscope.engine.events import Token, Want
from llmscope.figure import Axis, Figure, Verdict

# The same model as in `acting`, which imports this.
LAYERS, HEADS, WIDTH = 30, 9, 576
STATISTICS = ("mean", "std", "min", "max", "norm")
INSIDE = (
    ("attention norm", "brought to one size", "γ · x / rms(x)"),
    ("query", "what it looks for", "q = x W_q"),
    ("key", "what it offers", "k = x W_k"),
    ("scores", "query · key, of each pair", "s = q kᵀ · scale"),
    ("pattern", "how much it looks at each", "α = softmax(s)"),
    ("residual add", "plus what attention gives", "x + a"),
)
FAILED = "key"
"""The step that the model could not be held to."""


def walk(layer: int) -> list[tuple[str, int | None, str, str]]:
    """Name, layer, gist and formula of each step."""
    before = [(f"layers 0–{layer - 1}", None, "what they add", "x + Σ")] if layer else []
    last = LAYERS - 1
    after = [(f"layers {layer + 1}–{last}", None, "what they add", "x + Σ")] * (layer < last)
    return [
        ("tokens", None, "the text as numbers", "t = tokenizer(text)"),
        ("token embedding", None, "a vector for each token", "e = E[t]"),
        *before,
        *((name, layer, gist, formula) for name, gist, formula in INSIDE),
        *after,
        ("logits", None, "a score for each token", "ℓ = y W_U"),
        ("next token", None, "the most likely one", "argmax"),
    ]


def walkthrough(want: Want, tokens: tuple[Token, ...], edited: bool = False) -> Figure:
    """The table of steps, or the numbers of one of them; refused of an edited pass."""
    if edited:
        return Figure.refused("walkthrough", "walkthrough", "it can only tell of an unedited pass")
    layer, count = want.focus.layer % LAYERS, len(tokens)
    told = walk(layer)
    labels = tuple(token.text for token in tokens)
    random = np.random.default_rng(layer + 1)
    place = {"head": want.focus.head, "position": want.focus.position % count}
    if want.focus.mode == "values":
        step = want.focus.step or 0
        values = random.normal(0, 1, (count, 16)).astype(np.float32)
        axes = (Axis("position", labels), Axis("dimension", tuple(map(str, range(16)))))
        title = f"Step {step} of {len(told) - 1} · {told[step][0]}"
        extra = {"mode": "values", "step": step, **place}
        return Figure("walkthrough", title, "heatmap", axes, values, "value", extra=extra)
    values = random.normal(0, 1, (len(told), len(STATISTICS))).astype(np.float32)
    values[:, 4] = abs(values[:, 4]) * 9
    axes = (Axis("step", tuple(one[0] for one in told)), Axis("statistic", STATISTICS))
    steps = [_step(at, told, labels) for at in range(len(told))]
    here = told.index(next(one for one in told if one[0] == FAILED))
    verdict = Verdict("partial", f"step {here}, {FAILED}: {steps[here]['reason']}")
    extra = {"mode": "steps", "layer": layer, **place, "steps": steps}
    extra["caption"] = ("after ‹ is› the model says ‹ Paris› (77.30 %)",)
    title = f"Walkthrough · layer {layer} from inside"
    return Figure("walkthrough", title, "table", axes, values, "", verdict, extra)


def _step(at: int, told: list[tuple[str, int | None, str, str]], labels: tuple[str, ...]) -> Any:
    name, layer, gist, formula = told[at]
    shape = [len(labels)] if name == "tokens" else [len(labels), WIDTH]
    weight = {"name": f"model.layers.{layer}.self_attn.q_proj.weight", "part": "outputs 0–63"}
    weight |= {"shape": [WIDTH, WIDTH], "learned": True}
    return {
        "name": name,
        "part": "attention",
        "layer": layer,
        "gist": gist,
        "sentence": f"In plain words: {gist}.",
        "formula": formula,
        "shape": shape,
        "axes": ["position", "dimension"][: len(shape)],
        "start": 0,
        "inputs": [at - 1] if at else [],
        "input_shapes": [[len(labels), WIDTH]] if at else [],
        "weights": [weight] if name == "query" else [],
        "by": "arithmetic",
        "agreement": 0.2 if name == FAILED else 3e-7 if at else None,
        "reason": "differs by 0.2" if name == FAILED else "",
        "here": {"axis": "dimension", "of": WIDTH, "index": [0, 1], "values": [0.5, -0.25]},
        "told": list(labels) if name == "tokens" else [],
    }


def contrast(want: Want, tokens: tuple[Token, ...], versus: str | None) -> Figure:
    """This prompt held against B, which has all its tokens but the second.

    All tokens but the first see what differs.
    """
    if versus is None:
        return Figure.lacking("contrast", "Contrast", "prompt B", "no prompt to hold it against")
    mode, count = want.focus.mode, len(tokens)
    labels = tuple(token.text for token in tokens)
    rows = ("embed", *map(str, range(LAYERS)))
    random = np.random.default_rng(len(mode))
    position = want.focus.position % count
    extra = {"mode": mode, "position": position, "unseen": position == 0}
    if mode == "kl":
        axes = (Axis("position", labels), Axis("divergence", ("KL(A‖B)", "KL(B‖A)")))
        values = random.gamma(1, 1, (count, 2))
        return _versus("heatmap", axes, values, "nats", extra)
    if mode in ("word", "lens"):
        names = ("same token", "different tokens", "same, mean taken off")
        first = Axis("what", names) if mode == "word" else Axis("prompt", ("A", "B"))
        values = 1 - random.random((len(first), len(rows))) / 2
        unit = "cosine" if mode == "word" else "logit"
        return _versus("lines", (first, Axis("layer", rows)), values, unit, extra)
    if mode.startswith("attention"):
        axes = (Axis("layer", rows[1:]), Axis("head", tuple(map(str, range(HEADS)))))
        values = random.beta(0.3, 4, (LAYERS, HEADS))
        return _versus("heatmap", axes, values, "probability", extra)
    values = 1 - np.linspace(0, 0.4, len(rows))[:, None] * random.random((1, count))
    values[:, 1:2] = np.nan
    return _versus(
        "heatmap", (Axis("layer", rows), Axis("position", labels)), values, "cosine", extra
    )


def _versus(kind: Any, axes: tuple[Axis, ...], values: Any, unit: str, extra: Any) -> Figure:
    title = f"Contrast · {extra['mode']}"
    return Figure("contrast", title, kind, axes, values.astype(np.float32), unit, extra=extra)
