"""The lens `logit-lens`: the next-token prediction after each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import isfile, join
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.options import LAYER, POSITION, SPAN, TARGET, TOP_K, LensOption

if TYPE_CHECKING:
    from llmscope.record.analysis.logit_lens import Readings
    from llmscope.record.analysis.tuned_lens import Translators
    from llmscope.record.capture.recording import Recording


def _unreadable(folder: str | None, allow_pickle: bool) -> str | None:
    """Return why a folder's translators cannot be read; None if they can, or without a folder."""
    if folder is None or isfile(join(folder, "params.safetensors")):
        return None
    if not isfile(join(folder, "params.pt")):
        return "a folder with config.json and params.pt"
    return None if allow_pickle else "params.pt is a pickle: --allow-pickle, if you trust it"


TRANSLATOR = LensOption[str | None](
    *("translator", "path", None, "Translators of a tuned lens.", "FOLDER"), problem=_unreadable
)
OTHERS = "B may have other tokens on top: turn to the probability of the target"
FIRST = 2
"""Columns computed for the first figure; each later figure adds twice as many."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Compute softmax(unembed(norm(stream))) after each layer. [layer, position], embedding first.

    Modes: `top`: the probability of the most probable token, given by `extra["ids"]` and "names";
    `target`: the probability of one token, the top next one unless another is given, with
    `extra["ranks"]` (from 1); `layer`: the top_k most probable tokens after one layer at one
    position [token], with `extra` as of the lens next-token. With a span, only the positions in it;
    NaN for cells not computed. The column of the focus comes first, then those around it. With a
    translator's folder this is a tuned lens: each stream except the last becomes
    `stream + W stream + b` first, with the layer's own W and b. `extra`: mode, ids of the top
    tokens (-1 for cells not computed), names of those ids, ranks, target_id, target, kinds; with
    translators also translator: the model that they are for.
    """
    from llmscope.record.analysis.logit_lens import read, readings
    from llmscope.record.analysis.tuned_lens import translators

    translated, folder = None, TRANSLATOR.of(focus)
    if folder is not None:
        translated = translators(folder, allow_pickle=recording.subject.allow_pickle)
    if translated is not None:
        misfit = translated.misfit(recording.layers, recording.subject.anatomy.width)
        if misfit:
            yield Figure.refused("logit-lens", "Tuned lens", misfit)
            return
    if focus.mode == "layer":
        figure = _candidates(recording, focus, translated)
        yield figure if translated is None else _tuned(figure, translated.base)
        return
    target = _target(recording, focus)
    for columns in growing(focus, len(recording)):
        read(recording, columns, target, translated)
        figure = _figure(recording, focus, target, readings(recording, target, translated))
        yield figure if translated is None else _tuned(figure, translated.base)


def growing(focus: Focus, length: int) -> Iterator[list[int]]:
    """Yield the positions to compute, nearest to the focus first, in groups that double in size."""
    columns = sorted(columns_of(focus, length), key=lambda column: abs(column - focus.position))
    start, count = 0, FIRST
    while start < len(columns):
        yield columns[start : start + count]
        start, count = start + count, 2 * count


def ahead(asked: Sequence[tuple[Recording, Focus]]) -> None:
    """Compute the predictions that `compute` needs for several recordings in one batch.

    Do nothing if a translator's folder is given, whose errors `compute` reports, or for one cell.
    """
    from llmscope.record.analysis.logit_lens import read_together

    if any(TRANSLATOR.of(focus) is not None or focus.mode == "layer" for _, focus in asked):
        return
    read_together(
        [
            (recording, columns_of(focus, len(recording)), _target(recording, focus))
            for recording, focus in asked
        ]
    )


def _candidates(recording: Recording, focus: Focus, translated: Translators | None) -> Figure:
    """Return the most probable tokens if the model stopped after the layer of the focus."""
    from llmscope.record.analysis.logit_lens import scores_at

    label, place = recording.subject.label, recording.prompt.labels[focus.position]
    chances = scores_at(recording, focus.layer, focus.position, translated).double().softmax(-1)
    title = f"Logit lens · layer {focus.layer} at ‹{place}›"
    if not bool(chances.isfinite().all()):
        return Figure.refused("logit-lens", title, "the logits hold NaN or infinity")
    best = chances.topk(min(focus.top_k, len(chances)))
    ids = best.indices.cpu().numpy()
    target = int(ids[0]) if focus.target is None else focus.target
    own = chances[target]
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
            "target_rank": int((chances > own).sum()) + 1,
            "target_probability": float(own),
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


def columns_of(focus: Focus, length: int) -> range:
    """Return the positions to compute; negative ends of the span count from the end."""
    if focus.span is None:
        return range(length)
    start, stop = focus.span
    start, stop = (start + length if start < 0 else start), (stop + length if stop <= 0 else stop)
    start = max(0, min(start, focus.position))
    return range(start, max(min(stop, length), focus.position + 1))


def _figure(recording: Recording, focus: Focus, target: int | None, found: Readings) -> Figure:
    label, (ids, names) = recording.subject.label, token_names(recording, found.token)
    extra: dict[str, Any] = {
        "mode": focus.mode,
        "ids": ids,
        "names": names,
        **layer_kinds(recording),
    }
    title = "Logit lens · top token after each layer"
    values = found.probability
    if target is not None:
        values = found.target
        title = f"Logit lens · probability of ‹{label(target)}› after each layer"
        extra |= {"ranks": found.rank, "target_id": target, "target": label(target)}
    return Figure(
        lens="logit-lens",
        title=title,
        kind="heatmap",
        axes=(
            layer_axis(recording, embedding=True),
            Axis("position", recording.prompt.labels),
        ),
        values=values,
        unit="probability",
        extra=extra,
    )


def token_names(
    recording: Recording, tokens: NDArray[np.float32]
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return token ids as integers, -1 where they are NaN, and the texts of those ids."""
    known = np.isfinite(tokens)
    ids = np.where(known, tokens, -1).astype(np.int64)
    return ids, {int(token): recording.subject.label(int(token)) for token in np.unique(ids[known])}


def _tuned(figure: Figure, base: str) -> Figure:
    title = figure.title.replace("Logit lens", "Tuned lens")
    return replace(figure, title=title, extra={**figure.extra, "translator": base})


LENS = Lens(
    name="logit-lens",
    question="When does it know?",
    compute=compute,
    ahead=ahead,
    needs=("readout",),
    options=(SPAN, LAYER, POSITION, TARGET, TRANSLATOR, TOP_K),
    modes=("top", "target", "layer"),
    unpaired=dict.fromkeys(("top", "layer"), OTHERS),
    help="""\
What the model would say if it stopped here: the stream after each layer is put through the final \
norm and the unembedding, as the last one is. A row is a layer, a column a token, a word the most \
probable next token at that depth, and the colour its probability. Where the last row's word first \
appears and stays is where the answer is formed. The mode `target` shows the probability of one \
token in every layer instead, and `layer` lists what the model would say after one layer at one \
token.

Early rows often read like noise or like the token itself: the middle of the network does not \
always speak the language of its output. A word that appears late is not proof that nothing was \
known before. A tuned lens corrects for that with a translator for each layer, trained for the \
model by the package tuned-lens: --translator FOLDER. Its params.pt is a pickle, and is read with \
--allow-pickle alone.

softmax(unembed(norm(stream))). nostalgebraist 2020, "interpreting GPT: the logit lens"; for the \
tuned lens Belrose et al. 2023, "Eliciting Latent Predictions from Transformers".""",
)
