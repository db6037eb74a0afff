"""The lens `logit-lens`: the next-token prediction after each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from os.path import basename, expanduser, isdir, isfile, join
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import option
from llmscope.figure import VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.figure.cursor import layer_row, value_at
from llmscope.figure.tables import Column, count, key, label, number, text
from llmscope.figure.tables.rows import texts_of_ids
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.focus import span_rows
from llmscope.lenses.logit_target import progress
from llmscope.lenses.next_token import candidates
from llmscope.lenses.options import LAYER, POSITION, SPAN, TARGET, TOP_K, LensOption
from llmscope.support.numbers import percent, share, significant
from llmscope.support.text import one_line, quoted_token

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens
    from llmscope.lenses.base import RankRange
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.record.analysis.logit_lens import LensReading, LensReadings
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch


def _unreadable(lens: Any, allow_pickle: bool) -> str | None:
    """Return why a lens cannot be read; None if it may be, before a model is loaded."""
    if not isinstance(lens, str) or lens in ("jacobian", "tuned"):
        return None
    lens = expanduser(lens)
    if not isdir(lens):
        wrong = lens.endswith(SUFFIXES) and ":" not in lens and not isfile(lens)
        return f"there is no file {lens}" if wrong else None
    if isfile(join(lens, "params.safetensors")):
        return None
    if not isfile(join(lens, "params.pt")):
        return "a folder with config.json and params.pt"
    return (
        None
        if allow_pickle
        else f"params.pt is a pickle: {option('allow-pickle')}, if you trust it"
    )


SUFFIXES = (".pt", ".safetensors")
_FORM = "FILE|FOLDER|ORG/NAME:PATH"
TRANSLATOR = LensOption[Any](
    *("translator", "lens", None),
    "The learned lens that streams pass first: Jacobian (.pt or .safetensors) or tuned (a folder). "
    "`jacobian` or `tuned`: the one that is known for the model.",
    _FORM,
    problem=_unreadable,
)
SECOND = LensOption[Any](
    *("second_translator", "lens", None),
    "Another learned lens, for the mode `lenses`.",
    _FORM,
    problem=_unreadable,
)
OF_ONE_PROMPT = "it runs one prompt with small steps, and a difference of such ratios says little"
OTHERS = "B may have other tokens on top: turn to the probability of the target"
ROUNDING = 1e-6
"""KL in nats below which two distributions are the same up to rounding."""
FIRST = 1
"""Columns computed for the first figure; each later figure adds twice as many."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Compute softmax(unembed(norm(stream))) after each layer. [layer, position], embedding first.

    Modes: `top`: the probability of the most probable token, given by `extra["ids"]` and "names";
    `target`: the probability of one token, the top next one unless another is given, with
    `extra["ranks"]` (from 1) and the top token's probability in `extra["top"]`; `kl`: KL(model's
    own prediction ‖ this one) in nats; `layer`: the top_k most probable tokens after one layer at
    one position [token], with `extra` as of the lens next-token; `lenses`: the top tokens at one
    position, through each lens [layer, lens];
    `slope`: what the model does with the lens's direction of a token at one position, divided by
    what the lens says [layer]; see `llmscope.record.analysis.lens_slope`. With a span, only the
    positions in it; NaN for cells not computed. The column of the focus comes first, then those
    around it.

    With a translator, each stream that has a map passes it first: `J stream` for a Jacobian lens,
    `stream + W stream + b` for a tuned one. The others (the last, the embedding, layers that were
    not fitted) are read as they are: `extra["unmapped"]`.

    `extra`: mode, ids of the top tokens (-1 for cells not computed), names of those ids, ranks,
    target_id, target, kinds; with a translator also translator (the model that it is for), lens
    (its kind), unmapped, doubtful (streams after which it is no better than the logit lens or its
    baseline), held_out; in the modes of one token also caption; side by side also cell_marks.
    """
    from llmscope.learned.lenses.catalog import lens_for
    from llmscope.record.analysis.logit_lens import LensReading, lacks, read, readings

    model = recording.model
    if focus.mode == "lenses":
        yield _side_by_side(recording, focus)
        return
    translator = TRANSLATOR.of(focus)
    learned = None if translator is None else lens_for(translator, model)
    if isinstance(learned, str):
        yield Figure.refused("logit-lens", "Learned lens", learned)
        return
    if focus.mode == "slope":
        yield from _slope(recording, focus, learned, cast("Passes", run))
        return
    if focus.mode == "layer":
        yield _through(_candidates(recording, focus, learned), learned, model, focus)
        return
    reading = LensReading(_target(recording, focus), focus.mode == "kl", learned)
    groups = list(growing(focus, len(recording)))
    for at, columns in enumerate(groups):
        yield from read(recording, columns, reading)
        # After a typed letter, only the first group is new: the other figures would be the same.
        whole = not lacks(recording, list(chain(*groups[at + 1 :])), reading)
        values = readings(recording, reading, span_rows(focus, len(recording)))
        figure = _figure(recording, focus, reading, values)
        yield _through(figure, learned, model, focus)
        if whole:
            return


def growing(focus: Focus, length: int) -> Iterator[list[int]]:
    """Yield the positions to compute, nearest to the focus first, in groups that double in size."""
    columns = sorted(span_rows(focus, length), key=lambda column: abs(column - focus.position))
    start, count = 0, FIRST
    while start < len(columns):
        yield columns[start : start + count]
        start, count = start + count, 2 * count


def ahead(looks: Sequence[tuple[Recording, Focus]]) -> None:
    """Compute the predictions that `compute` needs for several recordings in one batch.

    Do nothing if a translator is given, whose errors `compute` reports, or for one cell.
    """
    from llmscope.record.analysis.logit_lens import LensReading, read_together

    whole = ("top", "target", "kl")
    if any(TRANSLATOR.of(focus) is not None or focus.mode not in whole for _, focus in looks):
        return
    read_together(
        [
            (
                recording,
                span_rows(focus, len(recording)),
                LensReading(_target(recording, focus), focus.mode == "kl"),
            )
            for recording, focus in looks
        ]
    )


def _candidates(recording: Recording, focus: Focus, learned: LearnedLens | None) -> Figure:
    """Return the most probable tokens if the model stopped after the layer of the focus."""
    from llmscope.record.analysis.logit_lens import scores_at

    label, place = recording.model.label, recording.prompt.labels[focus.position]
    scores = scores_at(recording, [focus.layer], focus.position, learned)[0]
    chances = scores.double().softmax(-1)
    title = f"Logit lens · layer {focus.layer} at ‹{place}›"
    if not bool(chances.isfinite().all()):
        return Figure.refused("logit-lens", title, "the logits hold NaN or infinity")
    best = chances.topk(min(focus.top_k, len(chances)))
    ids = best.indices.cpu().numpy()
    target = int(ids[0]) if focus.target is None else focus.target
    probability = chances[target]
    return Figure(
        lens="logit-lens",
        title=title,
        kind="bars",
        axes=(Axis("token", tuple(label(int(token)) for token in ids)),),
        values=best.values.float().cpu().numpy(),
        unit="probability",
        extra={
            "mode": focus.mode,
            "layer": focus.layer,
            "position": focus.position,
            "after": place,
            "ids": ids,
            "entropy": float(-(chances * chances.clamp_min(1e-300).log2()).sum()),
            "target_id": target,
            "target": label(target),
            "target_rank": int((chances > probability).sum()) + 1,
            "target_probability": float(probability),
        },
    )


def _target(recording: Recording, focus: Focus) -> int | None:
    """Return the target token; None in the mode `top`."""
    from llmscope.record.derive.tensors import logits_after

    if focus.mode != "target":
        return None
    if focus.target is not None:
        return focus.target
    return int(logits_after(recording, focus.position).argmax())


def _figure(
    recording: Recording, focus: Focus, reading: LensReading, values_read: LensReadings
) -> Figure:
    label, (ids, names) = recording.model.label, token_names(recording, values_read.token)
    extra: dict[str, Any] = {
        "mode": focus.mode,
        "ids": ids,
        "names": names,
        **layer_kinds(recording),
    }
    title, unit = "Logit lens · top token after each layer", "probability"
    values, target = values_read.probability, reading.target
    if target is not None:
        values = values_read.target
        title = f"Logit lens · probability of ‹{label(target)}› after each layer"
        extra |= {
            "top": values_read.probability,
            "ranks": values_read.rank,
            "target_id": target,
            "target": label(target),
        }
    elif reading.kl:
        # A trace of rounding would stretch a logarithmic scale.
        values, unit = np.where(values_read.kl < ROUNDING, np.float32(0), values_read.kl), "nats"
        title = "Logit lens · KL of the model's prediction from that after each layer"
    return Figure(
        lens="logit-lens",
        title=title,
        kind="heatmap",
        axes=(
            layer_axis(recording, embedding=True),
            Axis("position", recording.prompt.labels),
        ),
        values=values,
        unit=unit,
        extra=extra,
    )


def token_names(
    recording: Recording, tokens: NDArray[np.float32]
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return token ids as integers, -1 where they are NaN, and the texts of those ids."""
    known = np.isfinite(tokens)
    ids = np.where(known, tokens, -1).astype(np.int64)
    return ids, {int(token): recording.model.label(int(token)) for token in np.unique(ids[known])}


