"""A lens, a format of files and a source of models for llmscope: see docs/plugins.md."""

import os
from pathlib import Path

import numpy as np

from llmscope.errors import ScopeError
from llmscope.export import Format
from llmscope.figure import Axis, Figure
from llmscope.lenses import Lens, LensOption
from llmscope.models.local_models import Stored
from llmscope.models.sources import Weights
from llmscope.models.spec import Source, Spec

AGAINST = LensOption("against", "integer", 2, "Rank of the candidate to compare with.", least=2)


def compute(recording, focus, run):
    """Return how far the first candidate is ahead after each token, in logits. [position]"""
    from llmscope.record.derive.tensors import logits_after  # imports torch: inside functions only

    labels = recording.prompt.labels
    ranked = (logits_after(recording, at).sort(descending=True).values for at in range(len(labels)))
    values = [float(row[0] - row[min(AGAINST.of(focus), len(row)) - 1]) for row in ranked]
    axes = (Axis("position", labels),)
    return Figure("margin", "Margin", "bars", axes, np.array(values, np.float32), "logits")


def write(document):
    """Return a line for each number: the lens, the labels of its place, the number."""
    lines = []
    for figure in document.figures:
        for place, value in np.ndenumerate(figure.values):
            labels = (axis.labels[at] for axis, at in zip(figure.axes, place, strict=True))
            lines.append("\t".join((figure.lens, *map(repr, labels), f"{value:.6g}")))
    return "\n".join(lines) + "\n"


def stored():
    """Yield the models in the lab's folder, if it is named."""
    home = os.environ.get("LAB_MODELS")
    for config in sorted(Path(home).glob("*/config.json")) if home else ():
        size = sum(file.stat().st_size for file in config.parent.iterdir())
        yield Stored(f"lab:{config.parent.name}", "lab", config.parent, size)


def fetch(spec, options):
    """Return the folder of a model."""
    for model in stored():
        if model.spec == spec.text:
            return Weights(model.path, spec.name)
    raise ScopeError(f"LAB_MODELS has no {spec.name}", "llmscope models")


MARGIN = Lens(
    name="margin",
    question="How clear was the choice after each token?",
    compute=compute,
    needs=("readout",),
    own_logits=True,
    options=(AGAINST,),
    axes={"": ("position",)},
    help="The logit of the likeliest candidate less that of the one at --against.",
)
TSV = Format("tsv", "numbers", write, provenance=False)
LAB = Source(
    "lab", "lab:NAME", "the lab's", lambda text: Spec(text, "lab", text[4:]), fetch, stored
)
