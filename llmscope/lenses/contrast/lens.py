"""The definition of the lens `contrast`, and its modes `kl`, `cosine` and `centred`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.cursor import focused_index, value_at
from llmscope.figure.tables import Column, by_row, key, number
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import about, most_changed
from llmscope.lenses.contrast.token import cue_heads, likeness, word_curves
from llmscope.lenses.options import POSITION, TOP_K, VERSUS_PROMPT, LensOption

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.pair import Floats, Pair

WORDS = LensOption[tuple[tuple[int, ...], tuple[int, ...]] | None]("words", "word-lists", None)
TITLES = {
    "kl": "Contrast · KL of the predictions after the same token",
    "word": "Contrast · cosine of the streams after each layer",
    "cosine": "Contrast · cosine of the same token's streams",
    "centred": "Contrast · cosine of the same token's streams, mean taken off",
    "lens": "Contrast · two lists of words",
    "attention": "Contrast · attention to what only A has",
    "attention-difference": "Contrast · attention to what differs, A − B",
}


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Compare this prompt (A) with prompt B at each token that both have.

    The tokens are aligned by their text, by a longest common subsequence, so that the prompts may
    have different lengths. If A is edited, B is not: without a prompt B, an edited A is compared
    with itself unedited.

    Modes: `kl`: KL(A ‖ B) and KL(B ‖ A) of the next-token predictions after each aligned token, in
    nats [position, divergence]. `cosine`: of the streams of an aligned token in A and in B after
    each layer, the embedding first [layer, position]; `centred`: the same after subtracting the
    mean over the tokens of both prompts in each layer, first and special tokens excluded from the
    mean. NaN for tokens that only A has.

    For the token in the focus: `word`: that cosine, its baseline, and the centred one
    [what, layer]; `lens`: mean logit of one list of words minus that of another in the logit lens
    after each layer, for A and for B [prompt, layer]; `attention`: for each head A's largest
    weight on a token that only A has, first and special tokens excluded [layer, head], NaN in
    layers without verified patterns; `attention-difference`: that minus the same for B.

    `extra` of all: mode; position, other_position (of the token in B; null if only A has it);
    aligned: positions in A and in B [pair, 2]; same: the length of the common prefix of both
    prompts, in tokens; unseen: whether the token comes before all differences; versus_ids,
    versus_labels; special; caption. For `kl`, of the focus: changed: the top_k tokens whose
    probability differs most, changed_ids, changed_probability [A | B, token]. For cosines
    baseline [layer]: the mean cosine of all pairs of different tokens of both prompts, first and
    special ones excluded (of the centred streams for `centred`, and as centred_baseline for
    `word`). For `lens` words, words_ids (both lists), given (whether the user gave them),
    difference [layer], parting (the first layer from which on A stays on its side of B; null: no
    such layer). For attention, of A and of B: weights, and cues: the position of the attended
    token, -1 if there is no such token [A | B, layer, head]. kinds: one per layer, where they are
    mixed.

    Refused without a prompt B or edits, and if the two only have special tokens and blanks in
    common; modes of one token also for a token that B lacks.
    """
    from llmscope.record.compare.contrast import paired
    from llmscope.record.compare.pair import Unpaired

    passes, title = cast("Passes", run), TITLES[focus.mode]
    try:
        other = focus.versus_prompt or (recording.prompt.ids if recording.changes else None)
        pair = paired(recording, other, passes.other)
        if focus.mode == "kl":
            yield from _divergences(pair, focus)
        elif focus.mode == "lens":
            yield word_curves(pair, focus, title)
        elif focus.mode == "word":
            yield likeness(pair, focus, title)
        elif focus.mode.startswith("attention"):
            yield cue_heads(pair, focus, title, passes)
        else:
            yield _cosines(pair, focus)
    except Unpaired as finding:
        if focus.versus_prompt:
            yield Figure.refused("contrast", title, str(finding))
        else:
            yield Figure.lacking("contrast", title, "prompt B", str(finding))


def _divergences(pair: Pair, focus: Focus) -> Iterator[Figure]:
    from llmscope.record.compare.pair import predictions_so_far

    extra, lines = _most_changed_tokens(pair, focus)
    shared = np.zeros(len(pair.a), dtype=bool)
    shared[[a for a, _ in pair.aligned if a < pair.same]] = True
    for predicted in predictions_so_far(pair, ~shared, focus.position):
        # What both prompts begin with is followed by the same prediction.
        values = np.where(shared, 0, np.stack([predicted.kl, predicted.reverse]))
        here = values[:, focus.position]
        here_line = [f"KL there: A‖B {here[0]:.3g}, B‖A {here[1]:.3g} nats"] if here[0] > 0 else []
        yield Figure(
            lens="contrast",
            title=TITLES["kl"],
            kind="heatmap",
            axes=(
                Axis("position", pair.a.prompt.labels),
                Axis("divergence", ("KL(A‖B)", "KL(B‖A)")),
            ),
            values=values.T.astype(np.float32),
            unit="nats",
            extra={**about(pair, focus, [*lines, *here_line]), **extra},
        )


def _most_changed_tokens(pair: Pair, focus: Focus) -> tuple[dict[str, Any], list[str]]:
    """Return the tokens whose probability after the focus token differs most, and a caption line.

    Both are empty if B does not have the focus token.
    """
    from llmscope.record.compare.pair import probabilities

    if pair.there(focus.position) is None:
        return {}, []
    both = probabilities(pair, focus.position)
    extra, listed = most_changed(pair.a.model, both, focus.top_k)
    word = pair.a.prompt.labels[focus.position]
    return extra, [f"next after ‹{word}›, A / B: {listed}"] if listed else []