def _side_by_side(recording: Recording, focus: Focus) -> Figure:
    """Return the top token after each layer at one position, through each lens. [layer, lens]

    Of several residual streams, each is a lens of its own: what the model's head would read if all
    streams were this one.
    """
    from llmscope.learned.lenses.catalog import known_lenses, lens_for
    from llmscope.record.analysis.logit_lens import OneStream, scores_at

    model, place = recording.model, recording.prompt.labels[focus.position]
    title = f"Lenses side by side at ‹{place}›"
    translators = [
        translator
        for translator in (TRANSLATOR.of(focus), SECOND.of(focus))
        if translator is not None
    ]
    learned: list[LearnedLens] = []
    for name in dict.fromkeys((*translators, *known_lenses(model))):
        lens = lens_for(name, model)
        if isinstance(lens, str):
            return Figure.refused("logit-lens", title, lens)
        if name in translators or lens.kind not in {other.kind for other in learned}:
            learned.append(lens)
    count = recording.streams
    streams = [OneStream(index, count) for index in range(count)] if count > 1 else []
    if not learned and not streams:
        return Figure.refused(
            "logit-lens",
            title,
            f"no learned lens is known for this model: {option('translator', 'FILE')}, or fit "
            "one with llmscope fit",
        )
    layers = range(-1, recording.layers)
    lenses = (None, *streams, *learned)
    columns = [scores_at(recording, layers, focus.position, lens) for lens in lenses]
    chances = [column.softmax(-1).max(-1) for column in columns]
    ids = np.stack([chance.indices.cpu().numpy() for chance in chances], axis=1)
    names = {int(token): model.label(int(token)) for token in np.unique(ids)}
    words = ("logit", *(f"stream {stream.index}" for stream in streams), *_short_names(learned))
    verdict, captions = VERIFIED, []
    for name in learned:
        own_verdict, lines = _trust(name, model, focus)
        verdict = verdict.worst(own_verdict)
        captions += lines
    return Figure(
        lens="logit-lens",
        title=title,
        kind="heatmap",
        axes=(layer_axis(recording, embedding=True), Axis("lens", words)),
        values=np.stack([chance.values.float().cpu().numpy() for chance in chances], axis=1),
        unit="probability",
        verdict=verdict,
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "after": place,
            "ids": ids.astype(np.int64),
            "names": names,
            "cell_marks": tuple(
                ("", *("" for _ in streams), *(_mark(lens, layer + 1) for lens in learned))
                for layer in layers
            ),
            "caption": tuple(captions),
            **layer_kinds(recording),
        },
    )


