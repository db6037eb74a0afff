"""The definition of the lens `model-diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from llmscope.errors import opening_hint, option
from llmscope.figure import Figure, Focus, Verdict
from llmscope.figure.tables import Column, by_row, key, label, number
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.model_diff import depth, engine, parts, tokens
from llmscope.lenses.options import LAYER, POSITION, SPAN, TOP_K
from llmscope.models.hidden_states import HiddenStates

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.pair import Pair

TITLES = {**tokens.TITLES, **depth.TITLES, **parts.TITLES}
READ = ("kl", "log-ratio", "next", "lens")
"""The modes that read predictions off both models."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Compare this model, A, with another that reads the same tokens, B, on the same ids.

    Modes: `kl`: KL(A ‖ B) = Σ p_A (log p_A − log p_B) of the next-token prediction after each
    token, in nats, in float64 [position]. `next`: the probability of the likeliest next tokens in
    both [token, model]. `log-ratio`: log p_A − log p_B of each token given those before it, in
    nats [position], NaN for the first. `lens`: KL(A ‖ B) of the logit lens after each layer, each
    model through its own final norm and unembedding [layer + 1, position], the embedding first; the
    column of the focus comes first, NaN for cells not computed yet. `streams`: the cosine of the
    two streams at the focus, the median of that over tokens, and the linear CKA over tokens [what,
    layer + 1]. `difference`: ‖a − b‖ / ‖a‖ of the streams [layer + 1, position].

    `parts`: how much each head, attention and MLP of B writes otherwise than in A, when it is given
    what the same part reads in A: ‖b − a‖ / ‖w‖, averaged over tokens, with w what A's whole
    attention or MLP writes there [layer, component]. A change that a part inherits from an earlier
    one does not count. Heads are compared through the output projection alone.

    B may be the streams of one text that another engine wrote (`HiddenStates`): then there are the
    modes `kl`, `lens`, `streams` and `difference`, for that text, with a row for each stream of the
    file, read by A's final norm and unembedding. `bound` is then what rounding explains in each
    [layer], measured by running A in the coarser dtype.

    Models of different depth are compared at the same share of the depth. Probabilities are over
    the tokens that both vocabularies have.

    `extra` of all: mode, model_a, model_b, caption. Of `kl`: same_top: whether both have the same
    likeliest token [position]; top_ids [model, position]; mean, largest; changed, changed_ids,
    changed_probability [model, token]: the top_k tokens whose probability after the focus differs
    most. Of `next`: ids, kl, same_top. Of `log-ratio`: total. Of `lens`: for each cell ids, the
    token whose probability differs most (-1 if not computed), names of those, probability_a and
    probability_b; depths: the stream of B that each stream of A is compared with. Of `streams` and
    `difference`: parting: the first layer whose streams part by more than rounding, `embed` for the
    embedding, None if none does: the median over tokens decides; bound: the relative difference
    that rounding explains, of the coarser dtype. Of `parts`: embedding, readout: the change of the
    embedding, and of the logits that B reads off A's last stream; bound.

    Refused without a second model; `parts` where the two are not built alike.
    """
    from llmscope.record.compare.pair import Pair

    passes = cast("Passes", run)
    other = passes.versus
    if other is None:
        yield Figure.lacking("model-diff", TITLES[focus.mode], "second model", _no_model())
        return
    if isinstance(other, HiddenStates):
        yield engine.figure(recording, other, focus)
        return
    other.model.anatomy.check_tokens(recording.prompt.ids)
    verdict = other.verdicts("readout") if focus.mode in READ else Verdict("verified")
    if verdict.status == "refused" and not passes.unverified:
        reason = f"model B: {verdict.reason}"
        yield Figure.refused("model-diff", TITLES[focus.mode], reason, verdict.discrepancy)
        return
    if focus.mode == "parts":
        yield parts.parts(recording, passes, other, focus)
        return
    pair = Pair(recording, other.record(recording.prompt), key=other.key)
    if focus.mode == "difference" and not pair.same_width:
        reason = f"{depth.widths(pair)} have no difference: turn to streams or lens"
        yield Figure.refused("model-diff", TITLES[focus.mode], reason)
        return
    yield from _figures(pair, focus)


def _figures(pair: Pair, focus: Focus) -> Iterator[Figure]:
    match focus.mode:
        case "kl":
            yield tokens.divergence(pair, focus)
        case "log-ratio":
            yield tokens.log_ratio(pair, focus)
        case "next":
            yield tokens.next_token(pair, focus)
        case "lens":
            yield from depth.logit_lenses(pair, focus)
        case "streams":
            yield depth.similarity(pair, focus)
        case _:
            yield depth.difference(pair, focus)


LENS = Lens(
    name="model-diff",
    question="How does another model differ?",
    compute=compute,
    passes="own",
    two_models=True,
    needs=("readout",),
    options=(LAYER, POSITION, TOP_K, SPAN),
    modes=("kl", "next", "log-ratio", "lens", "streams", "difference", "parts"),
    only_in={
        "layer": ("lens",),
        "position": ("kl", "next", "lens", "streams"),
        "top_k": ("kl", "next"),
        "span": ("lens",),
    },
    axes={
        **dict.fromkeys(("kl", "log-ratio"), ("position",)),
        "next": ("token", "model"),
        "streams": ("what", "layer"),
        "parts": ("layer", "component"),
        "": ("layer", "position"),
    },
    columns=(
        key("position", "token of the prompt, from 0", "position", ("next", "streams")),
        number("kl", "KL(A ‖ B) of the predictions after it", unit="nats", modes=("kl", "lens")),
        Column(
            *("same_top", "bool", "label", "whether both have the same likeliest token"),
            of=by_row("same_top"),
            modes=("kl",),
        ),
        Column(
            *("token_id", "int32", "label", "id of the candidate"),
            of=by_row("ids"),
            modes=("next",),
        ),
        number("p", "probability of the candidate", unit="probability", modes=("next",)),
        number("log_ratio", "log p_A − log p_B of the token", unit="nats", modes=("log-ratio",)),
        label("token_id", "id of the token whose probability differs most", "ids", ("lens",)),
        number("p_a", "its probability in A", "probability_a", "probability", ("lens",)),
        number("p_b", "its probability in B", "probability_b", "probability", ("lens",)),
        number("similarity", "cosine or CKA of the streams", unit="cosine", modes=("streams",)),
        number("difference", "‖a − b‖ / ‖a‖ of the streams", modes=("difference",)),
        number(
            "change",
            "what the part writes otherwise, of the same input",
            "",
            "relative",
            ("parts",),
        ),
    ),
    edited="refused",
    unpaired={"": "it compares two models already"},
    help="""\
