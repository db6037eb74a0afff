"""The lens `probe`: the score of a fitted direction along the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import expanduser, isfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import option
from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.options import LAYER, LensOption
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.learned.lenses.directions import Directions
    from llmscope.record.capture.recording import Recording


def _unreadable(name: str, _: bool) -> str | None:
    """Return why a file cannot be read as directions; None if it may be."""
    if not name:
        return None
    if not name.endswith(SUFFIXES):
        return "a file of llmscope fit direction: .safetensors or .gguf"
    return None if isfile(expanduser(name)) else f"there is no file {name}"


SUFFIXES = (".safetensors", ".gguf")
DIRECTION = LensOption(
    *("direction", "path", ""),
    "A direction that `llmscope fit direction` fitted.",
    "FILE",
    shown="none",
    problem=_unreadable,
)
TITLES = {
    "layers": "Probe · score after each layer",
    "probability": "Probe · probability after each layer",
    "tokens": "Probe",
    "layer": "Probe",
}
UNIT = "class gaps"
"""The unit of the score: the distance between the means of both classes along the direction. It has
a scale of its own in `llmscope.draw.scale`."""


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """Compute `x · d / |d|² − offset` of the stream x after a layer, for a fitted direction d.

    Modes: `layers`: the score after each layer that has a direction [layer, position], NaN for the
    others; `probability`: the calibrated probability of the positive class there, [layer,
    position]; `tokens`: the score after the best layer of the fit [position]; `layer`: after the
    layer of the focus, or the nearest one that has a direction [position].

    Score 0 is where the probe decides, and 1 is the distance between the means of both classes.

    `extra`: mode, direction (the file), method, fitted_position, model_name, best (the layer that
    the fit chose), caption; doubtful: rows of layers whose probe is no better than its controls;
    held_out: accuracy, AUC, shuffled and random AUC, Brier and ECE by layer; kinds. Of one layer
    also layer, and probability [position].
    """
    from llmscope.learned.lenses.direction_file import directions_for

    direction = DIRECTION.of(focus)
    if not direction:
        reason = (
            f"there is no direction to read with: {option('direction', 'FILE')}, which "
            "llmscope fit direction makes"
        )
        return Figure.lacking("probe", TITLES[focus.mode], "direction", reason)
    directions = directions_for(direction, recording.model)
    if isinstance(directions, str):
        return Figure.refused("probe", TITLES[focus.mode], directions)
    extra = {
        "mode": focus.mode,
        "direction": one_line(str(directions)),
        "method": directions.method,
        "fitted_position": directions.position,
        "model_name": directions.model,
        "best": directions.best,
        "held_out": _held_out_scores(directions),
    }
    if focus.mode in ("layers", "probability"):
        return _map(recording, focus, directions, extra)
    layer = directions.best if focus.mode == "tokens" else directions.nearest(focus.layer)
    scores, chances = _read(recording, directions, layer)
    return Figure(
        lens="probe",
        title=f"Probe · score after layer {layer}",
        kind="bars",
        axes=(Axis("position", recording.prompt.labels),),
        values=scores,
        unit=UNIT,
        verdict=directions.verdict(layer, recording.model),
        extra={
            **extra,
            "layer": layer,
            "probability": chances,
            "special": recording.prompt.special,
            "caption": _caption(directions, layer),
        },
    )


def _map(
    recording: Recording,
    focus: Focus,
    directions: Directions,
    extra: dict[str, Any],
) -> Figure:
    at = int(focus.mode == "probability")
    values = np.full((recording.layers, len(recording)), np.nan, dtype=np.float32)
    for layer in directions.probes:
        values[layer] = _read(recording, directions, layer)[at]
    return Figure(
        lens="probe",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(layer_axis(recording), Axis("position", recording.prompt.labels)),
        values=values,
        unit="probability" if at else UNIT,
        verdict=directions.verdict(directions.best, recording.model),
        extra={
            **extra,
            "doubtful": tuple(layer for layer in directions.probes if directions.doubt(layer)),
            "caption": _caption(directions, directions.best),
            **layer_kinds(recording),
        },
    )


def _read(
    recording: Recording, directions: Directions, layer: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the score and the probability of each token. [position]"""
    probe = directions.probes[layer]
    rows = recording.rows("stream", layer + 1)
    assert rows is not None
    scores = probe.score(rows)
    return scores.cpu().numpy(), probe.probability(scores).cpu().numpy()


