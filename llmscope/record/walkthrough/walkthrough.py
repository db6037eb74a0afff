"""The walkthrough of a pass: one layer in detail, and the steps before and after the layers.

Every step is recomputed from earlier steps in float64 by llmscope's own arithmetic, or, where that
is not possible, by the model's own module. The result is compared with the model's value from a
traced pass, row by row, relative to the row's largest magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmscope.record.capture.recording import Recording
from llmscope.record.derive.post_norms import IN_THE_STREAM, post_norms
from llmscope.record.derive.tensors import NOT_BY_HEAD
from llmscope.record.derive.verify import mixes_streams
from llmscope.record.norms import exact
from llmscope.record.walkthrough.attention import Attention, opaque
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.embedding import WIDE, beginning, rows_of
from llmscope.record.walkthrough.mlp import Mlp
from llmscope.record.walkthrough.step import Step, disagreement
from llmscope.record.walkthrough.steps import Chain, Make, Unseen
from llmscope.record.walkthrough.terms import added
from llmscope.record.walkthrough.tracer import Call, Run, Watched, watch
from llmscope.record.walkthrough.unembedding import ending

ROOM = 2**22
"""Most cells of a layer's patterns, over all heads, that are shown; fewer queries if need be."""


@torch.no_grad()
def steps(recording: Recording, position: int, layer: int, run: Run) -> tuple[Step, ...]:
    """Return every operation of the pass in order, with one layer in detail.

    Args:
        recording: the recording of the prompt.
        position: the token whose next-token logits are shown; in a long prompt, queries around it
            are shown.
        layer: the layer to show in detail.
        run: runs extra forward passes (`Passes`).
    """
    rows = shown_rows(len(recording), recording.model.anatomy.heads, position)
    walk: _Walk | None = recording.memo.get("walk")
    if walk is None or (walk.layer, walk.rows) != (layer, rows) or position < walk.seen.told:
        walk = recording.memo["walk"] = _walk(recording, position, layer, rows, run)
    if walk.position != position:
        walk.position = position
        walk.chain.cut(walk.shared)
        ending(walk.chain, walk.seen, recording, walk.stream, position)
    return tuple(walk.chain.steps)


@dataclass(eq=False)
class _Walk:
    """The latest walkthrough of a recording; only its end depends on the position.

    Attributes:
        layer: the layer shown in detail.
        rows: the queries that are computed.
        chain: the steps.
        seen: the trace of the pass.
        shared: number of steps before the end.
        stream: index of the step of the stream after the last layer.
        position: the position of the steps at the end; None: they were not added yet.
    """

    layer: int
    rows: range
    chain: Chain
    seen: Watched
    shared: int
    stream: int
    position: int | None = None