def _short_names(lenses: Sequence[LearnedLens]) -> list[str]:
    """Return the kind of each lens, or the file of those that are not the only one of a kind."""
    kinds = [lens.kind for lens in lenses]
    return [
        lens.title.removesuffix(" lens") if kinds.count(lens.kind) == 1 else basename(str(lens))
        for lens in lenses
    ]


def _slope(
    recording: Recording, focus: Focus, learned: LearnedLens | None, run: Passes
) -> Iterator[Figure]:
    """Yield what the model does with the lens's direction of a token, against the lens. [layer]"""
    from llmscope.record.analysis.lens_slope import slopes
    from llmscope.record.derive.tensors import logits_after

    model, position = recording.model, focus.position
    title = f"Learned lens against the model at ‹{recording.prompt.labels[position]}›"
    if learned is None:
        yield Figure.refused(
            "logit-lens", title, f"it is about a learned lens: {option('translator', 'LENS')}"
        )
        return
    if recording.changes:
        yield Figure.refused("logit-lens", title, "it can only tell of an unedited pass")
        return
    target = focus.target
    if target is None:
        target = int(logits_after(recording, position).argmax())
    title = title.replace("Learned lens", learned.title)
    layers = [stream - 1 for stream in sorted(learned.maps) if stream > 0]
    if not layers:
        yield Figure.refused("logit-lens", title, "the lens has no map of a layer's output")
        return
    apart = _last_layer(recording, position)
    for claimed, measured, done in slopes(recording, position, learned, target, run):
        ratio = (measured / claimed)[layers]
        known = ratio[np.isfinite(ratio)]
        near = int(((known > 0.5) & (known < 2)).sum())
        verdict = VERIFIED
        if near < len(known):
            verdict = Verdict(
                "partial",
                f"the model does something else than the lens says, in sign or by a factor of 2, "
                f"after {len(known) - near} of {len(known)} layers",
            )
        yield Figure(
            lens="logit-lens",
            title=title,
            kind="bars",
            axes=(Axis("layer", tuple(map(str, layers)), start=layers[0]),),
            values=ratio.astype(np.float32),
            unit="model ÷ lens",
            verdict=verdict,
            extra={
                "mode": focus.mode,
                "position": position,
                "target_id": target,
                "target": model.label(target),
                "lens": learned.kind,
                "translator": learned.model,
                "said": claimed[layers],
                "measured": measured[layers],
                "beside": tuple(
                    f"lens {claim:.3g}, model {other:.3g}"
                    for claim, other in zip(claimed[layers], measured[layers], strict=True)
                ),
                "caption": (
                    f"of ‹{model.label(target)}›: the sign agrees after {int((known > 0).sum())} "
                    f"of {len(known)} layers, the size within a factor of 2 after {near}; read "
                    f"after the last layer, the logits are the model's within {apart:.1e}",
                ),
                "identity": apart,
                **progress(done, len(layers)),
            },
        )


