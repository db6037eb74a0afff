"""Text that a model generates while a difference is added to its stream, beside plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.jobs.activation_difference.first_tokens import FirstTokens
from llmscope.record.change_hooks import Change, attached

if TYPE_CHECKING:
    from llmscope.scope.instrumented import InstrumentedModel

EXAMPLES, GENERATED = 3, 16
"""Texts that are continued, and the tokens that each is continued by."""


@dataclass(frozen=True)
class Steered:
    """The likeliest continuation of the beginning of a text, with nothing added and with a vector.

    Attributes:
        prompt: the beginning.
        plain: the text that follows.
        steered: the same with the difference added.
        noise: the same with the first control's difference, of the same norm; None without it.
    """

    prompt: str
    plain: str
    steered: str
    noise: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return dict(vars(self))


def steered_texts(
    instrumented: InstrumentedModel,
    beginnings: Sequence[FirstTokens],
    layer: int,
    vector: Tensor,
    noise: Tensor | None,
) -> tuple[Steered, ...]:
    """Return what a model generates after some beginnings, with a vector added and without.

    Args:
        instrumented: the model, which is not changed meanwhile.
        beginnings: the beginnings of texts; the first three are continued.
        layer: the layer after which the vector is added to the stream, at all tokens.
        vector: the vector. [width]
        noise: one to compare it with, scaled to its norm; None: no comparison. [width]
    """
    vectors = [torch.zeros_like(vector), vector]
    if noise is not None:
        vectors.append(noise * (torch.linalg.vector_norm(vector) / torch.linalg.vector_norm(noise)))
    steered_texts = []
    for beginning in beginnings[:EXAMPLES]:
        texts = [_generate_steered(instrumented, beginning.ids, layer, added) for added in vectors]
        plain, steered, other = (*texts, None)[:3]
        assert plain is not None
        assert steered is not None
        steered_texts.append(Steered(_text(instrumented, beginning.ids), plain, steered, other))
    return tuple(steered_texts)


def _generate_steered(
    instrumented: InstrumentedModel, ids: Sequence[int], layer: int, vector: Tensor
) -> str:
    tokens = instrumented.model.tokens
    end = None if tokens is None else tokens.tokenizer.eos_token_id
    added = vector.to(instrumented.model.device)
    whole = list(ids)
    while len(whole) < len(ids) + GENERATED:
        rows = range(len(whole))
        with attached(instrumented.model.anatomy, [Change("stream", layer + 1, rows, added=added)]):
            output = instrumented.recorder.run([whole], last=1)
        token = int(output.logits[0, -1].argmax())
        if token == end:
            break
        whole.append(token)
    return _text(instrumented, whole[len(ids) :])


def _text(instrumented: InstrumentedModel, ids: Sequence[int]) -> str:
    if instrumented.model.tokens is None:
        return " ".join(map(str, ids))
    text: str = instrumented.model.tokens.tokenizer.decode(list(ids), skip_special_tokens=True)
    return text