def shown_rows(length: int, heads: int, position: int) -> range:
    """Return the queries to compute: all, or in a long prompt those around `position`."""
    count = max(1, min(length, ROOM // (max(heads, 1) * length)))
    first = min(max(position - count // 2, 0), length - count)
    return range(first, first + count)


def _walk(recording: Recording, position: int, layer: int, rows: range, run: Run) -> _Walk:
    """Compute all steps except those of the end."""
    model = recording.model
    inside = recording.settings[layer] is None
    seen = watch(model, run, recording.prompt.ids, layer, position, inside=inside)
    chain = Chain(model)
    stream = beginning(chain, seen, recording)
    if layer > 0:
        stream = _others(chain, recording, stream, range(layer), seen.earlier, seen.entered)
    chain.layer, entered = layer, stream
    try:
        stream = _layer(chain, seen, recording, layer, stream, rows)
    except (LookupError, Unseen) as finding:
        stream = _add_refused(chain, seen, recording, layer, entered, str(finding))
    chain.layer, chain.part = None, "end"
    if layer < recording.layers - 1:
        others = range(layer + 1, recording.layers)
        stream = _others(chain, recording, stream, others, seen.later, seen.final)
    seen.forget()
    return _Walk(layer, rows, chain, seen, len(chain.steps), stream)


def _add_refused(
    chain: Chain, seen: Watched, recording: Recording, layer: int, stream: int, reason: str
) -> int:
    """Add one refused step for the rest of a layer that cannot be recomputed; return its index."""
    assert seen.left is not None
    return chain.add(
        f"rest of layer {layer}",
        "not traced",
        "What the rest of this layer does cannot be told from the modules that it calls.",
        "?",
        WIDE,
        (stream,),
        reason,
        seen.left,
        also=recording.rows("stream", layer + 1),
    )


def _layer(
    chain: Chain, seen: Watched, recording: Recording, layer: int, stream: int, rows: range
) -> int:
    """Add the steps of one layer; return the index of the stream after the layer."""
    if recording.streams > 1:
        raise LookupError(mixes_streams(recording))
    parts = recording.model.anatomy.layers[layer]
    block = LayerBlock(chain, seen, stream, rows)
    entered = block.known[stream]
    # The index of the step, the model's own value, and the factor with which it is added.
    writes: list[tuple[int, Tensor, float]] = []
    chain.part = "attention"
    mixers = (
        (parts.attention, "attention"),
        (parts.mixer_write, parts.parallel_kind or parts.kind),
    )
    for module, kind in mixers:
        if module is None:
            continue
        call = seen.call_of(module)
        entry = block.entry(call, kind)
        if kind == "attention":
            rows_kept = recording.parts[-1][0].layers[layer]
            if rows_kept.mixed is not None:
                raise LookupError(NOT_BY_HEAD)
            gate = recording.rows("gate", layer, rows)
            step = Attention(block, parts, entry, gate).walk()
            own_modules = (parts.attention, parts.attention_out)
            written = _add_written(block, step, parts.attention_write, own_modules, kind)
            writes.append((*written, parts.scale("attention_write")))
        else:
            step = opaque(block, module, entry, kind)
            written = _add_written(block, step, module, (module,), kind)
            writes.append((*written, parts.scale("mixer_write")))
    reader = seen.call_of(parts.mlp_input_module)
    middle = entered + sum(write * scale for _, write, scale in writes)
    between = _between(block, reader, middle, entered)
    if between is not None:
        stream = _add(chain, block, stream, writes, between, None)
        block.known[stream], writes = middle, []
    chain.part = "mlp"
    if reader is not None:
        if parts.mlp_parallel is not None:
            raise LookupError("two MLPs stand side by side here: their sum is no one step")
        if parts.embedded_write is not None:
            raise LookupError("an embedding of this layer's own is added: it is no step here yet")
        entry = block.entry(reader, "MLP")
        step = Mlp(block, parts, entry, reader).walk()
        own_modules = (parts.mlp_input_module, parts.down)
        written = _add_written(block, step, parts.mlp_write, own_modules, "MLP")
        writes.append((*written, parts.scale("mlp_write")))
    assert seen.left is not None
    after = recording.rows("stream", layer + 1)
    return _add(chain, block, stream, writes, seen.left, after)


def _between(
    block: LayerBlock, reader: Call | None, middle: Tensor, entered: Tensor
) -> Tensor | None:
    """Return the model's own stream between attention and MLP; None if the layer has no MLP.

    It is the input of the MLP, or of the norm before it. In a parallel block that input is the
    stream before the layer, and the result is None.
    """
    if reader is None:
        return None
    norm = block.fed(reader)
    read = reader.given if norm is None else norm.given
    if read is None or read.numel() != middle.numel():
        return None
    rows = exact(rows_of(read))
    if disagreement(entered, rows) < min(block.chain.near, disagreement(middle, rows)):
        return None
    return rows


def _add_written(
    block: LayerBlock,
    step: int,
    module: nn.Module | None,
    modules: Sequence[nn.Module | None],
    part: str,
) -> tuple[int, Tensor]:
    """Return the step whose value is added to the stream, and the model's own value of it.

    A norm after the part is added as a step first.

    Args:
        block: the layer.
        step: index of the part's last step.
        module: the module whose output is added to the stream.
        modules: modules of the part itself; if `module` is not among them, it is a norm.
        part: the part's name.
    """
    call = block.seen.call_of(module)
    if call is None or call.gave is None:
        value = block.chain.at(step)
        return step, value
    written = exact(rows_of(call.gave))
    if module not in modules:
        step = block.norm(
            call,
            f"norm after {part}",
            "made one size",
            f"What the {part} gives is brought to one size before it is added to the stream.",
            [step],
        )
    return step, written


def _add(
    chain: Chain,
    block: LayerBlock,
    stream: int,
    added_writes: Sequence[tuple[int, Tensor, float]],
    actual: Tensor,
    also: Tensor | None,
) -> int:
    """Add the step of a residual add, the stream plus `writes`; return its index.

    Args:
        chain: the steps so far.
        block: the layer.
        stream: index of the stream's step.
        added_writes: what is added to the stream: the step's index, its value, and its factor.
        actual: the model's own stream after the add. [row, width]
        also: the recording's; None: not recorded here.
    """
    writes = [step for step, _, _ in added_writes]
    scales = [scale for _, _, scale in added_writes]
    names = ["am"[chain.part == "mlp"]] if len(writes) == 1 else ["a", "m"]
    terms = [
        name if scale == 1 else f"{scale:.4g} · {name}"
        for name, scale in zip(names, scales, strict=False)  # a mixer beside an MLP is not named
    ]
    both, part = len(writes) > 1, "the MLP" if chain.part == "mlp" else "attention"
    is_part = [step for step in (stream, *writes) if len(chain.at(step)) != block.whole]
    start = block.rows.start if is_part else 0

    def cut(tensor: Tensor) -> Tensor:
        return block.cut(tensor) if is_part else tensor

    return chain.add(
        "residual add",
        "both added" if both else f"{part.removeprefix('the ')} added",
        f"What {'attention and MLP give' if both else f'{part} gives'} is added to the stream, "
        "number by number. What was there stays in the sum: nothing is thrown away.",
        f"x ← x + {' + '.join(terms)}",
        WIDE,
        (stream, *writes),
        lambda x, *w: (
            cut(x) + sum(scale * cut(weight) for scale, weight in zip(scales, w, strict=True))
        ),
        cut(actual),
        start=start,
        also=None if also is None else cut(also),
        reads=lambda at: tuple(
            (at[0] + (start if len(chain.at(step)) == block.whole else 0), at[1])
            for step in (stream, *writes)
        ),
        tell=lambda _, x, *w: added(
            "the stream + what is written into it",
            ("stream before", float(x)),
            *(
                (chain.steps[step].name, scale * float(write))
                for step, scale, write in zip(writes, scales, w, strict=True)
            ),
        ),
    )


def _others(
    chain: Chain,
    recording: Recording,
    stream: int,
    layers: range,
    wrote: Tensor | None,
    actual: Tensor | None,
) -> int:
    """Add one step for layers not shown in detail, the sum of their writes; return its index.

    Args:
        chain: the steps so far.
        recording: the recording of the prompt.
        stream: index of the stream's step before these layers.
        layers: the layers.
        wrote: sum of their writes; None: it was not traced. [row, width]
        actual: the model's own stream after them. [row, width]
    """
    which = f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]}–{layers[-1]}"
    start = chain.steps[stream].start
    count, recorded = len(chain.at(stream)), recording.rows("stream", layers.stop)

    def cut(tensor: Tensor) -> Tensor:
        return tensor[start : start + count]

    sum_of: Make | str = "what these layers add was not seen"
    if any(post_norms(recording.model.anatomy.layers[index]) for index in layers):
        sum_of = IN_THE_STREAM
    elif wrote is not None:
        sum_of = lambda x: x + cut(wrote)  # noqa: E731 - `Chain.add` takes a function
    return chain.add(
        which,
        "what they add" if len(layers) > 1 else "what it adds",
        f"In {which} the same happens with other weights: these are each token's numbers with all "
        "that was added there. A layer can be opened to look inside.",
        "x ← x + Σ (a + m)",
        WIDE,
        (stream,),
        sum_of,
        None if actual is None else cut(actual),
        start=start,
        also=None if recorded is None else cut(recorded),
        roundings=len(layers),
        reads=lambda at: (at,),
        tell=lambda at, x: added(
            "the stream + what is written into it",
            ("stream before", float(x)),
            (which, float(cut(wrote)[at])),  # type: ignore[arg-type]
        ),
    )
