"""Direct logit attribution: a token's logit as a sum over all writes to the residual stream.

The final residual stream is the embedding plus every layer's writes, and the readout is linear once
the scales of its norms are frozen (see `llmscope.record.analysis.logit_direction`). So each write
makes its own contribution to the logit, as does each head within an attention write and each neuron
within an MLP write. Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
Indirect effects through later layers are not included. Where norms apply to the residual stream
itself (`llmscope.record.derive.post_norms`), each contribution is read through the norms that
follow it. All sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmscope.figure import Verdict
from llmscope.models.anatomy import Layer
from llmscope.models.expert_neurons import AWAY, ExpertActivations, ExpertNeurons
from llmscope.record.analysis.logit_direction import (
    Doubles,
    LogitDirection,
    Unattributable,
    input_contributions,
)
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.comparison import BOUND as HEADS_BOUND
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.derive.tensors import activations, expert_rows, head_outputs
from llmscope.record.derive.verify import discrepancy
from llmscope.record.norms import UnknownNorm, bound, exact
from llmscope.record.sites import Site

BOUND = 1e-4
"""Largest error of the parts' sum in float32, relative to the larger of the logit and its largest
part: rounding adds up over all layers."""
HALF_BOUND = 8.0
"""The same in half precision, in multiples of the type's epsilon. Measured on SmolLM2: up to
3.8."""

WRITES = ("attention_write", "mixer_write", "mlp_write", "embedded_write")


class Part(NamedTuple):
    """One component's contribution to the logit.

    Attributes:
        kind: embedding, head, attention, attention bias, mixer, MLP, embedded (the token's
            embedding for a layer), edit (what an edit adds to the stream after a layer), or bias
            (of the final norm and the unembedding).
        layer, head: the component's layer and head; -1 where it has none.
        value: the contribution, in logits.
    """

    kind: str
    layer: int
    head: int
    value: float


@dataclass(frozen=True, eq=False)
class Contributions:
    """A logit decomposed into contributions. NaN where a layer has no such component.

    Attributes:
        read: the direction and bias that read the logit from the final stream.
        embedding: contribution of the stream before layer 0.
        attention, mixer, mlp, embedded: contribution of each layer's writes. [layer]
        heads: contribution of each head; NaN where attention is not split by head. [layer, head]
        head_bias: contribution of attention that belongs to no head: a bias. [layer]
        whole: layers whose attention could not be split by head -> why.
        edits: contribution of edits of the stream after a layer, by layer.
    """

    read: LogitDirection
    embedding: float
    attention: Doubles
    mixer: Doubles
    mlp: Doubles
    embedded: Doubles
    heads: Doubles
    head_bias: Doubles
    whole: dict[int, str]
    edits: dict[int, float]

    def all(self) -> Iterator[Part]:
        """Yield every contribution, by head where known, in the order of the model."""
        yield Part("embedding", -1, -1, self.embedding)
        for layer in range(len(self.mlp)):
            by_head = not np.isnan(self.head_bias[layer])
            if by_head:
                for head, value in enumerate(self.heads[layer].tolist()):
                    yield Part("head", layer, head, value)
            others = {
                "attention bias": self.head_bias[layer] or np.nan,  # zero: no bias
                "attention": np.nan if by_head else self.attention[layer],
                "mixer": self.mixer[layer],
                "MLP": self.mlp[layer],
                "embedded": self.embedded[layer],
            }
            for kind, value in others.items():
                if not np.isnan(value):
                    yield Part(kind, layer, -1, float(value))
            if layer in self.edits:
                yield Part("edit", layer, -1, self.edits[layer])
        yield Part("bias", -1, -1, self.read.bias)


def attribute(
    recording: Recording, position: int, read: LogitDirection, *, by_head: bool = True
) -> Contributions:
    """Decompose the logit that `read` reads after `position`.

    Args:
        by_head: split attention by head, which costs an attention row in every layer.
    """
    layers, row = recording.model.anatomy.layers, range(position, position + 1)
    written = {name: np.full(len(layers), np.nan) for name in WRITES}
    heads = np.full((len(layers), recording.model.anatomy.heads), np.nan)
    head_bias, whole = np.full(len(layers), np.nan), dict[int, str]()
    paths, first, bias = logit_paths(recording, position, read)
    for index, layer in enumerate(layers):
        path = paths[index]
        for name, values in written.items():
            write = recording.rows(name, index, row)
            if write is not None:
                late = name in ("mlp_write", "embedded_write")
                reader = path.mlp if late else path.attention
                values[index] = float(reader @ exact(write[0]))
        if by_head and not np.isnan(written["attention_write"][index]):
            try:
                heads[index], head_bias[index] = _by_head(
                    recording, index, layer, row, path.attention
                )
            except Exception as finding:  # a module of another structure may raise anything
                whole[index] = str(finding)
    embedding = recording.rows("stream", 0, row)
    assert embedding is not None
    return Contributions(
        read=replace(read, bias=read.bias + bias),
        embedding=float(first @ exact(embedding[0])),
        attention=written["attention_write"],
        mixer=written["mixer_write"],
        mlp=written["mlp_write"],
        embedded=written["embedded_write"],
        heads=heads,
        head_bias=head_bias,
        whole=whole,
        edits=_edits(recording, position, paths),
    )


class LogitPath(NamedTuple):
    """Directions that read the logit at four places of a layer. [width] each.

    `after` reads the stream after the layer, `mlp` the MLP's write and later ones, `attention` the
    attention's and mixer's writes, `before` the stream before the layer.
    """

    after: Tensor
    mlp: Tensor
    attention: Tensor
    before: Tensor


def logit_paths(
    recording: Recording, position: int, read: LogitDirection
) -> tuple[list[LogitPath], Tensor, float]:
    """Return the directions that read each layer's writes and the embedding, and a bias.

    All are `read.direction`, unless norms apply to the stream itself: then the direction is carried
    back through those norms with their scales frozen, and the bias is what their biases add.

    Raises:
        Unattributable: the scale of such a norm cannot be frozen.
    """
    direction, bias, row = read.direction, 0.0, range(position, position + 1)
    paths: list[LogitPath] = []
    for index, layer in reversed(list(enumerate(recording.model.anatomy.layers))):
        norms = post_norms(layer)
        if norms is None:
            paths.append(LogitPath(direction, direction, direction, direction))
            continue
        try:
            mlp, attention, before, more = norms.back(recording.layer_rows(index, row), direction)
        except UnknownNorm as unknown:
            raise Unattributable(f"a norm in the stream of layer {index}: {unknown}") from None
        paths.append(LogitPath(direction, mlp, attention, before))
        direction, bias = before, bias + more
    return paths[::-1], direction, bias


def _edits(recording: Recording, position: int, paths: Sequence[LogitPath]) -> dict[int, float]:
    """Return what edits of the stream after a layer add to the logit, by layer.

    That is the part of the stream's change that no write explains.
    """
    row, effects = range(position, position + 1), {}
    for change in recording.changes:
        if change.stream_layer and position in change.rows:
            layer = change.stream_layer - 1
            after, before = (recording.rows("stream", at, row) for at in (layer + 1, layer))
            assert after is not None
            assert before is not None
            norms = post_norms(recording.model.anatomy.layers[layer])
            if norms is not None:
                left = exact(after[0]) - exact(norms.after(recording.layer_rows(layer, row))[0])
                effects[layer] = float(paths[layer].after @ left)
                continue
            left = exact(after[0]) - exact(before[0])
            for name in WRITES:
                write = recording.rows(name, layer, row)
                left = left if write is None else left - exact(write[0])
            effects[layer] = float(paths[layer].after @ left)
    return effects


def _by_head(
    recording: Recording, index: int, layer: Layer, row: range, direction: Tensor
) -> tuple[Doubles, float]:
    """Return what each head of a layer adds to the logit, [head], and what its biases add."""
    if layer.attention_out is None:
        raise Unattributable("its output projection was not found")
    heads = head_outputs(recording, index, row)  # [1, head, head width]
    modules, joined = (layer.attention, layer.attention_out), heads.flatten(1)
    with torch.no_grad():
        written = layer.written("attention_write", modules)(layer.projected(joined))
    factor = _factor(recording, "attention_write", index, row.start)
    written = written * factor
    write = recording.rows("attention_write", index, row)
    assert write is not None
    apart = discrepancy(written, write)
    if not apart <= bound(recording.model.precision, HEADS_BOUND):
        raise Unattributable(f"its heads do not add up to what it wrote: off by {apart:.1e}")
    each, rest = input_contributions(
        layer,
        "attention_write",
        modules,
        layer.attention_out,
        joined,
        direction,
        layer.heads_norm,
    )
    return each.reshape(heads.shape[1], -1).sum(-1) * factor, rest * factor


def _factor(recording: Recording, site: Site, layer: int, position: int) -> float:
    """Return the factor by which edits multiply a layer's write at a position.

    Raises:
        Unattributable: edits replace the write, which is then no longer a sum of heads or neurons.
    """
    factor = 1.0
    for change in recording.changes:
        if (change.site, change.layer) == (site, layer) and position in change.rows:
            if change.factor is None:
                part = "attention" if site == "attention_write" else "MLP"
                done = "replaces" if change.feature is None else "adds to"
                raise Unattributable(f"an edit {done} what its {part} wrote")
            factor *= change.factor
    return factor


def by_neuron(
    recording: Recording, layer: int, position: int, read: LogitDirection
) -> tuple[Doubles, float]:
    """Return what each neuron of a layer's MLP adds to the logit, [neuron], and what biases add.

    Raises:
        Unattributable: the MLP is a mixture of experts, its down projection was not found, or an
            edit replaces its write.
    """
    parts = recording.model.anatomy.layers[layer]
    if parts.experts is not None and parts.neurons is None:
        raise Unattributable(_no_experts(parts))
    if parts.down is None and parts.neurons is None:
        raise Unattributable("this layer has no MLP whose down projection could be found")
    if parts.neurons is not None and parts.neurons.away:
        raise Unattributable(AWAY)
    hidden = activations(recording, layer, range(position, position + 1))
    modules = (parts.mlp_input_module, parts.down)
    factor = _factor(recording, "mlp_write", layer, position)
    paths, *_ = logit_paths(recording, position, read)
    project: Callable[[Tensor], Tensor] | None = parts.down
    if parts.neurons is not None:
        project = _with_bias(parts.neurons, expert_rows(recording, layer, position))
    assert project is not None
    each, rest = input_contributions(parts, "mlp_write", modules, project, hidden, paths[layer].mlp)
    return each * factor, rest * factor


def _no_experts(parts: Layer) -> str:
    """Return why the neurons of a layer's experts cannot be told apart."""
    if parts.experts is None:
        return "this layer has no experts"
    return f"this layer's MLP is a mixture of experts: {parts.no_neurons}"


