"""Gradient × activation: what features add to a logit, through all later layers, to first order.

    a_tf · (W_dec[f] · ∂logit/∂x_t)         x_t: the tensor that the dictionary predicts, at token t

The same product with what the dictionary does not reconstruct tells how much it misses. That the
numbers of all features add up to the change of the logit without them holds to first order only:
the error is measured with one more pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.learned.dictionaries.dictionary import Active
from llmscope.learned.dictionaries.place import WRITES, Place
from llmscope.record.analysis.gradients import gradients
from llmscope.record.analysis.saliency import Run
from llmscope.record.capture.extra_passes import Passes, read
from llmscope.record.capture.recording import Recording
from llmscope.record.features.active import Applied, Misfit, features_of
from llmscope.record.features.splice import change_by
from llmscope.record.interventions.sweep import difference
from llmscope.record.sites import WRITTEN, write_site

_KINDS = {
    "resid_pre": "resid_pre",
    "resid_post": "resid_post",
    "resid_mid": "attn_out",  # d/d(stream + write) = d/d write
    "attn_out": "attn_out",
    "mlp_out": "mlp_out",
    "z": "z",
    "mlp_act": "mlp_act",
}


@dataclass(frozen=True)
class FeatureAttribution:
    """What features add to a logit at all tokens, to first order.

    Attributes:
        tokens, features: of each active feature at each token. [entry]
        values: what each adds, in logits. [entry], float64
        error: what the part adds that the dictionary does not reconstruct, its biases included.
        removed: the change of the logit when no feature writes anything, as measured, negated.
    """

    tokens: Tensor
    features: Tensor
    values: Tensor
    error: float
    removed: float

    @property
    def total(self) -> float:
        """The sum over all features and tokens."""
        return float(self.values.sum())

    def by_feature(self) -> tuple[Tensor, Tensor]:
        """Return the features and the sum of each over the tokens, the largest size first."""
        ids, where = torch.unique(self.features, return_inverse=True)
        sums = torch.zeros(len(ids), dtype=self.values.dtype).index_add_(0, where, self.values)
        order = sums.abs().argsort(descending=True, stable=True)
        return ids[order], sums[order]


def attribute_features(
    recording: Recording,
    passes: Passes,
    way: Applied,
    position: int,
    target: int,
    versus: int | None,
) -> FeatureAttribution:
    """Return what each active feature adds to a logit, to first order.

    Args:
        recording: an unedited recording.
        passes: runs the passes: one with a backward pass, and one without the features.
        way: the dictionary, as it is applied.
        position: the token after which the logit is read.
        target: the token whose logit it is.
        versus: a token whose logit is subtracted; None: no token.

    Raises:
        NoGradient: the model gives no usable gradient there.
        Misfit: the tensor that the dictionary predicts cannot be changed by itself.
    """
    place = way.dictionary.header.writes
    gradient = _gradient(recording, passes, place, position, target, versus)[: position + 1]
    rows = range(position + 1)
    active, inputs = features_of(way, recording, rows), way.inputs(recording, rows)
    aim = way.outputs(recording, rows)
    counts = torch.tensor([len(row) for row in active])
    tokens = torch.repeat_interleave(torch.arange(len(rows)), counts)
    ids = torch.cat([row.ids for row in active])
    factors = way.dictionary.factors(inputs)[:, 0].float()
    # The direction of each token, in the dictionary's own scale. [row, out width]
    seen = gradient * factors[:, None]
    values = torch.empty(len(ids), dtype=torch.float64)
    strengths = torch.cat([row.values for row in active])
    for part in torch.split(torch.arange(len(ids)), ENTRIES):
        decoded = way.dictionary.rows(ids[part]).float()
        along = (decoded * seen[tokens[part].to(seen.device)]).sum(-1)
        values[part] = (along * strengths[part]).double().cpu()
    written = _features_alone(way, active, inputs)
    error = float((gradient * (aim - written)).double().sum())
    change = change_by(recording, place, rows, -written)
    ends = passes.sweep(recording, change.layer, [(change,)], position)
    last = recording.final_rows(position, position + 1)
    before, after = (
        float(difference(read(recording, recording_read, position)[0], target, versus))
        for recording_read in (last, ends)
    )
    return FeatureAttribution(tokens, ids.cpu(), values, error, before - after)


ENTRIES = 1 << 15
"""Active features whose decoder rows are gathered at once."""


def _features_alone(way: Applied, active: Sequence[Active], inputs: Tensor) -> Tensor:
    """Return what all features write, without biases. [row, out width]"""
    whole = way.dictionary.decode(active, inputs)
    empty = Active(torch.empty(0, dtype=torch.long), torch.empty(0))
    nothing = way.dictionary.decode([empty] * len(inputs), inputs)
    return (whole - nothing).float()


def _gradient(
    recording: Recording,
    passes: Passes,
    place: Place,
    position: int,
    target: int,
    versus: int | None,
) -> Tensor:
    """Return the gradient of the logit by the tensor at a place. [row, width], float32"""
    if place.kind not in _KINDS:
        raise Misfit(f"there is no gradient by the {place.title} alone")

    def score(logits: Tensor) -> Tensor:
        row = logits.reshape(-1, logits.shape[-1])[-1]
        return row[target] if versus is None else row[target] - row[versus]

    run: Run = passes
    kind, factor = _KINDS[place.kind], 1.0
    if place.kind in WRITES:
        parts = recording.model.anatomy.layers[place.layer]
        site, factor = write_site(parts, place)
        if site in ("attention_module", "mlp_module"):
            kind = site
        else:
            factor = (
                parts.scale(WRITTEN[place.kind]) / factor
            )  # kinds of writes have the gradient by what is added
    (gradient,) = gradients(recording, position, score, [(place.layer, kind)], run)
    gradient = gradient * factor
    if place.kind == "z":
        gradient = gradient if place.head is None else gradient[:, place.head]
        gradient = gradient.reshape(len(gradient), -1)
    return gradient.float()