def _mark(learned: LearnedLens, stream: int) -> str:
    """Return what a reading through a lens is marked as: unmapped, doubtful or ""."""
    if stream not in learned.maps:
        return "unmapped"
    held_out = learned.held_out
    return "doubtful" if held_out is not None and held_out.no_better(stream) else ""


def _last_layer(recording: Recording, position: int) -> float:
    """Return how far the reading of the last stream is from the model's own logits, relatively."""
    from llmscope.record.analysis.logit_lens import scores_at
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.derive.verify import discrepancy

    read = scores_at(recording, [recording.layers - 1], position)
    return discrepancy(read, logits_after(recording, position)[None].float())


def _through(
    figure: Figure, learned: LearnedLens | None, model: LoadedModel, focus: Focus
) -> Figure:
    """Return the figure as that of a learned lens, with its verdict; unchanged without one."""
    if learned is None or figure.verdict.status == "refused":
        return figure
    streams = range(len(figure.axes[0])) if figure.kind == "heatmap" else range(focus.layer + 2)
    unmapped = tuple(stream for stream in streams if stream not in learned.maps)
    verdict, captions = _trust(learned, model, focus)
    held_out = learned.held_out
    extra: dict[str, Any] = {
        "translator": learned.model,
        "lens": learned.kind,
        "unmapped": unmapped,
        "doubtful": tuple(
            stream for stream in learned.maps if held_out is not None and held_out.no_better(stream)
        ),
        "held_out": None if held_out is None else held_out.to_dict(),
    }
    if focus.mode == "layer" and focus.layer + 1 not in learned.maps:
        captions = [f"the lens has no map after layer {focus.layer}: read as the logit lens"]
    if focus.mode == "layer":
        extra["caption"] = tuple(captions)
    title = figure.title.replace("Logit lens", learned.title)
    return replace(figure, title=title, verdict=verdict, extra={**figure.extra, **extra})


