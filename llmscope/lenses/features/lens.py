"""The lens `features`: its modes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from llmscope.errors import option
from llmscope.figure import Figure, Focus
from llmscope.figure.tables import index, key, label, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.features import prompt, sweeps, token
from llmscope.lenses.features.chosen import (
    NAME,
    Chosen,
    candidates,
    figures,
    lacking,
    measure_fit,
    pick,
    previous,
    with_fit,
)
from llmscope.lenses.features.options import FEATURE, FEATURES, PLACE, QUERY
from llmscope.lenses.options import LAYER, POSITION, SPAN, TARGET, TOP_K, VERSUS
from llmscope.lenses.unit_examples import EXAMPLE_COLUMNS, EXAMPLES
from llmscope.support.numbers import significant
from llmscope.support.text import display_text, quoted_token

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

_DRAWN = {
    "token": token.active_features,
    "direct": token.direct,
    "prompt": prompt.along_prompt,
    "map": prompt.map_of_tokens,
    "tokens": prompt.promotes,
    "find": prompt.found_by,
    "examples": prompt.examples,
    "fit": prompt.fit_by_token,
    "fit-kl": prompt.kl_by_token,
}
"""The figures that need no more than the recording, by mode."""
OTHER_FEATURES = "other features may be the strongest in B: ask for one feature by its number"


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Show features of the dictionary for the layer of the focus, or for the nearest layer.

    Modes: `token`: the strongest features at the position [feature], with the direct effect on the
    target's logit and the tokens that each promotes; `direct`: those of the largest direct effect
    [feature], in logits; `new`: those that are like no active feature of the dictionary of an
    earlier layer [feature]; `prompt`: one feature along the prompt [position]; `map`: the
    strongest at the position along the prompt [position, feature]; `tokens`: what one feature
    promotes and suppresses [token]; `find`: features by label or promoted token [feature];
    `examples`: where in a corpus one feature is active [example];
    `ablation`, `ablation-kl`: Δ logit or KL without each feature [feature]; `gradient`: gradient ×
    activation over all tokens [feature]; `fit`, `fit-kl`: variance unexplained, and KL with the
    reconstruction spliced in, of each token [reconstruction, position]: of the dictionary and of
    chance.

    `extra`: mode, position; ids: the features shown, the strongest first; strongest: the strongest
    at the position, None without an active one; labels, direct, activations, promotes, suppresses;
    of one feature: feature, activation, label, promoted, suppressed; target_id, target, versus_id,
    versus. Of the dictionary: dictionary, place, predicts, layer, count, bytes, architecture,
    model_name, centred; on the prompt: tokens_measured, fvu, l0, kl, loss, and fvu_chance,
    kl_chance, loss_chance: those of a random dictionary.
    """
    passes = cast("Passes", run)
    if focus.mode in _DRAWN:
        title = {"fit": "Fit of the dictionary", "fit-kl": "Fit of the dictionary"}
        draw = partial(_DRAWN[focus.mode], recording, focus)
        again = focus.mode == "fit-kl"
        yield from figures(
            recording, focus, passes, title.get(focus.mode, "Features"), draw, redraw=again
        )
    elif focus.mode == "new":
        yield from _new(recording, focus, passes)
    elif focus.mode == "gradient":
        draw = partial(sweeps.gradient, recording, focus, passes)
        yield from figures(recording, focus, passes, "Gradient × activation", draw)
    else:
        yield from _ablation(recording, focus, passes)


def _new(recording: Recording, focus: Focus, passes: Passes) -> Iterator[Figure]:
    from llmscope.learned.dictionaries.catalog import header_of, load_weights

    dictionaries = candidates(recording, focus)
    if not dictionaries:
        yield lacking(recording)
        return
    picked = pick(dictionaries, focus)
    before = previous(dictionaries, picked)
    if before is None:
        layer = header_of(picked).reads.layer
        reason = f"no dictionary of a layer before {layer} is given: {option('features')} once more"
        yield Figure.refused(NAME, "New features", reason)
        return
    earlier = load_weights(before, recording.model)

    def draw(chosen: Chosen) -> Figure:
        return token.new_features(recording, focus, chosen, earlier)

    yield from figures(recording, focus, passes, "New features", draw)


