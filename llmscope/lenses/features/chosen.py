"""Which dictionary a figure is of, and how far it may be trusted on the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError, option
from llmscope.figure import VERIFIED, Figure, Focus, Verdict
from llmscope.lenses.features.options import FEATURES, PLACE
from llmscope.lenses.logit_target import progress
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
    from llmscope.learned.dictionaries.place import Place
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.features.active import Applied
    from llmscope.record.features.fit import Fit, SpliceCost

NAME = "features"


@dataclass(frozen=True)
class Chosen:
    """A dictionary on a recording, and what was measured of it there.

    Attributes:
        way: the dictionary, as it is applied.
        fit: how well it reconstructs the tokens near the cursor.
        cost, chance: what its reconstruction, and that of chance, do to the predictions; None if
            that cannot be measured, or not yet.
        unmeasured: why it cannot be; empty if it can.
        nearer: the tensor of another layer that it fits better, and the FVU there; None: none.
        trust: the verdict on the tensors that it reads and predicts.
        remarks: what its config tells that differs from the model or the prompt.
    """

    way: Applied
    fit: Fit
    cost: SpliceCost | None = None
    chance: SpliceCost | None = None
    unmeasured: str = ""
    nearer: tuple[Place, float] | None = None
    trust: Verdict = VERIFIED
    remarks: tuple[str, ...] = ()

    @property
    def header(self) -> DictionaryHeader:
        """What the dictionary is."""
        return self.way.dictionary.header


def candidates(recording: Recording, focus: Focus) -> list[DictionaryHeader | Dictionary]:
    """Return the dictionaries of a focus, in the order of the model; empty if none was given.

    Raises:
        ScopeError: one cannot be read.
    """
    from llmscope.learned.dictionaries.catalog import headers_of
    from llmscope.record.interventions.feature_edits import given_features

    dictionaries = FEATURES.of(focus) or given_features(recording.model)
    return headers_of(dictionaries, recording.model) if dictionaries else []


def lacking(recording: Recording) -> Figure:
    """Return the figure for a model without a dictionary, which says how to give one."""
    name = one_line(recording.model.name)
    return Figure.lacking(
        *(NAME, "Features", "dictionary of features"),
        f"no dictionary of features is given for {name}: "
        f"{option('features', 'FOLDER|ORG/NAME:PATH')}",
    )


def pick(
    dictionaries: Sequence[DictionaryHeader | Dictionary], focus: Focus
) -> DictionaryHeader | Dictionary:
    """Return the dictionary whose layer is nearest to the focus's, of those that read its place.

    Of several as near, one that reads the stream comes first.

    Args:
        dictionaries: those of the model, at least one.
        focus: its option `place` restricts the choice to dictionaries that read such a place; its
            layer decides among them.

    Raises:
        ScopeError: no dictionary reads that place.
    """
    from llmscope.learned.dictionaries.catalog import header_of
    from llmscope.learned.dictionaries.place import STREAMS

    place = PLACE.of(focus)
    fitting = [
        dictionary
        for dictionary in dictionaries
        if not place or header_of(dictionary).reads.kind == place
    ]
    if not fitting:
        there = ", ".join(sorted({header_of(dictionary).reads.kind for dictionary in dictionaries}))
        raise ScopeError(f"no dictionary is for {one_line(place)!r}", there)

    def distance(dictionary: DictionaryHeader | Dictionary) -> tuple[int, bool]:
        header = header_of(dictionary)
        return abs(header.reads.layer - focus.layer), header.reads.kind not in STREAMS

    return min(fitting, key=distance)


def previous(
    dictionaries: Sequence[DictionaryHeader | Dictionary], dictionary: DictionaryHeader | Dictionary
) -> DictionaryHeader | Dictionary | None:
    """Return the dictionary of the nearest earlier layer at the same kind of place; None: none."""
    from llmscope.learned.dictionaries.catalog import header_of

    header = header_of(dictionary)
    earlier = [
        other
        for other in dictionaries
        if header_of(other).reads.kind == header.reads.kind
        and header_of(other).reads.layer < header.reads.layer
    ]
    return max(earlier, key=lambda other: header_of(other).reads.layer, default=None)


def measure_fit(
    recording: Recording, focus: Focus, passes: Passes, title: str
) -> Iterator[Chosen | Figure]:
    """Yield the dictionary with its fit, and again when its effect on predictions is measured.

    If it does not fit at all, yield a refused figure instead, unless the user asked to see what
    failed its check.

    Raises:
        ScopeError: there is no such dictionary, or it cannot be read.
    """
    from llmscope.learned.dictionaries.catalog import load_weights
    from llmscope.record.features.active import Misfit, applied
    from llmscope.record.features.fit import fit_of, nearer_layer, splice_costs, tokens_near
    from llmscope.record.interventions.feature_edits import places_changed

    dictionaries = candidates(recording, focus)
    if not dictionaries:
        yield lacking(recording)
        return
    picked = pick(dictionaries, focus)
    dictionary = load_weights(picked, recording.model)
    rows = tokens_near(recording, focus.position)
    trust = VERIFIED
    for capability, layer in places_changed(recording.model, dictionary.header):
        if layer < recording.layers:
            trust = trust.worst(passes.verdicts(capability, layer))
    if trust.status == "refused":
        reason = f"what it reads cannot be trusted here: {trust.reason}"
        trust = replace(trust, reason=reason)
        # `unverified` can show wrong numbers, but not missing ones.
        if not passes.unverified or trust.discrepancy is None:
            yield Figure.refused(NAME, title, reason, trust.discrepancy)
            return
    try:
        way = applied(dictionary, recording)
        fit = fit_of(recording, way, rows)
        chosen = Chosen(way, fit, trust=trust, remarks=remarks(recording, dictionary.header))
    except Misfit as reason:
        yield Figure.refused(NAME, title, str(reason))
        return
    yield chosen
    chosen = replace(chosen, nearer=nearer_layer(recording, way, rows, fit.fvu))
    if not recording.model.readout_holds:
        yield replace(chosen, unmeasured="the model's readout is not verified")
        return
    try:
        cost, chance = splice_costs(recording, passes, way, rows)
    except (Misfit, ScopeError) as reason:
        yield replace(chosen, unmeasured=str(reason))
        return
    yield replace(chosen, cost=cost, chance=chance)


def figures(
    recording: Recording,
    focus: Focus,
    passes: Passes,
    title: str,
    draw: Callable[[Chosen], Figure],
    *,
    redraw: bool = False,
) -> Iterator[Figure]:
    """Yield the figure of a dictionary with what is known of its fit, then with all of it.

    Args:
        recording: the recording.
        focus: the selection.
        passes: runs the passes that measure the fit.
        title: of a refused figure.
        draw: makes the figure.
        redraw: whether it shows what is measured last.
    """
    from llmscope.record.analysis.logit_direction import Unattributable
    from llmscope.record.features.active import Misfit

    figure: Figure | None = None
    for chosen in measure_fit(recording, focus, passes, title):
        if isinstance(chosen, Figure):
            yield chosen
            return
        if figure is None or redraw:
            try:
                figure = draw(chosen)
            except (Misfit, Unattributable) as reason:
                yield Figure.refused(NAME, title, str(reason))
                return
        fitted = with_fit(figure, chosen, passes, title)
        yield fitted
        if fitted.verdict.status == "refused":
            return


def with_fit(figure: Figure, chosen: Chosen, passes: Passes, title: str) -> Figure:
    """Return the figure with its dictionary's fit; a refused one if that is as bad as chance.

    Args:
        figure: the figure.
        chosen: its dictionary.
        passes: tells whether the user asked to see what fails its check.
        title: of a refused figure.
    """
    verdict = verdict_of(chosen)
    if verdict.status == "refused" and not passes.unverified:
        return Figure.refused(NAME, title, verdict.reason, verdict.discrepancy)
    if verdict.status == "refused":
        verdict = replace(verdict, status="unverified")
    return _with(figure, chosen, verdict)


def _with(figure: Figure, chosen: Chosen, verdict: Verdict) -> Figure:
    """Return the figure with what was measured of its dictionary."""
    refused = figure.verdict.status == "refused"  # for another reason than the fit: it stays so
    waiting = chosen.cost is None and not chosen.unmeasured and not refused
    is_told = waiting or verdict.status == "verified" or refused
    title = figure.title
    if not is_told and math.isfinite(chosen.fit.fvu):
        title = f"{title} · FVU {chosen.fit.fvu:.2f}"
    extra = {
        **figure.extra,
        **describe_fit(chosen),
        "caption": (*figure.extra.get("caption", ()), *fit_sentences(chosen)),
        **(progress(0, 1) if waiting else {}),
    }
    return replace(figure, title=title, verdict=figure.verdict.worst(verdict), extra=extra)


def describe_fit(chosen: Chosen) -> dict[str, Any]:
    """Return what is known of a dictionary and its fit, for `extra`."""
    header, fit, cost, chance = chosen.header, chosen.fit, chosen.cost, chosen.chance
    return {
        "dictionary": header.name,
        "place": str(header.reads),
        "predicts": str(header.writes),
        "layer": header.reads.layer,
        "count": header.features,
        "bytes": chosen.way.dictionary.bytes,
        "architecture": header.activation,
        "model_name": header.model,
        "centred": chosen.way.centred,
        "tokens_measured": len(fit.tokens),
        "fvu": fit.fvu,
        "fvu_chance": fit.chance,
        "l0": fit.l0,
        "kl": None if cost is None else cost.mean_kl,
        "kl_chance": None if chance is None else chance.mean_kl,
        "loss": None if cost is None else cost.mean_loss,
        "loss_chance": None if chance is None else chance.mean_loss,
    }


def fit_sentences(chosen: Chosen) -> tuple[str, ...]:
    """Return the measurements in words, and what the config tells that differs from the model."""
    fit, cost, chance = chosen.fit, chosen.cost, chosen.chance
    size = f"{chosen.header.features:,} features, {chosen.way.dictionary.bytes / 1e6:,.1f} MB"
    words = [f"L0 {fit.l0:.3g}"]
    if math.isfinite(fit.fvu):
        words = [f"FVU {fit.fvu:.3g} (chance {fit.chance:.3g}), {words[0]}"]
    if cost is not None and chance is not None:
        loss = f", loss {cost.mean_loss:+.3g} ({chance.mean_loss:+.3g})"
        words.append(
            f"spliced in: KL {cost.mean_kl:.3g} nats (chance {chance.mean_kl:.3g})"
            + (loss if math.isfinite(cost.mean_loss) else "")
        )
    elif chosen.unmeasured:
        words.append(f"KL not measured: {chosen.unmeasured}")
    return (" · ".join(words), *chosen.remarks, size)


def remarks(recording: Recording, header: DictionaryHeader) -> tuple[str, ...]:
    """Return what a dictionary's config tells that differs from the model or the prompt."""
    from llmscope.models.model_names import alike, names_of
    from llmscope.record.features.places import changed_behind

    lines = []
    if header.model and not any(
        alike(header.model, model_name) for model_name in names_of(recording.model)
    ):
        lines.append(f"trained on {one_line(header.model)}, by its config")
    for place in dict.fromkeys((header.reads, header.writes)):
        if changed_behind(recording, place):
            lines.append(
                f"{one_line(place.module)} as it returns, before a norm or factor behind it"
            )
    first = header.about.get("prepend_bos")
    if isinstance(first, bool) and first != recording.prompt.special[0]:
        with_it, here = ("with", "without") if first else ("without", "with")
        lines.append(f"trained {with_it} a special token first; this prompt is {here} one")
    return tuple(lines)