def _cosines(pair: Pair, focus: Focus) -> Figure:
    from llmscope.record.compare.contrast import cosines

    values, baseline = cosines(pair, centred=focus.mode == "centred")
    layers = layer_axis(pair.a, embedding=True)
    return Figure(
        lens="contrast",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(layers, Axis("position", pair.a.prompt.labels)),
        values=values,
        unit="cosine",
        extra={
            **about(pair, focus, _lowest(pair, focus, values, baseline, layers.labels)),
            "baseline": baseline,
            **layer_kinds(pair.a),
        },
    )


def _lowest(
    pair: Pair, focus: Focus, values: Floats, baseline: Floats, layers: Sequence[str]
) -> list[str]:
    """Return a caption line with the lowest cosine of the focus token, and its baseline."""
    column = values[:, focus.position]
    if focus.position < pair.same or not np.isfinite(column).any():
        return []
    row = int(np.nanargmin(column))
    word = pair.a.prompt.labels[focus.position]
    line = f"‹{word}› is least like itself at layer {layers[row]}: {column[row]:.3f}"
    if np.isfinite(baseline[row]):
        line += f"; different tokens there {baseline[row]:.3f}"
    return [line]


_COSINES = ("cosine", "centred")
_OF_TOKEN = ("word", "lens", "attention", "attention-difference")


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the cosine of the token's residual streams in A and in B."""
    if figure.unit != "cosine" or None in (focused_index(axis, focus) for axis in figure.axes):
        return
    value = value_at(figure, focus)
    centred = ", mean taken off" if figure.extra.get("mode") == "centred" else ""
    yield "only A has this token" if value is None else f"cosine of A and B {value:.3f}{centred}"


LENS = Lens(
    name="contrast",
    question="What differs between A and B?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(POSITION, VERSUS_PROMPT, WORDS, TOP_K),
    modes=("kl", "word", "cosine", "centred", "lens", "attention", "attention-difference"),
    only_in={"words": ("lens",), "top_k": ("kl",)},
    axes={
        "kl": ("position", "divergence"),
        "word": ("what", "layer"),
        "lens": ("prompt", "layer"),
        **dict.fromkeys(("cosine", "centred"), ("layer", "position")),
        "": ("layer", "head"),
    },
    columns=(
        key("position", "token that is followed, from 0", "position", _OF_TOKEN),
        number("kl", "divergence of the predictions after it", unit="nats", modes=("kl",)),
        number("cosine", "of the streams in A and in B", "", "cosine", ("word", *_COSINES)),
        Column(
            *("baseline", "float32", "value", "mean cosine of pairs of different tokens"),
            unit="cosine",
            of=by_row("baseline"),
            modes=_COSINES,
        ),
        number("logit", "of one list of words less that of the other", "", "logit", ("lens",)),
        number(
            "weight",
            "largest share of attention on a token that A alone has",
            unit="probability",
            modes=("attention",),
        ),
        number("weight_difference", "that of A less that of B", "", "probability", _OF_TOKEN[-1:]),
    ),
    versus=True,
    unpaired={"": "it holds A against B already"},
    describe=describe_cursor,
    help="""\
Two prompts beside each other: this one, A, and prompt B. Tokens that both have, by their text and \
in the same order, are held against each other, wherever they stand; lengths may differ. Put one \
word into two sentences and see what the context made of it. Tokens are aligned by their longest \
common subsequence.

A token sees only what comes before it. In "I sat on the bank of the river" the word bank knows \
nothing of the river: up to there both prompts are the same, and so is all that the model \
computed. A line below the picture says so. Put what makes the difference first.

`kl` asks whether it matters for what comes next: the divergence of the two predictions after each \
shared token, both ways, 0 where they are the same; below it the tokens whose probability differs \
most. `word` follows the token under the cursor through the layers: the cosine of its stream in A \
and in B, beside that of different tokens. Streams of one layer point in much the same direction \
whatever the token; only what lies above that line is of this token. The third curve takes the \
mean of the layer off instead. `cosine` and `centred` show the same of all shared tokens.

`lens` reads the stream of the token after each layer with the final norm and the unembedding: the \
mean logit of one list of words less that of another, for A and for B. A token's stream predicts \
what comes next and does not name itself, so its top words show no sense, but two lists part where \
the senses do. Without --words-a and --words-b the words are those that A, and that B, finds \
likelier next, which must part at the end.

`attention` shows how much each head looks from the token at one that B does not have, the first \
and special tokens left out, as heads rest there when they have nothing to say; \
`attention-difference`, that less the same of B. Where a head looks is where it can read; what it \
makes of it is another question: patch it.""",
    shows={
        "kl": "divergence of the predictions after each shared token, both ways, in nats",
        "word": "cosine of one token's streams in A and in B, by layer, beside different tokens'",
        "cosine": "the same cosine for all shared tokens, by layer",
        "centred": "that cosine with the mean of the layer taken off",
        "lens": "mean logit of one list of words less that of another, by layer, in A and in B",
        "attention": "how much each head looks from the token at one that B does not have",
        "attention-difference": "that share in A less the same in B",
    },
    formula="""\
KL = Σ p log(p / q), in nats
cosine = x · y / (‖x‖ ‖y‖) of the streams; centred: x and y less their mean over the tokens of \
both prompts
baseline: the mean cosine of all pairs of different tokens""",
    sources="""\
Ethayarajh 2019, "How Contextual are Contextualized Word Representations?"; nostalgebraist 2020 \
for the logit lens.""",
    establishes="""\
after which shared tokens two prompts are continued otherwise, and from which layer on the streams \
of a token part.""",
    not_established="""\
which part makes the difference, or that what parts is used: streams may differ along directions \
that nothing reads.""",
    next_check="""\
carry the difference over with the lens patching, token by token and layer by layer.""",
)