def _trust(learned: LearnedLens, model: LoadedModel, focus: Focus) -> tuple[Verdict, list[str]]:
    """Return the verdict on readings through a lens, and what to say of it.

    In the mode `layer` it is that of the layer; otherwise of all layers that have a map.
    """
    held_out = learned.held_out
    if held_out is None:
        return Verdict(
            "partial",
            f"not measured: llmscope fit check {learned.source or 'LENS'} MODEL --prompts FILE",
        ), [f"{learned.title}: how well it reads this model was not measured"]
    from llmscope.record.capture.model_state import state_of

    fitted = learned.about.get("adapter")
    reason = ""
    if model.adapter != fitted:
        on = "without an adapter" if fitted is None else f"with the adapter {one_line(str(fitted))}"
        reason = f"fitted and measured on the model {on}"
    elif state_of(model.module).serial != learned.state:
        reason = "the model has changed since the lens was fitted or loaded"
    elif learned.source and (outside := state_of(model.module).outside):
        reason = f"it may have been fitted and measured without {outside}"
    if reason:
        return Verdict("partial", reason), [f"{learned.title}: {reason}"]
    here = focus.layer + 1
    one_layer = focus.mode == "layer"
    streams = [here] if one_layer else sorted(learned.maps)
    lost = {stream: held_out.no_better(stream) for stream in streams if stream in learned.maps}
    weak = {stream: what for stream, what in lost.items() if what}
    lines = []
    if here in learned.maps:
        lines.append(
            f"{learned.title} after layer {focus.layer}, on {held_out.tokens} held-out tokens: "
            f"top-1 as the model's {held_out.lens.top1[here]:.0%}, "
            f"logit lens {held_out.logit.top1[here]:.0%}, "
            f"{held_out.named} {held_out.baseline.top1[here]:.0%}; "
            f"KL {held_out.lens.kl[here]:.2f}, {held_out.logit.kl[here]:.2f}, "
            f"{held_out.baseline.kl[here]:.2f} nats"
        )
    if not weak:
        return VERIFIED, lines
    by_reason: dict[str, list[str]] = {}
    for stream, what in weak.items():
        by_reason.setdefault(what, []).append("embed" if stream == 0 else str(stream - 1))
    reason = "; ".join(
        f"no better than {what} on held-out text after layer {', '.join(layers)}"
        for what, layers in by_reason.items()
    )
    return Verdict("partial", reason), lines


def _names(figure: Figure) -> list[str]:
    return texts_of_ids(figure.extra["ids"], figure.extra["names"])


