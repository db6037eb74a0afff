"""The definition of the lens `stages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from llmscope.errors import opening_hint
from llmscope.figure import Figure, Focus
from llmscope.figure.tables import key, label, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.options import CONTEXT, LAYER, POSITION, SPAN, TOP_K, VERSUS_PROMPT
from llmscope.lenses.stages import depth, directions, heads, score, tokens, weights

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

TITLES = {
    **weights.TITLES,
    **tokens.TITLES,
    **depth.TITLES,
    **heads.TITLES,
    **directions.TITLES,
    **score.TITLES,
}
OF_WEIGHTS = (*weights.TITLES, *directions.TITLES)
ELSEWHERE = (
    "weights that are offloaded or split over processes cannot be compared here: kl and lens show "
    "what they do"
)


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Compare the model with its active adapter to the same model without it.

    Modes: `weights`: ‖ΔW‖ / ‖W‖ in Frobenius norms [layer, matrix]; `rank`: the effective rank
    of ΔW, exp of the entropy of σ / Σσ with σ its singular values [layer, matrix], 0 for unchanged
    matrices; NaN where a layer has no such matrix. `kl`: KL(tuned ‖ base) of the next-token
    prediction after each token, in nats [position]. `reward`: log π(token) − log π_ref(token),
    tuned minus base, of each token given those before it, in nats [position], NaN for the first:
    DPO's implicit reward is β times it.

    If the answer is known, both show only it: after the context (`focus.context`), after the common
    prefix of this prompt and B, and in a chat the assistant's messages with their end marks; NaN
    elsewhere. The tokens before it were not trained on. The prediction after the last token of the
    question is the answer's first, so `kl` shows it. `kl-all` and `reward-all` show all tokens.

    `lens`: KL(tuned ‖ base) in nats of the logit lens after each layer, each model through its own
    final norm and unembedding [layer + 1, position], the embedding first. The column of the focus
    comes first; NaN for cells not computed yet, or outside of the span.

    `heads`: how much otherwise each head writes, when the base's part is given what the tuned
    model's reads: ‖base − tuned‖ / ‖write‖, averaged over tokens, with the write of the tuned
    model's whole attention at the token [layer, head]. NaN where a layer is not split by heads.

    `directions`: σ of the four largest singular directions of each changed matrix of the focus's
    layer [direction], ΔW = Σ σ u vᵀ. Directions are interpreted as tokens for matrices that write
    to the stream, by unembed(gain ∘ σ u), and for those that read it through a norm, by
    v · norm(embedding); the signs of u and v are chosen so that the largest score is positive.

    `score`: the score of a reward model for the text that ends with each token [position], from one
    pass, since the model is causal. The score of the whole text is that after the last token that
    is not padding.

    σ are those of (α/r)·B·A, by the QR of its factors, for a plain LoRA; for others those of the
    difference between the merged matrix and the base's, in float64.

    `extra` of all: mode, adapter, caption. Of the weights modes: modules: the name of each matrix's
    module in its layer, and each [layer, matrix]: norm, before (‖W‖), rank (singular values above
    1e-6 of the largest), effective_rank, stable_rank (‖ΔW‖² / σ₁²), largest (σ₁); outside: the same
    for matrices in no layer, such as the unembedding: name, relative, rank, effective_rank; others:
    the names of parameters that differ and are not matrices: norms, biases, experts stacked in one
    tensor. Of `kl` and `reward`: left_out: the number of tokens outside of the answer; total: the
    sum over the others. Of `kl`, for the focus: position; changed: the top_k tokens whose
    probability differs most, changed_ids, changed_probability [tuned | base, token]. Of `reward`
    with a prompt B: versus_total: the total of B's answer, and margin: total − versus_total: above
    0, training moved the model towards this prompt's answer rather than B's. Of `lens`, for each
    cell: ids: the token whose probability differs most (-1 for cells not computed), names of those
    ids, and its probability in both, tuned and base; kinds.
    Of `heads`: attention and mlp, the same of what each layer's whole attention and MLP writes
    [layer]; embedding, readout; bound: what rounding explains. Of `directions`: layer, and for each
    direction modules (the matrix), share (σ² of its Σσ²), sides (`writes`, `reads`, or empty),
    tokens: the top_k of its interpretation, token_ids, token_scores, and beside: the same in words.

    Of `score`: reward_model, score, end (its position); with a prompt B versus_score and margin:
    score − versus_score.

    Refused if no adapter is on, except `score`, which only needs a reward model; `kl` and `reward`
    if a chat holds no answer yet; `directions` if no matrix of the layer changed.
    """
    passes = cast("Passes", run)
    if focus.mode == "score":
        yield score.score(recording, focus)
    elif recording.model.origin is None or passes.origin is None:
        title = TITLES[focus.mode.removesuffix(tokens.ALL)]
        reason = (
            "no adapter is on, so there is nothing to hold the model against: "
            f"{opening_hint('adapter', 'ADAPTER')}, and b on the screen"
        )
        yield Figure.lacking("stages", title, "adapter", reason)
    elif focus.mode in OF_WEIGHTS and _has_meta_weights(recording.model):
        yield Figure.refused("stages", TITLES[focus.mode], ELSEWHERE)
    elif focus.mode.startswith("reward"):
        yield tokens.rewards(recording, passes, focus)
    elif focus.mode.startswith("kl"):
        yield tokens.divergence(recording, passes.origin.record(recording.prompt), focus)
    elif focus.mode == "lens":
        yield from depth.lens(recording, passes.origin.record(recording.prompt), focus)
    elif focus.mode == "heads":
        yield heads.heads(recording, passes, passes.origin, focus)
    elif focus.mode == "directions":
        yield from directions.directions(recording, focus)
    else:
        from llmscope.record.compare.weight_delta import changes, no_matrices

        others = no_matrices(recording.model)
        for deltas in changes(recording.model):
            yield weights.weights(recording, deltas, others, focus)