def verdict_of(chosen: Chosen) -> Verdict:
    """Return how far the features of a dictionary can be trusted on the prompt.

    Refused: its reconstruction is no better than that of chance, or than the mean. Verified: its
    FVU and its KL are at most half of those of chance, it raises the loss by at most a nat, and it
    fits the tensor of no other layer better. Partial: anything between, what is not measured yet,
    and too few different tokens, unless both measures are no better than chance.
    """
    return _reconstruction_verdict(chosen).worst(chosen.trust)


def _reconstruction_verdict(chosen: Chosen) -> Verdict:
    from llmscope.record.features.fit import FEWEST, FITS, LOSS

    fit, cost, chance = chosen.fit, chosen.cost, chosen.chance
    numbers = f"FVU {fit.fvu:.2f}, a random dictionary's {fit.chance:.2f}"
    told_kl, kl_fails, kl_weak = "", False, False
    if cost is not None and chance is not None:
        told_kl = f"KL {cost.mean_kl:.2f} nats, a random dictionary's {chance.mean_kl:.2f}"
        kl_fails = not cost.mean_kl < chance.mean_kl
        kl_weak = cost.mean_kl > FITS * chance.mean_kl
    fails = not fit.fvu < fit.chance
    chance_wins = "it is no better than chance on this prompt"
    if fit.different < FEWEST:
        if fails and kl_fails:
            reason = told_kl if math.isnan(fit.fvu) else f"{numbers}; {told_kl}"
            return Verdict("refused", f"{chance_wins}: {reason}", fit.fvu)
        count = f"{fit.different} different token{'s' if fit.different > 1 else ''}"
        return Verdict("partial", f"{count}: too few to measure how well it fits", fit.fvu)
    if fails:
        return Verdict("refused", f"{chance_wins}: {numbers}", fit.fvu)
    if not fit.fvu < 1.0:
        reason = f"it is no better than the mean of this prompt's tokens: {numbers}"
        return Verdict("refused", reason, fit.fvu)
    if kl_fails:
        return Verdict("refused", f"{chance_wins}: {told_kl}", fit.fvu)
    if chosen.nearer is not None:
        other, fvu = chosen.nearer
        return Verdict(
            "partial",
            f"it fits the {other.title} better: FVU {fvu:.2f} there, {fit.fvu:.2f} here",
            fit.fvu,
        )
    if kl_weak or fit.fvu > FITS * min(1.0, fit.chance):
        reason = told_kl if kl_weak else numbers
        return Verdict("partial", f"it fits this prompt badly: {reason}", fit.fvu)
    if cost is not None and cost.mean_loss > LOSS:
        reason = f"its reconstruction raises the loss by {cost.mean_loss:.2f} nats"
        return Verdict("partial", f"it fits this prompt badly: {reason}", fit.fvu)
    if chosen.cost is None:
        why = chosen.unmeasured or "being measured"
        return Verdict("partial", f"its effect on predictions: {why}", fit.fvu)
    return replace(VERIFIED, discrepancy=fit.fvu, within=f"on {len(fit.tokens)} tokens: {numbers}")
