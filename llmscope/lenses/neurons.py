"""The lens `neurons`: the activation of one neuron, and the tokens that it promotes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import index, key, label, number
from llmscope.learned.examples import unit
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.mlp import neuron_names
from llmscope.lenses.options import LAYER, POSITION, TOP_K, LensOption
from llmscope.lenses.unit_examples import EXAMPLE_COLUMNS, EXAMPLES, unit_examples
from llmscope.support.arguments import check_index

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.record.capture.recording import Recording

NEURON = LensOption[int | None](
    *("neuron", "integer", None, "Index of a neuron, from 0."),
    shown="the strongest at the position",
)
EXPERT = LensOption[int | None](
    *("expert", "integer", None, "Expert of the neuron, which is then counted within it."),
    shown="all neurons of the layer are counted, the shared experts' last",
)
SAID = 5
"""Number of promoted and of suppressed tokens that the caption names."""


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """Show one neuron of a layer's MLP: `focus.neuron`, else the strongest at the position.

    Modes: `activation`: the input of the down projection, along the prompt [position]; `tokens`:
    the top_k tokens that the neuron promotes most, descending, and the top_k that it suppresses
    most, down to the lowest [token]: s (r − mean r) with r = W_U · C (gain ∘ W_out[n]), in logits
    for an activation of s, before the final norm divides by the stream's size. s is the sign of the
    activation at the position, so that the tokens are those that the neuron promotes there; the
    mean is over the vocabulary, since a shift of all logits changes no probability. `gain` is the
    final norm's, elementwise, and C subtracts the mean in a LayerNorm; a projection before the
    unembedding, multipliers, and the gain of a norm after the MLP are included. The strongest
    neuron is that of the largest magnitude. `examples`: where in a corpus the neuron is active
    [example].

    In a mixture of experts `focus.neuron` counts the neurons of all experts, one expert after the
    other and the shared ones last, or with the option `expert` those of one; an activation is that
    of the expert times the router's weight of it, and NaN where the expert did not run.

    `extra`: mode, layer, neuron, names (of experts' neurons alone), position, activation (at the
    position), sign (s: 1 or -1), count (of the layer's neurons); promoted and suppressed (texts),
    promoted_ids, promoted_values, suppressed_ids, suppressed_values, the strongest first; caption.
    """
    import torch

    from llmscope.record.analysis.neuron_vocab import logit_effect
    from llmscope.record.derive.tensors import activations, neuron_columns
    from llmscope.record.norms import UnknownNorm

    row = range(focus.position, focus.position + 1)
    (here,) = activations(recording, focus.layer, row).float()  # [neuron]
    neuron, count = _neuron_number(recording, focus, here), len(here)
    names = neuron_names(recording, focus.layer, (neuron,)).get("names", (str(neuron),))
    title = f"Neuron {names[0]} of layer {focus.layer}"
    if focus.mode == "examples":
        folder = EXAMPLES.of(focus)
        figure = unit_examples(
            *("neurons", unit.neuron(focus.layer, neuron)),
            None if folder is None else Path(folder).expanduser(),
            model=recording.model.spec,
            limit=focus.top_k,
        )
        more = {"mode": focus.mode, "layer": focus.layer, "neuron": neuron}
        return replace(figure, extra={**figure.extra, **more})
    try:
        effect = logit_effect(recording, focus.layer, neuron).numpy()
    except UnknownNorm as finding:
        return Figure.refused("neurons", title, str(finding))
    column = torch.tensor([neuron], device=here.device)
    along = neuron_columns(recording, focus.layer, column)[:, 0].float()  # [position]
    sign = -1 if here[neuron] < 0 else 1
    raised = sign * (effect - effect.mean())
    order = np.argsort(-raised, kind="stable")
    up, down = order[: focus.top_k], order[::-1][: focus.top_k]
    label = recording.model.label
    promoted, suppressed = ([label(int(token)) for token in tokens] for tokens in (up, down))
    extra = {
        "mode": focus.mode,
        "layer": focus.layer,
        "neuron": neuron,
        **neuron_names(recording, focus.layer, (neuron,)),
        "position": focus.position,
        "activation": float(here[neuron]),
        "sign": sign,
        "count": count,
        "promoted": promoted,
        "promoted_ids": up,
        "promoted_values": raised[up],
        "suppressed": suppressed,
        "suppressed_ids": down,
        "suppressed_values": raised[down],
    }
    if focus.mode == "tokens":
        after = recording.prompt.labels[focus.position]
        both = np.concatenate([up, down[::-1]])
        return Figure(
            lens="neurons",
            title=f"{title} · what it promotes and suppresses",
            kind="bars",
            axes=(Axis("token", (*promoted, *suppressed[::-1])),),
            values=raised[both].astype(np.float32),
            unit="logit",
            extra={
                **extra,
                "ids": both,
                "caption": (
                    f"mean-centred logits for an activation of {sign}, its sign here, before the "
                    "division by the stream's size",
                    f"activation at ‹{after}› {extra['activation']:.3f}",
                ),
            },
        )
    return Figure(
        lens="neurons",
        title=f"{title} · activation",
        kind="bars",
        axes=(Axis("position", recording.prompt.labels),),
        values=along.cpu().numpy(),
        unit="activation",
        extra={
            **extra,
            "special": recording.prompt.special,
            "caption": (f"promotes {_list(promoted)}", f"suppresses {_list(suppressed)}"),
        },
    )


def _neuron_number(recording: Recording, focus: Focus, here: Tensor) -> int:
    """Return the number of the neuron that the focus asks for among all of the layer.

    Args:
        here: the activations at the position. [neuron]
    """
    experts, expert = recording.model.anatomy.layers[focus.layer].neurons, EXPERT.of(focus)
    first, count = 0, len(here)
    if expert is not None:
        if experts is None:
            raise WrongValueError(f"layer {focus.layer} has no experts, and so no expert {expert}")
        count = experts.weights.width
        first = check_index("expert", expert, experts.weights.count) * count
    if focus.neuron is None:
        return first + int(here[first : first + count].abs().argmax())
    return first + check_index("neuron", focus.neuron, count)


def _list(tokens: Sequence[str]) -> str:
    return " ".join(f"‹{token}›" for token in tokens[:SAID])


LENS = Lens(
    name="neurons",
    question="What does this neuron say?",
    compute=compute,
    needs=("activations", "readout"),
    options=(LAYER, POSITION, NEURON, EXPERT, TOP_K, EXAMPLES),
    modes=("activation", "tokens", "examples"),
    only_in={"examples": ("examples",)},
    axes={"activation": ("position",), "tokens": ("token",), "examples": ("example",)},
    columns=(
        key("layer", "layer, from 0", "layer"),
        key("neuron", "neuron, from 0", "neuron"),
        index("number of the example, from 0", ("examples",)),
        number(
            "activation", "activation of the neuron", "", "activation", ("activation", "examples")
        ),
        label("token_id", "id of the token", "ids", ("tokens",)),
        number("logit", "what it adds to the token's logit", "", "logit", ("tokens",)),
        *EXAMPLE_COLUMNS,
    ),
    of_model=("tokens",),
    unpaired={
        "tokens": "what a neuron says is in the weights, the same for all prompts",
        "examples": "examples are of a corpus, the same for all prompts",
    },
    help="""\
A neuron of an MLP fires on some tokens, and what it then writes to the stream raises the logits \
of some tokens and lowers those of others. The bars show its activation on each token of the \
prompt; the mode tokens lists what it promotes, from the top, and what it suppresses, from the \
bottom; the mode examples shows where in a corpus it fires, once `llmscope examples` has looked. \
Unless a neuron is asked for it is the one that is strongest on the token under the cursor.

A neuron speaks when it fires: a strong bar and a clear list together say what it does here. In \
most models an activation may be negative; the list follows its sign on the token under the \
cursor, so that what it promotes is what it promotes there. Many neurons, above all in early \
layers, have lists without sense, because they talk to later layers and not to the output. How \
much of what it writes reaches the logits depends on the size of the stream.

In a mixture of experts a neuron is one of an expert's, 12.340, or of the shared ones', shared.7. \
Its activation is multiplied by the weight that the router gave the expert, and it has a value \
only on tokens that the expert ran for.""",
    shows={
        "activation": "activation of the neuron on each token of the prompt",
        "tokens": "the tokens that it promotes, and those that it suppresses",
        "examples": "where in a corpus it fires",
    },
    formula="""\
W_U · (gain ∘ W_out[n]), with the gain of the final norm, minus its mean over the vocabulary, for \
an activation of 1 or −1""",
    sources="""\
Geva et al. 2022, "Transformer Feed-Forward Layers Build Predictions by Promoting Concepts in the \
Vocabulary Space".""",
    establishes="""\
where on this prompt the neuron fires, and what its output weights add to the logits directly.""",
    not_established="""\
what the neuron is for: what later layers make of its write is not counted, and in early layers \
the list of tokens often makes no sense.""",
    next_check="""\
`examples`, over a corpus; then the edit `zero neuron LAYER.NEURON`, and the next token.""",
)