def _has_meta_weights(model: LoadedModel) -> bool:
    """Return whether any weight of a model or its base is on the meta device."""
    models = (model, model.origin or model)
    return any(weight.is_meta for module in models for weight in module.module.parameters())


_WEIGHTS = ("weights", "rank")

LENS = Lens(
    name="stages",
    question="What did training change?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(LAYER, POSITION, TOP_K, SPAN, CONTEXT, VERSUS_PROMPT),
    modes=(
        "weights",
        "rank",
        "kl",
        "kl-all",
        "reward",
        "reward-all",
        "lens",
        "heads",
        "directions",
        "score",
    ),
    only_in={
        "layer": ("lens", "directions"),
        "position": ("kl", "kl-all", "lens"),
        "top_k": ("kl", "kl-all", "directions"),
        "span": ("lens",),
        "context": ("kl", "reward"),
    },
    axes={
        **dict.fromkeys(_WEIGHTS, ("layer", "matrix")),
        "lens": ("layer", "position"),
        "heads": ("layer", "head"),
        "directions": ("direction",),
        "": ("position",),
    },
    columns=(
        key("layer", "layer, from 0", "layer", ("directions",)),
        number("change", "‖ΔW‖ / ‖W‖ of the matrix", unit="ratio", modes=("weights",)),
        number("effective_rank", "exp of the entropy of σ / Σσ", "effective_rank", "", _WEIGHTS),
        number("rank", "singular values above 1e-6 of the largest", "rank", "", _WEIGHTS),
        number("stable_rank", "‖ΔW‖² / σ₁²", "stable_rank", "", _WEIGHTS),
        number("norm", "‖ΔW‖", "norm", "norm", _WEIGHTS),
        number("before", "‖W‖", "before", "norm", _WEIGHTS),
        number("largest", "σ₁", "largest", "norm", _WEIGHTS),
        number(
            "kl", "KL(tuned ‖ base) of the predictions", unit="nats", modes=("kl", "kl-all", "lens")
        ),
        number(
            "log_ratio", "log π / π_ref of the token", unit="nats", modes=("reward", "reward-all")
        ),
        label("token_id", "id of the token whose probability differs most", "ids", ("lens",)),
        number("p_tuned", "its probability, tuned", "tuned", "probability", ("lens",)),
        number("p_base", "its probability in the base", "base", "probability", ("lens",)),
        text("module", "the matrix", "modules", ("directions",)),
        text("side", "whether it writes to the stream or reads it", "sides", ("directions",)),
        number("change", "‖base − tuned‖ / ‖write‖ of the head", unit="relative", modes=("heads",)),
        number("size", "σ of the direction", unit="norm", modes=("directions",)),
        number("share", "σ² of its Σσ²", "share", "share", ("directions",)),
        number("score", "score of the text up to there", unit="reward", modes=("score",)),
    ),
    edited="refused",
    of_model=("weights", "rank", "directions"),
    unpaired=dict.fromkeys(
        ("weights", "rank", "directions"), "the weights are the same for every prompt"
    ),
    over_steps={
        "weights": ("Change of each matrix since the start, ‖ΔW‖ / ‖W‖", "‖ΔW‖ / ‖W‖"),
        "rank": ("Effective rank of what changed in each matrix", "effective rank"),
        "score": ("Reward of the text up to each token", "reward"),
        **dict.fromkeys(
            ("kl", "kl-all"), ("KL from the start, after each token", "KL from the start")
        ),
    },
    help="""\
A model that was fine-tuned, held against the model that it was trained from: with an adapter and \
without it, or with all weights of its own (--adapter takes either).

weights: each cell is a weight matrix, its layer on the left, and says how large the change is \
beside the matrix itself: 0.01 means that one part in a hundred was added. An adapter that was \
trained on a narrow task often changes a few layers much more than others.

rank: in how many directions the matrix was changed. A LoRA of rank 8 can have 8 at most; an \
effective rank of 2 says that two of them do nearly all. A full fine-tune changes all directions.

kl: how much the adapter changed what the model expects after each token, in nats: 0, the same \
prediction; 0.7, about a factor of two. Tokens of a prompt were usually not trained on, so that \
their predictions may drift widely without harm. They are left out where it is known which \
those are: all but what the assistant says in a chat, the first N tokens with --context N, and \
what B begins with as well. kl-all shows them too.

reward: how much likelier the tuned model finds each token than the base does, log π/π_ref in \
nats; reward-all, those of the question as well. DPO trains a model so that β times the sum over \
an answer is its reward. With a second prompt, B, which begins with the same question and ends in \
another answer, the margin says which of the two training favours: above 0, this one.

lens: at which depth it shows. The stream after each layer is put through the final norm and the \
unembedding, with the adapter and without, and a cell says how far the two readings part; the word \
is the token whose probability differs most. Rows that are dark above and bright below say from \
which layer on the model goes another way.

directions: what a layer was taught. A change of a matrix is a sum of few strong directions, each \
of which hears one thing and says one thing. Beside the strength of each stand the tokens that it \
promotes, where the matrix writes to the stream (attention's output, the MLP's down projection), \
or those whose embedding it answers to most, where it reads the stream. In early layers what is \
written is mostly read by later layers and not by the unembedding, and in late layers the stream \
holds more than embeddings: there the tokens are a hint and no proof.

heads: where attention changed. Each head of the base is given what the same head reads in the \
tuned model, so that a cell is lit where its own weights changed, and not where an earlier change \
reached it. The number is the change of what it writes beside all that its attention writes, \
averaged over tokens.

score: what a reward model thinks, with --reward MODEL. It was trained on pairs of answers to give \
the better one a higher number; only differences mean something, so hold another answer, B, \
against this one: above 0, the margin is in favour of this. A bar is the score if the text ended \
there, which it was not trained to judge in the middle of a sentence.""",
    shows={
        "weights": "size of each matrix's change beside the matrix",
        "rank": "in how many directions each matrix was changed: the effective rank",
        "kl": "how far the prediction after each token moved, in nats, where it was trained on",
        "kl-all": "the same, the tokens of the prompt too",
        "reward": "how much likelier each token became, in nats",
        "reward-all": "the same, the tokens of the prompt too",
        "lens": "how far the readings of the stream part, by layer and token",
        "heads": "how much otherwise each head writes than in the base, given what it reads",
        "directions": "the strongest directions of one layer's changes, and their tokens",
        "score": "what a reward model says of the text up to each token",
    },
    formula="""\
‖ΔW‖ / ‖W‖ in Frobenius norms
effective rank = exp of the entropy of σ / Σσ, σ the singular values of ΔW
KL(tuned ‖ base) = Σ p (log p − log q)
reward: log π / π_ref""",
    sources="Roy & Vetterli 2007 for the effective rank; Rafailov et al. 2023 for the reward.",
    establishes="""\
which matrices the training changed, how much and in how many directions, and how far its \
predictions on this text moved.""",
    not_established="""\
that a large change does much, or a small one little; or that it does the same on other texts. \
Tokens of a direction are a hint, above all in early layers.""",
    next_check="""\
kl and lens on texts that it was not trained on, with answers of both kinds; `llmscope compare` \
over a corpus.""",
)
