"""Several prompts in one padded pass, for figures that need only the stream.

They are padded on the right: in a causal model no token sees what follows it, so neither a mask
nor other positions are needed. A prompt's rows equal those of a separate pass, except for the
order in which floating point sums are added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmscope.record.capture.lengths import same_row
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import LayerRows, Prompt, Recording, Segment

PAD = 0
"""The padding id. Any id would do: this one is in every vocabulary, and no token sees it."""


def record_padded(recorder: Recorder, prompts: Sequence[Prompt]) -> list[Recording]:
    """Record each prompt's streams and last logits, without attention or MLP tensors.

    No later pass extends them. Prompts of all lengths run together, at the cost of the longest.

    Raises:
        ValueError: no unembedding was found, or the model mixes the prompts of a batch.
    """
    recorder.subject.anatomy.require_readout()
    # In some models every token depends on the prompt's length; see
    # `llmscope.record.capture.lengths`.
    longest = max(map(len, prompts))
    alike = [recorder.lengths.alike(len(prompt), longest) for prompt in prompts]
    together = [at for at, one in enumerate(alike) if one is not False]
    made = dict(zip(together, _run(recorder, [prompts[at] for at in together]), strict=True))
    unsure = [at for at, one in enumerate(alike) if one is None]
    apart = [at for at, one in enumerate(alike) if one is False]
    if unsure and not _same_alone(recorder, min((made[at] for at in unsure), key=len), longest):
        apart += unsure
    if apart:
        made |= zip(apart, record_padded(recorder, [prompts[at] for at in apart]), strict=True)
    return [made[at] for at in range(len(prompts))]


def _same_alone(recorder: Recorder, padded: Recording, longest: int) -> bool:
    """Return whether a padded prompt has the same last row as in a pass of its own."""
    (alone,) = _run(recorder, [padded.prompt])
    same = same_row(alone, padded, len(padded) - 1)
    if same:
        recorder.lengths.note(len(padded), longest)
    return same


def _run(recorder: Recorder, prompts: Sequence[Prompt]) -> list[Recording]:
    """Run one pass over prompts, padded to the longest of them."""
    subject, taps = recorder.subject, recorder.taps
    readout = subject.anatomy.readout
    assert readout is not None
    longest = max(map(len, prompts))
    ids = [[*prompt.ids, *[PAD] * (longest - len(prompt))] for prompt in prompts]
    try:
        with taps.open(streams_only=True):
            recorder.run(ids, last=0)
        if taps.overwritten():  # known from now on, so this happens once per model
            with taps.open(streams_only=True):
                recorder.run(ids, last=0)
        whole = taps.segment()
    finally:
        taps.drop()
    streams = [layer.stream for layer in whole.layers] + [whole.final]
    if any(len(stream) != len(prompts) * longest for stream in streams):
        raise ValueError("the model does not keep the prompts of a batch apart")
    ends = [index * longest + len(prompt) - 1 for index, prompt in enumerate(prompts)]
    with torch.no_grad():
        logits = readout(whole.final[ends])
    nothing = (None,) * len(whole.layers)
    return [
        Recording(
            subject=subject,
            prompt=prompt,
            parts=((_rows(streams, index * longest, len(prompt)), len(prompt)),),
            keys=nothing,
            values=nothing,
            past=None,
            settings=nothing,
            logits=logits[index],
            ran=len(prompt),
            reused=0,
            fresh=True,
        )
        for index, prompt in enumerate(prompts)
    ]


def _rows(streams: Sequence[torch.Tensor], start: int, length: int) -> Segment:
    """Return one prompt's streams, as views of the batch's."""
    *before, final = (stream[start : start + length] for stream in streams)
    layers = [LayerRows(stream, *(None,) * 6) for stream in before]
    return Segment(tuple(layers), final)
