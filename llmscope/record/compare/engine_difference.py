"""Where another engine's streams part from a model's, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmscope.record.capture.recording import Recording
from llmscope.record.compare.rounding import Doubles, Rounding, rounding, stream
from llmscope.record.compare.stream_difference import cosine, relative_difference
from llmscope.record.derive.kl import kl_divergence
from llmscope.record.derive.row_checks import readout_verdict

if TYPE_CHECKING:
    from llmscope.models.anatomy import Readout
    from llmscope.models.hidden_states import HiddenStates

ROWS = 64
"""Streams that are read in one batch."""
SAMPLE = 64
"""Tokens by which the layers are found that the streams of a file are of."""
LISTED = 8
"""Tokens that a caption names."""


@dataclass(frozen=True, eq=False)
class EngineDifference:
    """Another engine's streams against a model's, by layer of the file and token.

    Attributes:
        layers: how many blocks came before each stream, as in the file.
        relative: ‖a − b‖ / ‖a‖, a of the model. [layer, token]
        cosine: the cosine of a and b. [layer, token]
        kl: KL(a ‖ b) of what the model's final norm and unembedding read of both, in nats; None if
            the model's readout was not found, or does not give its logits. [layer, token]
        rounding: up to which relative difference rounding explains: of the median over tokens, and
            of each single token; None if it could not be measured. [layer, 2]
        dtype: the dtype whose rounding that is: the coarser of the two.
        parting: the index in `layers` of the first that parts by more than rounding; None if
            nowhere, or if rounding could not be measured.
        tokens: the tokens at which it parts there, in order; empty if nowhere.
        fitting: the layers of the model that the streams fit within rounding, if those are others
            than `layers`, in the order of the file; None for a stream that fits no layer. Empty if
            they part nowhere, or no other layer fits the first that parts.
        normed: whether the last stream is the model's after its final norm, and so not of `layers`.
        reason: why rounding could not be measured; "" if it was.
    """

    layers: tuple[int, ...]
    relative: Doubles
    cosine: Doubles
    kl: Doubles | None
    rounding: Doubles | None
    dtype: str
    parting: int | None = None
    tokens: tuple[int, ...] = ()
    fitting: tuple[int | None, ...] = ()
    normed: bool = False
    reason: str = ""

    @property
    def layer(self) -> int | None:
        """The id of the first layer that parts by more than rounding; None if nowhere."""
        return None if self.parting is None else self.layers[self.parting]

    @property
    def caption(self) -> tuple[str, ...]:
        """What was found, one line each."""
        if self.rounding is None:
            return (f"rounding was not measured: {self.reason}",)
        if self.parting is None:
            nearest = int((np.median(self.relative, axis=1) / self.rounding[:, 0]).argmax())
            return (
                f"no layer parts by more than rounding in {self.dtype}; nearest to it is "
                f"{self._apart(nearest)}",
            )
        at = self.parting
        lines = [f"the first to part by more than rounding in {self.dtype} is {self._apart(at)}"]
        if len(self.tokens) < self.relative.shape[1]:
            tokens = ", ".join(map(str, self.tokens[:LISTED])) + ", …" * (len(self.tokens) > LISTED)
            lines.append(f"it parts at {len(self.tokens)} of the tokens: {tokens}")
        if self.normed:
            lines.append(
                "the last stream is the one after the final norm; vLLM writes the one before it"
            )
        if self.fitting and None not in self.fitting:
            lines.append(f"the streams fit layer ids {','.join(map(str, self.fitting))}")
        elif self.fitting:
            lines.append(f"that stream fits layer id {self.fitting[at]}")
        return tuple(lines)

    def _apart(self, at: int) -> str:
        assert self.rounding is not None
        median, largest = float(np.median(self.relative[at])), float(self.relative[at].max())
        typical, single = (float(error) for error in self.rounding[at])
        return (
            f"layer id {self.layers[at]} ({named(self.layers[at])}): off by {median:.2g} in the "
            f"median, by {largest:.2g} at most, where rounding explains {typical:.2g} and "
            f"{single:.2g}"
        )


def named(layer: int) -> str:
    """Return what a layer id means: the name of that stream in llmscope."""
    return f"after layer {layer - 1}" if layer else "the embedding"


def hidden_states_difference(recording: Recording, states: HiddenStates) -> EngineDifference:
    """Compare the streams of a model with those that another engine wrote for the same tokens.

    A layer parts where the relative difference of its streams is above what rounding explains; see
    `Rounding.beyond`. The yardstick is measured in the coarser of both dtypes: for
    a file in bfloat16, the model itself in bfloat16 against the model in float32. So it grows with
    depth as the rounding of another engine does, and a difference in one layer is found in the
    first layer that holds it.

    Args:
        recording: the file's tokens on the model.
        states: the file.

    Raises:
        ScopeError: the file is of other tokens, or does not fit the model.
    """
    anatomy = recording.model.anatomy
    states.check(layers=recording.layers, width=anatomy.width, vocabulary=anatomy.vocabulary)
    states.check_ids(recording.prompt.ids)
    own_rounding = rounding(recording, getattr(torch, states.dtype))
    reads = recording.model.readout_holds and readout_verdict(recording).status != "refused"
    readout = anatomy.readout if reads else None
    parts, cosines, divergences = [], [], []
    for index, layer in enumerate(states.layers):
        ours, theirs = stream(recording, layer), _file_streams(states, index)
        parts.append(relative_difference(ours, theirs).cpu().numpy())
        cosines.append(cosine(ours, theirs).cpu().numpy())
        if readout is not None:
            divergences.append(_divergence(readout, ours, theirs))
    apart = np.stack(parts)
    bounds, parting, tokens = None, None, np.empty(0, dtype=np.intp)
    if not own_rounding.reason:
        bounds = np.array([own_rounding.bounds(layer) for layer in states.layers])
        beyond = np.stack(
            [own_rounding.beyond(*pair) for pair in zip(states.layers, apart, strict=True)]
        )
        parting = next((int(at) for at in np.flatnonzero(beyond.any(1))), None)
        tokens = tokens if parting is None else np.flatnonzero(beyond[parting])
    normed = parting is not None and _is_normed(recording, states, own_rounding)
    return EngineDifference(
        layers=states.layers,
        relative=apart,
        cosine=np.stack(cosines),
        kl=np.stack(divergences) if divergences else None,
        rounding=bounds,
        dtype=own_rounding.dtype,
        parting=parting,
        tokens=tuple(map(int, tokens)),
        fitting=()
        if parting is None
        else _fitting(recording, states, own_rounding, parting, normed),
        normed=normed,
        reason=own_rounding.reason,
    )


def _file_streams(states: HiddenStates, index: int, rows: range | None = None) -> Tensor:
    """Return the streams of a layer of a file. [token, width]"""
    streams = states.streams(index)
    # A copy: the numbers of a file in float32 are mapped and cannot be written.
    return torch.from_numpy(np.array(streams if rows is None else streams[: rows.stop]))


@torch.no_grad()
def _divergence(readout: Readout, ours: Tensor, theirs: Tensor) -> Doubles:
    """Return KL(model ‖ file) of what the model reads of both streams. [token]"""
    pieces: list[Tensor] = []
    for start in range(0, len(ours), ROWS):
        pair = (logits[start : start + ROWS].to(ours) for logits in (ours, theirs))
        pieces.append(kl_divergence(*map(readout, pair)).cpu())
    values: Doubles = torch.cat(pieces).numpy()
    return values


def _fitting(
    recording: Recording, states: HiddenStates, own_rounding: Rounding, parting: int, normed: bool
) -> tuple[int | None, ...]:
    """Return the layer that each stream of a file fits; see `EngineDifference.fitting`.

    A last stream from after the final norm counts as that of the last layer.
    """
    sample = range(min(len(recording), SAMPLE))
    ours = [stream(recording, layer, sample) for layer in range(recording.layers + 1)]
    layers_found: list[int | None] = []
    for index in range(len(states.layers)):
        theirs = _file_streams(states, index, sample)
        apart = [relative_difference(layer_stream, theirs).cpu().numpy() for layer_stream in ours]
        nearest = int(np.argmin([np.median(error) for error in apart]))
        fits = not own_rounding.beyond(nearest, apart[nearest]).any()
        layers_found.append(nearest if fits else None)
    if normed:
        layers_found[-1] = recording.layers
    if layers_found[parting] in (None, states.layers[parting]):
        return ()
    return tuple(layers_found)


@torch.no_grad()
def _is_normed(recording: Recording, states: HiddenStates, own_rounding: Rounding) -> bool:
    """Return whether the last stream of a file is the model's last after its final norm."""
    readout = recording.model.anatomy.readout
    if readout is None:
        return False
    sample = range(min(len(recording), SAMPLE))
    ours = readout.norm(stream(recording, recording.layers, sample))
    apart = relative_difference(ours, _file_streams(states, len(states.layers) - 1, sample))
    return not own_rounding.beyond(recording.layers, apart.cpu().numpy()).any()