def _with_bias(
    neurons: ExpertNeurons, activations: ExpertActivations
) -> Callable[[Tensor], Tensor]:
    """Return the projection of experts' neurons for one row, whose choice decides on its biases."""
    bias = neurons.bias(activations)
    return lambda hidden: neurons(hidden) + bias


def by_expert(
    recording: Recording, layer: int, position: int, read: LogitDirection
) -> tuple[Doubles, float]:
    """Return what each expert that ran for a token adds to the logit, and what the rest adds.

    Returns:
        [choice], in the order of the recorded choice; and the contribution of shared experts and
        biases. What a norm behind the mixture subtracts is divided by its scale in this pass.

    Raises:
        Unattributable: the experts' neurons were not found, or an edit replaces the write.
    """
    parts = recording.model.anatomy.layers[layer]
    if parts.neurons is None:
        raise Unattributable(_no_experts(parts))
    if parts.neurons.away:
        raise Unattributable(AWAY)
    activations = expert_rows(recording, layer, position)
    experts = activations.chosen[0].tolist()
    writes = [parts.neurons.write_of(activations, expert) for expert in experts]
    written = torch.cat([*writes, parts.neurons.write_of(activations, None)])  # [part, width]
    written = written + _edited_neurons(recording, parts.neurons, layer, position, experts)
    factor = _factor(recording, "mlp_write", layer, position)
    paths, *_ = logit_paths(recording, position, read)

    def project(shares: Tensor) -> Tensor:
        return shares @ written

    ones = written.new_ones(1, len(written))
    modules = (parts.mlp_input_module, parts.down)
    each, rest = input_contributions(parts, "mlp_write", modules, project, ones, paths[layer].mlp)
    return each[:-1] * factor, float(each[-1] + rest) * factor


