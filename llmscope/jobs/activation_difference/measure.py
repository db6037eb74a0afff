"""The activation difference lens: mean over texts of the stream of B minus that of A.

Minder et al. 2025, "Narrow Finetuning Leaves Clearly Readable Traces in Activation Differences"
(arXiv 2510.13900): at the first tokens of texts that have nothing to do with it, the difference
tells what a model was fine-tuned on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.corpus.records.prompts import digest_of
from llmscope.errors import ScopeError
from llmscope.figure import VERIFIED, Verdict
from llmscope.jobs.activation_difference.difference import (
    ActivationDifference,
    DifferenceReading,
    doubt,
)
from llmscope.jobs.activation_difference.first_tokens import FirstTokens, first_tokens, streams_at
from llmscope.jobs.activation_difference.noise_control import NoControl, noisy, weight_changes
from llmscope.jobs.activation_difference.statistics import CONTROLS, chance, margin, split_half
from llmscope.jobs.activation_difference.steering import Steered, steered_texts
from llmscope.jobs.fit_lens.fit_jacobian import about_model
from llmscope.jobs.state import JobPasses
from llmscope.learned.lenses.catalog import lens_for
from llmscope.models.anatomy import NO_READOUT
from llmscope.record.compare.same_tokens import token_difference
from llmscope.support.fsync import Journal
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.instrumented import InstrumentedModel

TOKENS = 5
"""The first tokens of each text that count, as in the paper."""


def activation_difference(
    a: InstrumentedModel,
    b: InstrumentedModel,
    texts: Iterable[str],
    *,
    tokens: int = TOKENS,
    layer: int | None = None,
    top_k: int = 10,
    translator: Any = None,
    strength: float | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
    checkpoint: Path | None = None,
) -> ActivationDifference:
    """Measure the activation difference of two models that are not changed meanwhile.

    Args:
        a, b: the model before training, and after.
        texts: texts that have nothing to do with what B was trained on.
        tokens: how many of the first tokens of each text count.
        layer: the layer that the verdict is about, from 0; None: the middle one.
        top_k: the number of tokens of a reading.
        translator: the learned lens, or its name or path, that the differences pass first, fitted
            for A; None reads them as they are.
        strength: what the difference is multiplied by where A generates with it; None: it does not.
        seed: of the noise.
        progress: called with what is done next.
        checkpoint: the file that keeps each pass, from which the same call goes on; None keeps
            nothing.

    Raises:
        ScopeError: the models do not read the same tokens, have streams of other sizes, or B has no
            readout; or too few texts are long enough.
    """
    reason = _unequal(a.model, b.model)
    if reason:
        raise ScopeError(
            f"{one_line(a.model.name)} and {one_line(b.model.name)} have no activation "
            f"difference: {reason}",
            "a model, and one that was trained from it",
        )
    lens = _lens(translator, a.model)
    layers = len(a.model.anatomy.layers)
    middle = layers // 2 if layer is None else layer
    beginnings = first_tokens(a.model, texts, tokens)
    journal = None
    if checkpoint is not None:
        models = {name: about_model(model.model) for name, model in (("a", a), ("b", b))}
        digest = digest_of((text.start, repr(text.whole)) for text in beginnings)
        journal = Journal(checkpoint, {**models, "texts": digest, "tokens": tokens, "seed": seed})
    progress("running both models")
    ours = streams_at(a, beginnings, tokens, JobPasses(journal, model="a"))
    differences = streams_at(b, beginnings, tokens, JobPasses(journal, model="b")) - ours
    mean = differences.mean(0)
    notes: tuple[str, ...] = ()
    try:
        controls = _controls(a, b, beginnings, ours, seed, progress, journal)
    except NoControl as finding:
        controls, notes = None, (f"no control with noise: {finding}",)
    progress("reading the differences")
    readings = _readings(a.model, b.model, differences, controls, top_k, lens)
    if not bool(mean[middle].any()):
        verdict = Verdict("refused", f"the models do not differ after layer {middle}")
    else:
        verdict = verdict_on(differences, controls, readings, middle)
        if controls is None:
            verdict = verdict.worst(Verdict("partial", notes[0]))
    steered: tuple[Steered, ...] = ()
    if strength is not None and verdict.status != "refused":
        progress("generating")
        noise = None if controls is None else controls[0, middle].mean(0)
        steered = steered_texts(a, beginnings, middle, mean[middle].mean(0) * strength, noise)
    return ActivationDifference(
        a=a.model.adapter or a.model.name,
        b=b.model.adapter or b.model.name,
        layer=middle,
        texts=len(beginnings),
        mean=mean,
        controls=controls,
        readings=readings,
        beginnings=tuple(beginnings),
        verdict=verdict,
        steered=steered,
        notes=notes,
    )


def _unequal(a: LoadedModel, b: LoadedModel) -> str:
    """Return why the streams of two models cannot be subtracted, or be read; "" if they can."""
    ours, theirs = a.anatomy, b.anatomy
    if (len(ours.layers), ours.width) != (len(theirs.layers), theirs.width):
        return (
            f"A has {len(ours.layers)} layers of width {ours.width}, and B {len(theirs.layers)} "
            f"of {theirs.width}"
        )
    for model in (a, b):
        if model.anatomy.readout is None or not model.readout_holds:
            return NO_READOUT
    return token_difference(a, b)


def _lens(translator: Any, model: LoadedModel) -> LearnedLens | None:
    if translator is None:
        return None
    lens = lens_for(translator, model)
    if isinstance(lens, str):
        raise ScopeError(lens, "another lens")
    return lens


def _controls(
    a: InstrumentedModel,
    b: InstrumentedModel,
    beginnings: Sequence[FirstTokens],
    ours: Tensor,
    seed: int,
    progress: Callable[[str], None],
    journal: Journal | None,
) -> Tensor:
    """Return the mean difference that noise makes, for each control. [control, layer, token, width]

    Raises:
        NoControl: the noise cannot be made.
    """
    norms = weight_changes(a.model, b.model)
    if not norms:
        raise NoControl("no weight of A differs in B")
    means = []
    for number in range(CONTROLS):
        progress(f"control {number + 1} of {CONTROLS}")
        with noisy(a.model, norms, seed + number):
            passes = JobPasses(journal, model=f"control {number}")
            means.append((streams_at(a, beginnings, ours.shape[2], passes) - ours).mean(0))
    return torch.stack(means)


@torch.no_grad()
def read(
    model: LoadedModel, vectors: Tensor, top_k: int, lens: LearnedLens | None = None
) -> tuple[Tensor, Tensor]:
    """Return the likeliest tokens of vectors in the stream, and their probabilities.

    Each vector is scaled to the square root of the width first, so that the constant in the final
    norm does not matter.

    Args:
        model: the model that reads them.
        vectors: one for each stream after a layer. [layer, token, width]
        top_k: the number of tokens.
        lens: the learned lens whose linear part they pass first; None: they do not.

    Returns:
        Ids and probabilities. [layer, token, top]
    """
    readout = model.anatomy.require_readout()
    likeliest = []
    for layer, rows in enumerate(vectors.to(model.device)):  # [token, width]
        if lens is not None:
            at = [layer + 1] * len(rows)
            rows = lens(rows, at) - lens(torch.zeros_like(rows), at)
        sizes = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=1e-30)
        scores = readout((rows / sizes * rows.shape[-1] ** 0.5).to(model.dtype)).float()
        best = scores.softmax(-1).topk(min(top_k, scores.shape[-1]), dim=-1)
        likeliest.append((best.indices.cpu(), best.values.cpu()))
    return torch.stack([ids for ids, _ in likeliest]), torch.stack(
        [shares for _, shares in likeliest]
    )


def _readings(
    a: LoadedModel,
    b: LoadedModel,
    differences: Tensor,
    controls: Tensor | None,
    top_k: int,
    lens: LearnedLens | None,
) -> tuple[DifferenceReading, ...]:
    mean = differences.mean(0)
    cosines, by_chance = split_half(differences), chance(differences)
    norms = torch.linalg.vector_norm(mean, dim=-1)  # [layer, token]
    read_of_b = read(b, mean, top_k, lens)
    if controls is not None:
        ratios = norms / torch.linalg.vector_norm(controls, dim=-1).mean(0)
        margins = margin(mean, controls)
        read_of_noise = read(a, controls[0], top_k, lens)

    def words(model: LoadedModel, likeliest: tuple[Tensor, Tensor], at: tuple[int, int]) -> Any:
        pairs = zip(likeliest[0][at].tolist(), likeliest[1][at].tolist(), strict=True)
        return tuple((model.label(token), share) for token, share in pairs)

    return tuple(
        DifferenceReading(
            *at,
            top=words(a, read_of_b, at),
            norm=float(norms[at]),
            ratio=None if controls is None else float(ratios[at]),
            split_half=float(cosines[at]),
            chance=float(by_chance[at]),
            margin=None if controls is None else float(margins[at]),
            control=() if controls is None else words(a, read_of_noise, at),
        )
        for at in ((layer, token) for layer in range(len(mean)) for token in range(mean.shape[1]))
    )


def verdict_on(
    differences: Tensor, controls: Tensor | None, readings: Sequence[DifferenceReading], layer: int
) -> Verdict:
    """Return the verdict on a layer, over all tokens.

    Refused: it depends on the texts. Partial: noise of the size of the change of weights could have
    made it, or some of its readings.
    """
    # Each token counts alike: an attention sink's norm is hundreds of times that of the others.
    sizes = torch.linalg.vector_norm(differences[:, layer].mean(0), dim=-1, keepdim=True)
    whole = (differences[:, layer] / sizes).flatten(1)[:, None]  # [text, 1, token × width]
    wrong = doubt(float(split_half(whole)), float(chance(whole)), None)
    if wrong:
        return Verdict("refused", f"after layer {layer} the difference is {wrong}")
    if controls is not None:
        far = float(margin(whole[:, 0].mean(0), (controls[:, layer] / sizes).flatten(1)))
        wrong = doubt(1.0, 0.0, far)
        if wrong:
            return Verdict("partial", f"after layer {layer} the difference is {wrong}")
    of_layer = [reading for reading in readings if reading.layer == layer]
    doubtful = [str(reading.token + 1) for reading in of_layer if reading.doubt]
    if doubtful:
        return Verdict(
            "partial",
            f"after layer {layer}, the readings of {len(doubtful)} of {len(of_layer)} tokens may "
            f"mean nothing: {', '.join(doubtful)}",
        )
    return VERIFIED
