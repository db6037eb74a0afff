"""Figures of the lens `context` for a growing context: modes `lines`, `tokens` and `gain`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Run, layer_kinds
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.context.split import Query
    from llmscope.record.context.trajectory import Trajectory

STEPS = {"lines": "What each example adds", "tokens": "What each token adds"}
GAIN = "Surprisal of the answer by number of examples"


def steps(recording: Recording, query: Query, before: int, mode: str) -> Iterator[Figure]:
    """Yield the change of the update with each example or token of the context. [layer, prefix]"""
    from llmscope.record.context.low_rank import Unpatchable
    from llmscope.record.context.split import labels_with_lines, parts_of
    from llmscope.record.context.trajectory import trajectory

    labels = labels_with_lines(recording.prompt)
    ends = tuple(range(query.kept + 1, before + 1))
    part = "token"
    if mode == "lines":
        parts = parts_of(labels, query.kept, before)
        ends, part = parts.ends, parts.name
    starts = (query.kept, *ends[:-1])
    added = (_text_of_range(recording, start, end) for start, end in zip(starts, ends, strict=True))
    figure = Figure(
        lens="context",
        title=f"{STEPS[mode]} to the update of the weights",
        kind="heatmap",
        axes=(
            Axis("layer", tuple(map(str, range(recording.layers)))),
            Axis("prefix", tuple(added)),
        ),
        values=np.full((recording.layers, len(ends)), np.nan, dtype=np.float32),
        unit="relative norm",
        extra={
            "mode": mode,
            "ends": ends,
            "part": part,
            "context": query.context,
            "kept": query.kept,
            **layer_kinds(recording),
        },
    )
    try:
        for progress in trajectory(recording, query, ends):
            yield _with(figure, progress)
    except Unpatchable as finding:
        yield Figure.refused("context", figure.title, str(finding))


def _text_of_range(recording: Recording, start: int, end: int) -> str:
    """Return the text of a range of tokens, with characters split over tokens joined again."""
    tokens, prompt = recording.model.tokens, recording.prompt
    if tokens is None:
        return "".join(prompt.labels[start:end])
    return tokens.describe(prompt.ids[start:end]).text


def _with(figure: Figure, progress: Trajectory) -> Figure:
    values, sizes, cosines, step_cosines = (
        tensor.float().numpy()
        for tensor in (progress.steps, progress.sizes, progress.cosines, progress.step_cosines)
    )
    caption = (
        f"mean over layers: step {_mean(values[:, :1])} at first, {_mean(values[:, -1:])} at last",
        f"mean cosine of successive updates {_mean(cosines)}, of successive steps "
        f"{_mean(step_cosines)}",
    )
    more = {
        "update_norm": sizes,
        "cosine": cosines,
        "step_cosine": step_cosines,
        "caption": caption,
    }
    return replace(figure, values=values, extra={**figure.extra, **more})


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.2g}" if known.size else "unknown"


def gain(
    recording: Recording, query: Query, before: int, focus: Focus, run: Run
) -> Iterator[Figure]:
    """Yield the surprisal of the answer after 0, 1, … examples. [examples]

    Raises:
        ValueError: the answer is empty, or has ids outside of the vocabulary.
    """
    from llmscope.record.context.example_gain import surprisals
    from llmscope.record.context.split import labels_with_lines, parts_of

    answer = _answer(recording, query, focus)
    anatomy = recording.model.anatomy
    length = len(recording) + len(answer) - 1
    if anatomy.context is not None and length > anatomy.context:
        yield Figure.refused(
            "context",
            GAIN,
            f"with the answer the prompt has {length} tokens, and the model's context holds "
            f"{anatomy.context}",
        )
        return
    ids, query_ids = recording.prompt.ids, query.ids[query.kept :]
    labels = labels_with_lines(recording.prompt)
    parts = parts_of(labels, query.kept, before)
    ends, counts = (query.kept, *parts.ends), (0, *parts.counts)
    tokens = np.full((len(ends), len(answer)), np.nan, dtype=np.float32)
    text = _text(recording, answer)
    for place, end in enumerate(ends):
        tokens[place] = surprisals(run, (*ids[:end], *query_ids), answer).numpy()
        values = tokens.sum(axis=1, dtype=np.float64).astype(np.float32)
        count = f"{counts[place]} {parts.name}" + ("" if counts[place] == 1 else "s")
        yield Figure(
            lens="context",
            title=GAIN,
            kind="lines",
            axes=(Axis("examples", tuple(map(str, counts))),),
            values=values,
            unit="bits",
            extra={
                "mode": "gain",
                "part": parts.name,
                "answer": text,
                "answer_ids": answer,
                "tokens": tokens.copy(),
                "ends": ends,
                "context": query.context,
                "kept": query.kept,
                "caption": (
                    f"{values[0]:.3g} bits without {parts.name}s, "
                    f"{values[place]:.3g} after {count}",
                    f"the answer: {display_text(text, whitespace=True)}",
                ),
            },
        )


def _answer(recording: Recording, query: Query, focus: Focus) -> tuple[int, ...]:
    from llmscope.record.context.weight_update import prompted_logits

    if focus.answer is not None:
        answer = tuple(focus.answer)
    elif focus.target is not None:
        answer = (focus.target,)
    else:
        answer = (int(prompted_logits(recording, query)[-1].argmax()),)
    vocabulary = recording.model.anatomy.vocabulary
    if not answer:
        raise WrongValueError("the answer is empty")
    if not all(0 <= token < vocabulary for token in answer):
        raise WrongValueError(f"the answer has ids outside of 0 to {vocabulary - 1}")
    return answer


def _text(recording: Recording, answer: tuple[int, ...]) -> str:
    tokens = recording.model.tokens
    return " ".join(map(str, answer)) if tokens is None else tokens.describe(answer).text