def _held_out_scores(directions: Directions) -> dict[str, dict[str, float]]:
    """Return what was measured on held-out texts, by layer."""
    return {
        str(layer): {
            "accuracy": probe.figures.held_out.accuracy.value,
            "auc": probe.figures.held_out.auc.value,
            "shuffled_auc": probe.figures.shuffled.auc.mean,
            "random_auc": probe.figures.random.auc.mean,
            "brier": probe.figures.calibration.brier,
            "ece": probe.figures.calibration.ece,
        }
        for layer, probe in directions.probes.items()
    }


def _caption(directions: Directions, layer: int) -> Sequence[str]:
    from llmscope.learned.lenses.directions import METHOD_NAMES

    figures = directions.probes[layer].figures
    lines = [
        f"{METHOD_NAMES[directions.method]} of {one_line(directions.sets.pairs)}; held-out AUC "
        f"after layer {layer}: {figures.held_out.auc.value:.2f}, shuffled labels "
        f"{figures.shuffled.auc.mean:.2f}, random directions {figures.random.auc.mean:.2f}"
    ]
    if directions.dose is not None:
        lines.append(f"after layer {directions.dose.layer} it {directions.dose}")
    return tuple(lines)


_SCORES = ("layers", "tokens", "layer")

LENS = Lens(
    name="probe",
    question="Where does a concept show?",
    compute=compute,
    passes="streams",
    options=(LAYER, DIRECTION),
    modes=("layers", "probability", "tokens", "layer"),
    only_in={"layer": ("layer",)},
    axes={
        **dict.fromkeys(("layers", "probability"), ("layer", "position")),
        "": ("position",),
    },
    columns=(
        key("layer", "layer of the probe, from 0", "layer", ("tokens", "layer")),
        number("score", "how far the stream lies along the direction", unit=UNIT, modes=_SCORES),
        number(
            "p", "probability of the positive class", unit="probability", modes=("probability",)
        ),
        number(
            *("p", "probability of the positive class", "probability", "probability"),
            ("tokens", "layer"),
        ),
    ),
    help="""\
A direction is a vector in the residual stream along which two kinds of texts differ: praise and \
blame, true and false, one language and another. `llmscope fit direction` finds one after each \
layer from pairs of texts, and --direction FILE reads the prompt with it. A cell is how far the \
stream of a token lies along the direction: 0 is where the probe decides, 1 is as far as the means \
of the two classes are apart, positive is towards the positive class. Colours and bars end at 1, \
as the first token of a prompt is often far beyond. The probability is the same number on a scale \
from 0 to 1, as it was calibrated on texts that the direction was not fitted on.

A direction was fitted at some tokens, usually the last one of a text; at others it is read off \
all the same, and shows where along the prompt the concept comes up.

Whether there is anything to read was measured when it was fitted, on texts of groups that it had \
not seen: verified if its AUC is above that of every shuffled label, interval included, and above \
every random direction. Partial if it is not, if its test set leaks, or if it was fitted for \
another model. Rows with ! are layers that fail. That a concept can be read does not mean that the \
model uses it: the caption tells whether adding the direction changes what the model says.""",
    shows={
        "layers": "score of each token after each layer",
        "probability": "probability of the positive class, of each token after each layer",
        "tokens": "score of each token after the layer that the fit chose",
        "layer": "score of each token after one layer",
    },
    formula="score = x · d / |d|² − offset, x the stream after the layer, d its direction",
    sources="""\
Rimsky et al. 2023, "Steering Llama 2 via Contrastive Activation Addition"; Zou et al. 2023, \
"Representation Engineering"; Alain and Bengio 2016, "Understanding Intermediate Layers Using \
Linear Classifier Probes"; Hewitt and Liang 2019, "Designing and Interpreting Probes with Control \
Tasks", for shuffled labels.""",
    establishes="""\
at which tokens and after which layers the concept can be read along this direction, as far as its \
held-out texts and controls go.""",
    not_established="""\
that the model uses it. What can be read need not be used, and a direction may have caught what \
merely goes with the concept in its pairs.""",
    next_check="""\
steer with it, at several doses (`llmscope fit direction` measures that), and read it on texts \
unlike its pairs.""",
)