Two models on the same tokens: a full model A and its quantised, fine-tuned, merged or distilled \
copy B, or the same checkpoint in another dtype. --versus-model names B.

kl: how far the two predictions after each token are apart, KL(A ‖ B) in nats: 0, the same; a \
quantised copy is usually below 0.1 and has a few tokens far above. The caption counts how often \
both have the same likeliest token. next shows the candidates side by side, and log-ratio how much \
more likely A finds each token of this text.

lens: from which layer on they differ in what they would say. streams: cosine and CKA of the \
residual streams by layer; 1 means alike, up to length (cosine) or up to a rotation and a factor \
(CKA, over the tokens of the prompt). Models of one architecture that were trained apart have a \
cosine near 0 and a CKA far above it. difference: the same as a length, token by token, with the \
first layer that parts by more than rounding: a dequantised copy parts at the first matrix that \
was rounded.

parts: where the change is. What a part writes differs because its weights differ or because an \
earlier part changed its input. Here each head and MLP of B is given what it reads in A, so that \
only its own weights count: if one head was changed, one cell is lit. Heads that share keys and \
values change together with those.

Where models have different depths, layers are compared at the same share of it.""",
    shows={
        "kl": "KL(A ‖ B) of the predictions after each token, in nats",
        "next": "the candidates for the next token side by side",
        "log-ratio": "log p_A − log p_B of each token of the text",
        "lens": "how far the two logit lenses part, by layer and token",
        "streams": "cosine and CKA of the residual streams, by layer",
        "difference": "‖a − b‖ / ‖a‖ of the streams, by layer and token",
        "parts": "how much otherwise each head and MLP of B writes, given what it reads in A",
    },
    formula="""\
KL(A ‖ B) = Σ p_A (log p_A − log p_B)
‖a − b‖ / ‖a‖""",
    sources="""\
Kornblith et al. 2019 for linear CKA. llama.cpp's --kl-divergence reports the same KL over a text, \
as does llmscope compare.""",
    establishes="""\
how far two models are apart on this text: after which tokens, from which layer on, and (`parts`) \
in which heads and MLPs their own weights make the difference.""",
    not_established="that they are as close on other texts, or which of them is the better one.",
    next_check="`llmscope compare` over a corpus, and the tokens that part most in it.",
)


def _no_model() -> str:
    return (
        "there is no second model to compare this one with: "
        f"{opening_hint('versus-model', 'OTHER')}, or {option('versus-dtype', 'bfloat16')} for the "
        "same model twice"
    )