_MAPS = ("top", "target", "kl")
_TARGETED = ("target", "layer")
COLUMNS = (
    key("layer", "layer, from 0", "layer", ("layer",)),
    key("position", "token of the prompt, from 0", "position", ("layer", "lenses", "slope")),
    Column("token", "string", "label", "the top token there", of=_names, modes=(*_MAPS, "lenses")),
    label("token_id", "id of that token", "ids", (*_MAPS, "layer", "lenses")),
    number("p", "probability of that token", "", "probability", ("top", "layer", "lenses")),
    number("p", "probability of that token", "top", "probability", ("target",)),
    number("kl", "KL(the model's own prediction ‖ this one)", unit="nats", modes=("kl",)),
    number("ratio", "what the model does ÷ what the lens says", modes=("slope",)),
    number("entropy", "of the prediction there", "entropy", "bits", ("layer",)),
    text(
        "target", "the target token; the model's top next token unless given", "target", _TARGETED
    ),
    label("target_id", "id of the target", "target_id", _TARGETED),
    number("p_target", "probability of the target", "", "probability", ("target",)),
    number(
        "p_target", "probability of the target", "target_probability", "probability", ("layer",)
    ),
    count("rank_target", "rank of the target among all tokens, from 1", "ranks", ("target",)),
    count("rank_target", "rank of the target, from 1", "target_rank", ("layer",)),
)


def _tied_ranks(figure: Figure, recording: Recording, focus: Focus, bound: float) -> RankRange:
    """Return the ranks of the target after each layer that ties allow. [layer, position]"""
    layers = range(-1, recording.layers)
    columns = [
        _tied_at(figure, recording, focus, bound, layers, position)
        for position in range(len(recording))
    ]
    low, high = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    return low, high


def _tied_rank(figure: Figure, recording: Recording, focus: Focus, bound: float) -> RankRange:
    """Return the ranks of the target after one layer that ties allow."""
    low, high = _tied_at(figure, recording, focus, bound, [focus.layer], focus.position)
    return low[0], high[0]


def _tied_at(
    figure: Figure,
    recording: Recording,
    focus: Focus,
    bound: float,
    layers: Sequence[int],
    position: int,
) -> RankRange:
    """Return the ranks of the target at one position that ties allow. [layer]"""
    from llmscope.learned.lenses.catalog import lens_for
    from llmscope.record.analysis.logit_lens import scores_at
    from llmscope.record.derive.token_stats import rank_range

    translator = TRANSLATOR.of(focus)
    learned = None if translator is None else lens_for(translator, recording.model)
    scores = scores_at(recording, layers, position, None if isinstance(learned, str) else learned)
    return rank_range(scores, (figure.extra["target_id"],) * len(layers), bound)


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield what the lens reads after the layer of the focus."""
    extra, token = figure.extra, quoted_token(str(figure.extra.get("target", "")))
    if focus.mode == "layer":
        yield from candidates(figure, focus, f"layer {extra.get('layer')} says")
        return
    here = layer_row(figure.axes[0].labels, focus.layer)
    elsewhere = extra.get("position") != focus.position
    if here is None or (elsewhere and focus.mode in ("lenses", "slope")):
        return
    if focus.mode == "lenses":
        words = [
            quoted_token(str(extra["names"].get(int(word), ""))) for word in extra["ids"][here]
        ]
        same = len(set(words)) == 1
        yield f"all lenses read {words[0]}" if same else f"lenses read {', '.join(words)}"
        return
    value = value_at(figure, focus)
    if value is None:
        return
    if focus.mode == "slope":
        yield f"along {token} the model does {significant(float(value))} times what the lens says"
    elif focus.mode == "kl":
        yield f"the lens is {significant(float(value))} nats off"
    elif focus.mode == "target":
        yield f"the lens gives {token} {percent(float(value))}"
    else:
        column = figure.axes[1].index(focus.position)
        word = extra["names"].get(int(extra["ids"][here][column]), "")
        yield f"the lens reads {quoted_token(str(word))} at {percent(float(value))}"
        held_out, stream = extra.get("held_out"), focus.layer + 1
        if held_out is not None and stream not in extra["unmapped"]:
            yield f"right {share(held_out['lens']['top1'][stream])} of held-out tokens"


LENS = Lens(
    name="logit-lens",
    question="When does it know?",
    compute=compute,
    passes="streams",
    fetches=("top", "target", "kl"),
    ahead=ahead,
    needs=("readout",),
    options=(SPAN, LAYER, POSITION, TARGET, TRANSLATOR, SECOND, TOP_K),
    modes=("top", "target", "kl", "layer", "lenses", "slope"),
    only_in={
        "span": ("top", "target", "kl"),
        "layer": ("layer",),
        "position": ("target", "layer", "lenses", "slope"),
        "target": ("target", "layer", "slope"),
        "second_translator": ("lenses",),
        "top_k": ("layer",),
    },
    axes={
        "layer": ("token",),
        "lenses": ("layer", "lens"),
        "slope": ("layer",),
        "": ("layer", "position"),
    },
    columns=COLUMNS,
    table_mode="target",
    ranks={"ranks": _tied_ranks, "target_rank": _tied_rank},
    unpaired=dict.fromkeys(("top", "layer", "lenses"), OTHERS) | {"slope": OF_ONE_PROMPT},
    over_steps={
        "target": ("Probability of the target after each layer", "probability of the target"),
        "top": ("Probability of the top token after each layer", "probability of the top token"),
    },
    describe=describe_cursor,
    help="""\
