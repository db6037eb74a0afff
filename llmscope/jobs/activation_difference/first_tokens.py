"""The first tokens of texts that count, and a model's streams at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.corpus.counting import CONTENT
from llmscope.corpus.records.prompts import windows
from llmscope.errors import ScopeError
from llmscope.jobs.state import JobPasses
from llmscope.record.capture.padded import SIZE
from llmscope.record.capture.prompts import encoded, prompt_from
from llmscope.record.derive.batching import PromptRunner

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.instrumented import InstrumentedModel

LEAST_TEXTS = 4
"""Texts that a mean is taken of, so that each half has two."""


@dataclass(frozen=True)
class FirstTokens:
    """The beginning of a text.

    Attributes:
        ids: its tokens, up to the last one that counts.
        whole: all tokens of the text, up to the context's length: what runs where code of the
            user's may treat a token by what follows it.
        start: the first position that counts. Special tokens at the beginning are the same in all
            texts, and the stream of the very first token is tens of times as long as others in most
            models: neither counts.
    """

    ids: tuple[int, ...]
    whole: tuple[int, ...]
    start: int


def first_tokens(model: LoadedModel, texts: Iterable[str], count: int) -> list[FirstTokens]:
    """Return the beginnings of the texts that are long enough.

    Args:
        model: the model whose tokenizer reads them.
        texts: the texts.
        count: the number of tokens that count in each.

    Raises:
        ScopeError: fewer than four texts are long enough, or one cannot be tokenized.
    """
    tokens = []
    for text in texts:
        read = encoded(model, text)
        start = next(iter(CONTENT.places_among(read.special)), len(read))
        if len(read) >= start + count:
            whole = tuple(read.ids[: model.anatomy.context])
            tokens.append(FirstTokens(read.ids[: start + count], whole, start))
    if len(tokens) < LEAST_TEXTS:
        raise ScopeError(
            f"{len(tokens)} texts have {count} tokens that count, and a mean needs "
            f"{LEAST_TEXTS} texts",
            "more or longer texts, or fewer tokens",
        )
    return tokens


def streams_at(
    instrumented: InstrumentedModel, texts: Sequence[FirstTokens], count: int, passes: JobPasses
) -> Tensor:
    """Return the stream after each layer at the tokens that count, in float32 on the CPU.

    [text, layer, token, width]

    Args:
        instrumented: the model.
        texts: the texts.
        count: the number of tokens that count in each.
        passes: keeps each pass, and has those of an earlier run.

    Raises:
        ScopeError: an id is not in the model's vocabulary.
    """
    runner, streams = PromptRunner(instrumented.recorder, bool(instrumented.why_alone)), []
    outside = instrumented.recorder.outside
    for numbers in windows(range(len(texts)), SIZE):
        if (stored := passes.take(numbers)) is not None:
            streams.append(torch.from_numpy(stored[1]["streams"]))
            continue
        window = [texts[number] for number in numbers]
        prompts = [
            prompt_from(instrumented.model, text.whole if outside else text.ids) for text in window
        ]
        of_pass = []
        for recording, text in zip(runner(prompts), window, strict=True):
            places = range(text.start, text.start + count)
            rows = [recording.rows("stream", at + 1, places) for at in range(recording.layers)]
            of_pass.append(torch.stack([row.float().cpu() for row in rows if row is not None]))
        streams.append(torch.stack(of_pass))
        passes.add(numbers, {"streams": streams[-1].numpy()})
    return torch.cat(streams)