def _ablation(recording: Recording, focus: Focus, passes: Passes) -> Iterator[Figure]:
    from llmscope.record.features.active import Misfit

    title, last = "Features taken away", None
    for chosen in measure_fit(recording, focus, passes, title):
        last = chosen
    if last is None or isinstance(last, Figure):
        if last is not None:
            yield last
        return
    try:
        for figure in sweeps.ablation(recording, focus, passes, last):
            yield with_fit(figure, last, passes, title)
    except Misfit as reason:
        yield Figure.refused(NAME, title, str(reason))


_TARGETED = ("token", "direct", "ablation", "ablation-kl", "gradient")
_OF_TOKEN = (*_TARGETED, "new", "find")
_ACTIVATIONS = ("token", "new", "prompt", "map", "examples")


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the chosen or strongest feature: its value, its label, and what it promotes."""
    extra = figure.extra
    chosen, ids = FEATURE.of(focus), [int(feature) for feature in extra.get("ids", ())]
    index = extra.get("strongest") if chosen is None else chosen
    if extra.get("position") != focus.position or index not in ids:
        return
    row = ids.index(index)
    label = display_text(str(extra["labels"][row])) if "labels" in extra else ""
    name = f"{'strongest ' * (chosen is None)}feature {index}{label and f' ({label})'}"
    text = f"{name} at {significant(float(figure.values[row]))}"
    yield text if figure.unit == "activation" else f"{text} {figure.unit}"
    promoted = extra.get("promotes")
    if promoted and promoted[row]:
        yield f"it promotes {' '.join(map(quoted_token, promoted[row][:3]))}"


LENS = Lens(
    name=NAME,
    question="Which features are active?",
    compute=compute,
    passes="own",
    options=(
        LAYER,
        POSITION,
        TARGET,
        VERSUS,
        SPAN,
        TOP_K,
        FEATURES,
        PLACE,
        FEATURE,
        QUERY,
        EXAMPLES,
    ),
    modes=(
        *("token", "direct", "new", "prompt", "map", "tokens", "find", "examples"),
        *("ablation", "ablation-kl", "gradient", "fit", "fit-kl"),
    ),
    only_in={
        **dict.fromkeys(("target", "versus"), _OF_TOKEN),
        "span": ("prompt", "map"),
        "top_k": (*_OF_TOKEN, "map", "tokens", "examples"),
        "feature": ("token", "direct", "new", "find", "prompt", "tokens", "examples"),
        "query": ("find",),
        "examples": ("examples",),
    },
    axes={
        "prompt": ("position",),
        "map": ("position", "feature"),
        "tokens": ("token",),
        "examples": ("example",),
        **dict.fromkeys(("fit", "fit-kl"), ("reconstruction", "position")),
        "": ("feature",),
    },
    columns=(
        key("layer", "layer of the dictionary, from 0", "layer"),
        key("position", "token of the prompt, from 0", "position", _OF_TOKEN),
        key("feature", "feature, from 0", "feature", ("prompt", "tokens", "examples")),
        index("number of the example, from 0", ("examples",)),
        label("token_id", "id of the token", "ids", ("tokens",)),
        number("activation", "of the feature", "", "activation", _ACTIVATIONS),
        number("activation", "of the feature", "activations", "activation", ("direct",)),
        number("direct", "what it adds to the target's logit", "direct", "logit", ("token",)),
        number("direct", "what it adds to the target's logit", "", "logit", ("direct",)),
        number(
            "logit", "of the token, mean-centred, for an activation of 1", "", "logit", ("tokens",)
        ),
        number(
            "value", "the activation, or the logit of the token that was asked for", modes=("find",)
        ),
        number(
            "effect", "change of the target's logit without it", unit="logit", modes=("ablation",)
        ),
        number("effect", "KL(whole ‖ without it)", unit="nats", modes=("ablation-kl",)),
        number("effect", "gradient × activation, over all tokens", "", "logit", ("gradient",)),
        number("unexplained", "share of the variance", unit="FVU", modes=("fit",)),
        number("kl", "KL(whole ‖ with the reconstruction)", unit="nats", modes=("fit-kl",)),
        text("target", "the target token", "target", _TARGETED),
        label("target_id", "id of the target", "target_id", _TARGETED),
        text("label", "the feature's label; empty without one", "labels", (*_OF_TOKEN, "map")),
        *EXAMPLE_COLUMNS,
        text("place", "place of the dictionary", "place"),
        text("dictionary", "name of the dictionary", "dictionary"),
    ),
    edited="recorded",
    unpaired=dict.fromkeys(("token", "direct", "new", "map", "find"), OTHER_FEATURES)
    | dict.fromkeys(
        ("ablation", "ablation-kl", "gradient", "fit", "fit-kl"),
        "it is measured on one prompt, with passes of its own",
    )
    | {"examples": "examples are of a corpus, the same for all prompts"}
    | {"tokens": "what a feature promotes is in the weights, the same for all prompts"},
    of_model=(),
    describe=describe_cursor,
    help="""\