What the model would say if it stopped here: the stream after each layer is put through the final \
norm and the unembedding, as the last one is. A row is a layer, a column a token, a word the most \
probable next token at that depth, and the colour its probability. Where the last row's word first \
appears and stays is where the answer is formed. The mode `target` shows the probability of one \
token in every layer instead, `kl` how far the model's own prediction is from each, `layer` lists \
what the model would say after one layer at one token, `lenses` puts the lenses side by side \
(with each residual stream by itself, in models that keep several), and `slope` steps along a \
learned lens's direction of a token and compares what the model does with what the lens says.

Early rows often read like noise or like the token itself: the middle of the network does not \
always speak the language of its output. A word that appears late is not proof that nothing was \
known before. A learned lens corrects for that with a map for each layer, fitted for the model: \
--translator FILE|FOLDER|ORG/NAME:PATH. A Jacobian lens maps a stream by the mean Jacobian of the \
last stream, what a change here does to the output on average; a tuned lens is trained to predict \
the output, also from what the model itself does not use. Both are means over text: the verdict \
tells how well the lens reads held-out text, against the logit lens and a baseline. `llmscope fit` \
makes and measures them. A tuned lens's params.pt is a pickle, and is read with --allow-pickle \
alone.""",
    shows={
        "top": "the likeliest token after each layer at each token, coloured by its probability",
        "target": "probability of one token after each layer, at each token",
        "kl": "how far the model's own prediction is from each reading, in nats",
        "layer": "what the model would say after one layer, at one token",
        "lenses": "the logit lens, learned lenses and each of several residual streams side by "
        "side, at one token",
        "slope": "what the model does, against what a learned lens says, for a step along its "
        "direction",
    },
    formula="softmax(unembed(norm(stream)))",
    sources="""\
nostalgebraist 2020, "interpreting GPT: the logit lens"; for the tuned lens Belrose et al. 2023, \
"Eliciting Latent Predictions from Transformers"; for the Jacobian lens Gurnee et al. 2026, \
"Verbalizable Representations Form a Global Workspace".""",
    establishes="""\
from which layer on the stream, read by the model's own final norm and unembedding, gives the \
answer.""",
    not_established="""\
that nothing was known before: an early layer may hold it in a basis that this reading does not \
see. And what a tuned lens reads early can be predicted there, which is not to say that the model \
uses it.""",
    next_check="""\
read it through a Jacobian lens (--translator jacobian), and test the layer with the lens \
patching.""",
)
