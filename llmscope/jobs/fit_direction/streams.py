"""The streams of texts that a direction is fitted on: one vector a text and layer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.corpus.counting import Counting
from llmscope.corpus.progress import JobProgress
from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.state import JobPasses
from llmscope.models.loading.memory import GIB, available
from llmscope.record.capture.prompts import prompt_from
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.derive.batching import PromptRunner
from llmscope.support.fsync import Journal

Floats = NDArray[np.float64]
LAST, MEAN = "last", "mean"
_INDEX = re.compile(r"-?\d{1,6}", re.ASCII)


def check_position(position: str) -> None:
    """Check the name of a position.

    Raises:
        ScopeError: it is neither `last`, `mean`, nor a whole number.
    """
    if position not in (LAST, MEAN) and not _INDEX.fullmatch(position):
        raise ScopeError(
            f"there is no position {position!r}", "last, mean, or the index of a token such as -1"
        )


def places_of(prompt: Prompt, position: str) -> list[int]:
    """Return the tokens whose streams are read; several for a mean. Empty: the prompt has none.

    `last` and `mean` leave out special tokens, unless there are no others. An index counts all.
    """
    places = Counting(special=False).places_among(prompt.special) or [*range(len(prompt))]
    if position == MEAN:
        return places
    if position == LAST:
        return places[-1:]
    at = int(position)
    return [at % len(prompt)] if -len(prompt) <= at < len(prompt) else []


def vector_at(recording: Recording, layer: int, places: Sequence[int]) -> Tensor:
    """Return the stream after a layer, averaged over tokens. [width], float32 on the CPU"""
    rows = recording.rows("stream", layer + 1, range(places[0], places[-1] + 1))
    assert rows is not None
    return rows.float()[[at - places[0] for at in places]].mean(0).cpu()


def streams(
    runner: PromptRunner,
    examples: Sequence[LabelledText],
    layers: Sequence[int],
    position: str,
    progress: JobProgress,
    journal: Journal | None = None,
) -> NDArray[np.float32]:
    """Return the stream of each text after some layers. [layer, text, width]

    Args:
        runner: records the texts.
        examples: the texts.
        layers: the layers.
        position: the token whose stream is read; see `places_of`.
        progress: counts the texts.
        journal: keeps each pass, and has those of an earlier run; None keeps nothing.

    Raises:
        ScopeError: a text cannot be tokenized or has no such token, a stream is not finite, or
            memory does not hold them.
    """
    width = runner.recorder.model.anatomy.width
    needed, free = 4 * len(layers) * len(examples) * width, available(torch.device("cpu"))
    if 2 * needed > free:  # one layer after another is fitted in float64 beside them
        raise ScopeError(
            f"the streams of {len(examples)} texts take {needed / GIB:.1f} GiB, and "
            f"{free / GIB:.1f} GiB are free",
            f"fewer layers: {option('layer')}",
        )
    prompts, places = [], []
    for example in examples:
        try:
            prompt = prompt_from(runner.recorder.model, example.text)
        except ScopeError as error:
            raise error.at(f"line {example.line}") from None
        there = places_of(prompt, position)
        if not there:
            raise ScopeError(
                f"line {example.line}: the text has {len(prompt)} tokens, and none at {position}",
                option("position", "last"),
            )
        prompts.append(prompt)
        places.append(there)
    vectors = np.empty((len(layers), len(examples), width), dtype=np.float32)
    passes = JobPasses(journal, stage="streams")
    for group in runner.passes([len(prompt) for prompt in prompts]):
        if (stored := passes.take(group)) is not None:
            vectors[:, group] = stored[1]["streams"]
            progress.resumed(len(group))
            continue
        recordings = runner([prompts[at] for at in group])
        for at, recording in zip(group, recordings, strict=True):
            for row, layer in enumerate(layers):
                vectors[row, at] = vector_at(recording, layer, places[at]).numpy()
        passes.add(group, {"streams": vectors[:, group]})
        progress.done(len(group))
    bad = ~np.isfinite(vectors).all((0, 2))
    if bad.any():
        line = examples[int(bad.argmax())].line
        raise ScopeError(
            f"line {line}: the stream holds NaN or infinity", option("dtype", "float32")
        )
    return vectors