A sparse dictionary describes a tensor of the model, such as the stream after a layer, as a sum \
of a few out of many features. Where a neuron mixes meanings, a feature often has one. The rows \
are the features that are active at the token under the cursor, the strongest first: index, \
activation, what it adds to the target's logit directly, a label if the dictionary has one, and \
the tokens that its decoder row promotes. Labels come from whoever made the dictionary; promoted \
tokens are computed, and speak of features near the output only.

Dictionaries are read from folders: --features FOLDER, of SAELens (autoencoders: standard, \
JumpReLU, TopK, BatchTopK, gated; transcoders, with skip or without) or Gemma Scope, or \
org/name:path from the hub. Several may be given: the figure is of the one for the layer, or for \
the nearest layer; its title tells which.

Whether the dictionary describes this model on this prompt is measured, beside a random \
dictionary of the same size with as many active features, which picks those that lie most along \
the answer. FVU is the share of the variance that is left unexplained, over the tokens that \
count: no special ones, and not the first, whose stream is an outlier in most models. With the \
reconstruction in the tensor's place, KL and loss tell what the model loses. No better than \
chance: refused. At most half of chance in both: verified. Between: partial, with the FVU in the \
title. A feature that fires says that its direction is there, not that the model uses it: \
ablation and gradient tell that, to their own accuracy.""",
    shows={
        "token": "the features that are active at the token, the strongest first",
        "direct": "those that write most to the target's logit without passing a later layer",
        "new": "those that are like no active feature of the dictionary of an earlier layer",
        "prompt": "one feature along the prompt",
        "map": "the strongest features by token",
        "tokens": "what one feature promotes and suppresses",
        "find": "features by a part of a label, or by a token that they promote",
        "examples": "where in a corpus one feature is active",
        "ablation": "change of the target's logit without each of the active features",
        "ablation-kl": "KL without each of the active features, in nats",
        "gradient": "gradient × activation of each feature, over all tokens",
        "fit": "share of the variance left unexplained by token, beside a random dictionary",
        "fit-kl": "KL with the reconstruction in the tensor's place, by token",
    },
    formula="""\
features = act(x W_enc + b_enc)
x̂ = features W_dec + b_dec""",
    sources="""\
Bricken et al. 2023, "Towards Monosemanticity"; Cunningham et al. 2023, "Sparse Autoencoders Find \
Highly Interpretable Features"; Lieberum et al. 2024, "Gemma Scope"; Dunefsky et al. 2024, \
"Transcoders Find Interpretable LLM Feature Circuits"; Marks et al. 2024, "Sparse Feature \
Circuits", for gradient × activation.""",
    establishes="""\
which directions of this dictionary are in the tensor at this token, and how well the dictionary \
describes this model on this prompt, beside a random one.""",
    not_established="""\
that the model uses a feature, or that its label is right: an active feature may do nothing for \
the answer, and labels come from whoever made the dictionary.""",
    next_check="""\
`ablation`, or the edit `zero feature LAYER/FEATURE`, tells what changes without it; `examples` \
where else it is active.""",
)