def _edited_neurons(
    recording: Recording,
    neurons: ExpertNeurons,
    layer: int,
    position: int,
    experts: Sequence[int],
) -> Tensor:
    """Return what edits of neurons add to each expert's write, and to the rest. [part, width]"""
    row, moved = range(position, position + 1), []
    for change in recording.changes:
        if (change.site, change.layer) == ("neurons", layer) and position in change.rows:
            moved.append(change.columns.start)
    added = torch.zeros(len(experts) + 1, recording.model.anatomy.width)
    if not moved:
        return added.to(recording.model.device, recording.model.dtype)
    after = activations(recording, layer, row)[0]
    before = expert_rows(recording, layer, position).whole()[0]
    added = added.to(after)
    for neuron in dict.fromkeys(moved):
        expert = neuron // neurons.weights.width
        part = experts.index(expert) if expert in experts else len(experts)
        added[part] += (after[neuron] - before[neuron]) * neurons.column(neuron)
    return added


def check_sum(recording: Recording, whole: float, parts: Iterable[float]) -> tuple[float, Verdict]:
    """Return `whole` less the sum of `parts`, in logits, and whether that is only rounding."""
    values = [float(part) for part in parts]
    if not all(map(math.isfinite, (whole, *values))):
        return math.nan, Verdict("refused", "the pass holds NaN or infinity there")
    left = whole - sum(values)
    largest = max(abs(whole), *(abs(value) for value in values))
    limit, share = (
        bound(recording.model.precision, BOUND, HALF_BOUND),
        abs(left) / largest if largest else abs(left),
    )
    if share <= limit:
        return left, Verdict("verified", "", share)
    reason = f"the parts leave {left:.2g} of {whole:.4g} unexplained (bound {limit:.0e})"
    return left, Verdict("refused", reason, share)
