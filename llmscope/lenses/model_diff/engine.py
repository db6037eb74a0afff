"""The lens `model-diff` where B is the streams of one text that another engine wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.contrast.captions import in_lines
from llmscope.lenses.model_diff import depth, tokens

if TYPE_CHECKING:
    from llmscope.models.hidden_states import HiddenStates
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.engine_difference import EngineDifference

TITLES = {
    "kl": tokens.TITLES["kl"],
    **depth.TITLES,
    "streams": "Two engines · cosine of the streams after each layer",
}
SERIES = ("cosine here", "cosine, median")
NO_READOUT = "the model's final norm and unembedding were not found, and read both engines' streams"


def figure(recording: Recording, states: HiddenStates, focus: Focus) -> Figure:
    """Return how the streams of a file differ from those of a model, for the text of the file.

    Refused for another text, and for modes that need more of B than streams.
    """
    from llmscope.record.compare.engine_difference import hidden_states_difference

    title = TITLES.get(focus.mode)
    if title is None:
        return Figure.refused(
            "model-diff", focus.mode, f"a file of streams has no {focus.mode}: turn to difference"
        )
    try:
        difference = hidden_states_difference(recording, states)
    except ScopeError as error:
        return Figure.refused("model-diff", title, error.line)
    if focus.mode in ("kl", "lens") and difference.kl is None:
        return Figure.refused("model-diff", title, NO_READOUT)
    if focus.mode == "kl" and difference.layers[-1] != recording.layers:
        reason = f"the file has no stream {recording.layers}, from which the prediction is read"
        return Figure.refused("model-diff", title, reason)
    return _figure(recording, states, focus, difference, title)


def _figure(
    recording: Recording,
    states: HiddenStates,
    focus: Focus,
    difference: EngineDifference,
    title: str,
) -> Figure:
    """Return the figure of the focus's mode: bars of KL, heatmaps, or lines of cosines.

    Args:
        recording: the model's recording of the text, A.
        states: the streams of the file, B.
        focus: its mode is one of `TITLES`; `streams` shows its position.
        difference: what was measured between both.
        title: the title of the figure.
    """
    layers = Axis(
        "layer", tuple("embed" if not layer else str(layer - 1) for layer in difference.layers)
    )
    positions = Axis("position", recording.prompt.labels)
    kind: Any = "heatmap"
    unit, axes = "nats", tuple[Axis, ...]((layers, positions))
    match focus.mode:
        case "kl":
            assert difference.kl is not None
            kind, axes, values = "bars", (positions,), difference.kl[-1]
        case "lens":
            assert difference.kl is not None
            values = difference.kl
        case "streams":
            kind, unit, axes = "lines", "cosine", (Axis("what", SERIES), layers)
            at_focus = difference.cosine[:, focus.position]
            values = np.stack([at_focus, np.median(difference.cosine, axis=1)])  # [series, layer]
        case _:  # the mode `difference`
            unit, values = "relative", difference.relative
    parting = None if difference.parting is None else layers.labels[difference.parting]
    return Figure(
        lens="model-diff",
        title=title,
        kind=kind,
        axes=axes,
        values=values.astype(np.float32),
        unit=unit,
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "model_a": recording.model.full_name,
            "model_b": states.name,
            "special": recording.prompt.special,
            "layers": difference.layers,
            "parting": parting,
            "bound": None if difference.rounding is None else difference.rounding[:, 0],
            "dtype": difference.dtype,
            "caption": in_lines(*difference.caption),
        },
    )
