"""Verdicts: six identities, checked on the model itself with a short probe when it loads.

    readout      unembed(norm(last stream))        = the logits
    writes       stream + attention + MLP           = the next stream, each sum normed in
                                                      post-norm layers, or scaled
    patterns     W_O(gate ∘ (pattern · values))     = attention's write
    activations  W_down(activations)                = the MLP's write
    experts      Σ weight · expert (+ shared)       = the MLP's write
    maps         map · values                       = the output of a layer's recurrence

Each is compared row by row, relative to the largest magnitude of the row, so that one position
of huge activations does not hide the rest. A capability whose identity fails is refused, with the
measured discrepancy. If no head has a write of its own (`llmscope.record.derive.output_gate`),
pattern · values is compared with the attention function's output, and the capability `heads`, for
figures of single heads, is refused. Displayed figures are checked again at their own rows; see
`llmscope.record.derive.row_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import WrongValueError
from llmscope.figure import VERIFIED, Verdict
from llmscope.models.expert_neurons import AWAY
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.mixing import WITHOUT_PATTERN
from llmscope.models.module_calls import hidden_input
from llmscope.record.capture.mlp_input import learn
from llmscope.record.capture.prefetch import ACTIVATIONS
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.change_hooks import unplaced
from llmscope.record.derive import output_gate, post_norms
from llmscope.record.derive.comparison import BOUND, Comparison, compare, judge
from llmscope.record.derive.experts import mixture_output, routing, unexplained
from llmscope.record.derive.tensors import (
    NOT_BY_HEAD,
    activations,
    attention_output,
    logits,
    mixed_values,
    mlp_output,
)
from llmscope.record.derive.token_maps import call_of, mixed_by_maps
from llmscope.record.fetch import Fetching, fetched, on_cpu, together
from llmscope.record.norms import bound
from llmscope.support.text import error_line

CAPABILITIES = ("readout", "writes", "patterns", "activations", "experts")
MAPS = "maps"
"""The capability of layers that mix tokens without attention, beside those of every model."""
ATTENDS = "this layer has attention, whose patterns are shown"
"""Why a layer has no map."""
PROBE = 12

WRITES = ("attention_write", "mixer_write", "mlp_write", "embedded_write")


class NotApplicable(Exception):  # noqa: N818 - a finding
    """A layer has no such part: a verdict's reason without a discrepancy."""


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on a model. `layers`: capability -> one per layer (a single one for readout)."""

    layers: Mapping[str, tuple[Verdict, ...]]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Those that say something of the model: `maps` only where a layer may have one."""
        of_attention = all(verdict.reason == ATTENDS for verdict in self.layers[MAPS])
        return CAPABILITIES if of_attention else (*CAPABILITIES, MAPS)

    def __call__(self, capability: str, layer: int | None = None) -> Verdict:
        """Return the verdict for one layer, or for the whole model: partial if some layers fail."""
        if layer is not None and capability != "readout":
            return self.layers[capability][layer]
        return self.over(capability)

    def over(self, capability: str, layers: Sequence[int] | None = None) -> Verdict:
        """Return the verdict for some layers, or all if None: partial if some of them fail."""
        measured = self.layers[capability]
        chosen = range(len(measured)) if layers is None or capability == "readout" else layers
        verdicts = [measured[layer] for layer in chosen]
        refused = [i for i, verdict in enumerate(verdicts) if verdict.status == "refused"]
        worst = max(verdicts, key=lambda verdict: verdict.discrepancy or 0.0)
        if not refused:
            return Verdict("verified", "", worst.discrepancy, verdicts[0].within)
        first = verdicts[refused[0]]
        if len(refused) == len(verdicts):
            return first
        where = ", ".join(str(chosen[index]) for index in refused)
        return Verdict("partial", f"not in layers {where}: {first.reason}", first.discrepancy)


def verify(recorder: Recorder) -> Verdicts:
    """Check the identities on the model with a probe of a few tokens."""
    model = recorder.model
    prompt = probe(model)
    gates, own_logits = output_gate.measure(model, prompt.ids)
    if hasattr(model.module, "forget_latest_pass"):
        model.module.forget_latest_pass()
    for tap, gate in zip(recorder.taps.layers, gates, strict=True):
        tap.output_gate = gate
    recording = recorder.examine(prompt, own_logits[-1])
    rows = recording.parts[0][0].layers
    learn(recorder.taps.layers, model.anatomy.layers, rows)
    count = recording.layers
    for index, layer in enumerate(model.anatomy.layers):
        after = recording.rows("stream", index + 1)
        assert after is not None
        post_norms.learn(layer, rows[index], after)

    def each(check: Callable[[int], Tensor]) -> tuple[Verdict, ...]:
        return tuple(
            fetched(together(_judge_check(model, partial(check, layer)) for layer in range(count)))
        )

    _fit_readout(recording, own_logits)
    readout = fetched(_judge_check(model, partial(_readout, recording, own_logits)))
    model.readout_holds = readout.status != "refused"
    patterns = each(lambda layer: _patterns(recording, layer, None))
    return Verdicts(
        {
            "readout": (readout,),
            "writes": each(partial(_writes, recording)),
            "patterns": patterns,
            "heads": tuple(
                Verdict("refused", NOT_BY_HEAD) if tap.output_gate == "more" else verdict
                for tap, verdict in zip(recorder.taps.layers, patterns, strict=True)
            ),
            "activations": each(partial(_activations, recording)),
            "experts": each(partial(_experts, recording)),
            MAPS: each(partial(_maps, recording)),
        }
    )


def looks_ahead(recorder: Recorder) -> bool:
    """Return whether another last token changes what the model computes for the tokens before."""
    ids = probe(recorder.model).ids
    if len(ids) < 2:
        return False
    other = (*ids[:-1], (ids[-1] + 1) % recorder.model.anatomy.vocabulary)
    earlier = [
        recorder.run([prompt], record=True).final_rows(0, len(ids) - 1) for prompt in (ids, other)
    ]
    return not discrepancy(*earlier) <= bound(recorder.model.precision, BOUND)


def learn_rows(recorder: Recorder) -> None:
    """Learn why the rows of a model's layers are not the tokens of its prompt, if they are not."""
    ids, shapes = probe(recorder.model).ids, list[tuple[int, ...]]()

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        shapes.append(tuple(hidden_input(args, kwargs).shape))

    layer = recorder.model.anatomy.layers[0].module
    handle = layer.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        recorder.run([ids])
    finally:
        handle.remove()
    unplaced.pop(layer, None)
    if len(shapes[0]) != 3 or shapes[0][:2] == (1, len(ids)):
        return
    first, second, _ = shapes[0]
    if (first, second) == (len(ids), 1):
        unplaced[layer] = "its layers hold tokens in the first dimension, and prompts in the second"
    else:
        unplaced[layer] = f"its layers hold {first * second} rows for {len(ids)} tokens"


def probe(model: LoadedModel) -> Prompt:
    """Return ids spread over the vocabulary as a prompt: `PROBE`, or more for the user's code.

    Fewer in a shorter context.
    """
    vocabulary, context = model.anatomy.vocabulary, model.anatomy.context
    wanted = max(PROBE, model.probe_tokens)
    length = min(wanted, context or wanted)
    ids = tuple((7 + 1013 * index) % vocabulary for index in range(length))
    return Prompt(ids, ("",) * length, (False,) * length)


def pattern_verdict(recording: Recording, layer: int, rows: range | None = None) -> Verdict:
    """Check the patterns' identity in one layer, for some rows of a recording or all if None."""
    return fetched(_judge_check(recording.model, partial(_patterns, recording, layer, rows)))


def pattern_verdict_at(recording: Recording, layer: int, position: int) -> Verdict:
    """Check the patterns' identity again for one row; see `check_pattern_at`."""
    return fetched(check_pattern_at(recording, layer, position))


def check_pattern_at(recording: Recording, layer: int, position: int) -> Fetching[Verdict]:
    """Check the patterns' identity again for one row of the prompt that the user views.

    This covers what the probe is too short for: a sliding window, a rotation that changes with the
    length. Patterns that the model itself returns are not checked: there is nothing to compare
    them with.
    """
    row = range(position, position + 1)
    write = recording.rows("attention_write", layer, row)
    if write is None or recording.settings[layer] is None or len(recording) <= PROBE:
        return VERIFIED
    verdict = yield from _judge_check(recording.model, partial(_patterns, recording, layer, row))
    if verdict.status == "refused":
        return Verdict("refused", f"at token {position} {verdict.reason}", verdict.discrepancy)
    return verdict


def _judge_check(model: LoadedModel, check: Callable[[], Tensor]) -> Fetching[Verdict]:
    """Return the verdict on what a check compares."""
    try:
        (comparison,) = yield from on_cpu(check())
    except NotApplicable as missing:
        return Verdict("refused", str(missing))
    except Exception as error:  # any error of a module that was identified wrongly
        return Verdict("refused", f"it could not be checked: {error_line(error)}")
    return judge(Comparison.of(comparison), model.precision, by=model.backend)


def discrepancy(computed: Tensor, actual: Tensor) -> float:
    """Return the largest error of a row relative to its largest magnitude. `[row, width]`"""
    computed, actual = (
        computed.to(actual.device).float(),
        actual.float(),
    )  # a layer may be on another device
    scale = actual.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((computed - actual).abs().amax(-1) / scale).max())


def mixes_streams(recording: Recording) -> str:
    """Return why the writes of a model with several residual streams do not add up to them."""
    return (
        f"the model keeps {recording.streams} residual streams and mixes them in each layer: "
        "nothing is merely added"
    )


def _readout(recording: Recording, own_logits: Tensor) -> Tensor:
    readout = recording.model.anatomy.readout
    if recording.streams > 1 and readout is not None and not readout.mixes:
        raise NotApplicable(
            f"the model keeps {recording.streams} residual streams, and no module that mixes them "
            "before they are read out was found"
        )
    return compare(logits(recording, 0, len(recording)), own_logits)


def _fit_readout(recording: Recording, own_logits: Tensor) -> None:
    """Choose among the scales and softcaps of a config those that give the model's own logits.

    Args:
        recording: the recording of the probe.
        own_logits: the model's logits. [row, token]
    """
    model = recording.model
    readout = model.anatomy.readout
    if readout is None or not (readout.scales or readout.softcaps):
        return

    def holds(logits: Tensor) -> bool:
        verdict = judge(Comparison.of(compare(logits, own_logits).cpu()), model.precision)
        return verdict.status != "refused"

    with suppress(Exception):  # any error of a wrong norm, which the check of the readout tells
        fitted = readout.fitted(recording.final_rows(0, len(recording)), holds)
        if fitted is not readout:
            model.anatomy = replace(model.anatomy, readout=fitted)


def _writes(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    stream, following = (recording.rows("stream", at, rows) for at in (layer, layer + 1))
    assert stream is not None
    assert following is not None
    if recording.streams > 1:
        raise NotApplicable(mixes_streams(recording))
    norms = post_norms.post_norms(recording.model.anatomy.layers[layer])
    if norms is not None:
        checked = range(len(recording)) if rows is None else rows
        return compare(norms.after(recording.layer_rows(layer, checked)), following)
    parts = {name: recording.rows(name, layer, rows) for name in WRITES}
    total = stream
    for part in parts.values():
        if part is not None:
            total = total + part.to(total.device)
    compared = compare(total, following)
    attention, mixer = parts["attention_write"], parts["mixer_write"]
    if attention is not None and mixer is not None and rows is None:
        _check_own_write(recording, layer, compared, compare(total - attention, following))
    return compared


def _check_own_write(recording: Recording, layer: int, all_writes: Tensor, others: Tensor) -> None:
    """Check that attention beside another mixer writes to the stream itself; in Zamba it does not.

    Args:
        recording: the recording of the probe.
        layer: the layer.
        all_writes: the comparison of the stream with all writes, as `compare` returns it.
        others: the same without attention's.

    Raises:
        NotApplicable: the stream holds without attention's write, and not with it.
    """
    dtype = recording.model.precision
    with_it, without = (
        judge(Comparison.of(comparison.cpu()), dtype).status for comparison in (all_writes, others)
    )
    if with_it == "refused" and without == "verified":
        kind = recording.model.anatomy.layers[layer].parallel_kind
        raise NotApplicable(
            f"this layer's attention feeds its {kind}, and adds nothing to the stream itself"
        )


def _patterns(recording: Recording, layer: int, rows: range | None) -> Tensor:
    write = recording.rows("attention_write", layer, rows)
    parts = recording.model.anatomy.layers[layer]
    if parts.attention is None:
        raise NotApplicable(WITHOUT_PATTERN[parts.kind])
    if write is None:
        raise NotApplicable("what this layer's attention writes could not be found")
    query, heads = recording.rows("query", layer, rows), recording.model.anatomy.heads
    if query is not None and len(query) != heads:
        raise NotApplicable(
            f"this layer has {len(query)} heads, and the model's config says {heads}"
        )
    mixed, keys = recording.rows("mixed", layer, rows), recording.keys[layer]
    tokens = len(recording)
    if keys is not None and keys.shape[1] != tokens:
        raise NotApplicable(f"this layer's attention has {keys.shape[1]} keys for {tokens} tokens")
    if mixed is None and parts.attention_out is None:
        raise NotApplicable(WITHOUT_PATTERN["attention"])
    if mixed is not None:
        return compare(mixed_values(recording, layer, rows).flatten(1), mixed)
    return compare(attention_output(recording, layer, rows), write)


def _maps(recording: Recording, layer: int) -> Tensor:
    """Compare all maps of a layer with what its recurrence gave, at all rows."""
    parts = recording.model.anatomy.layers[layer]
    if parts.attention is not None and parts.parallel_kind:
        raise NotApplicable(f"{ATTENDS}; of the {parts.parallel_kind} beside it there is no map")
    if parts.attention is not None:
        raise NotApplicable(ATTENDS)
    if parts.kind == "feed-forward":
        raise NotApplicable(WITHOUT_PATTERN[parts.kind])
    if parts.mapped is None:
        raise NotApplicable("no function was found that mixes this layer's tokens by a known rule")
    try:
        heads = call_of(recording, layer).heads
    except WrongValueError as finding:
        raise NotApplicable(finding.message) from None
    if heads != parts.mapped.count:
        raise NotApplicable(
            f"this layer has {heads} maps, and its module says {parts.mapped.count}"
        )
    return compare(*mixed_by_maps(recording, layer, range(heads), range(len(recording))))


def _activations(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    parts = recording.model.anatomy.layers[layer]
    write = recording.rows("mlp_write", layer, rows)
    if parts.experts is not None:
        _check_experts(recording, layer)
        if rows is None and write is not None:
            _fit_experts(recording, layer, write)
    if write is None or (parts.down is None and parts.neurons is None):
        raise NotApplicable("this layer has no MLP whose down projection could be found")
    if rows is None and parts.neurons is None:
        _check_own_neurons(recording, layer)
    return compare(mlp_output(recording, layer, rows), write)


def _check_experts(recording: Recording, layer: int) -> None:
    """Check that the neurons of a layer's experts, and the experts that ran, were found.

    Raises:
        NotApplicable: they were not.
    """
    parts = recording.model.anatomy.layers[layer]
    if parts.neurons is None:
        raise NotApplicable(f"this layer's MLP is a mixture of experts: {parts.no_neurons}")
    if parts.neurons.away:
        raise NotApplicable(AWAY)
    if recording.rows("chosen", layer, range(1)) is None:
        raise NotApplicable("this layer has experts, but which of them ran could not be found")


def _fit_experts(recording: Recording, layer: int, write: Tensor) -> None:
    """Choose among the factors of a mixture of experts the one that gives the model's write."""
    neurons = recording.model.anatomy.layers[layer].neurons
    assert neurons is not None
    if len(set(neurons.scales)) > 1:

        def error() -> float:
            for segment, _ in recording.parts:
                segment.memo.pop(ACTIVATIONS, None)
            return discrepancy(mlp_output(recording, layer), write)

        neurons.fit(error)


def _check_own_neurons(recording: Recording, layer: int) -> None:
    """Check that what the down projection reads is not the MLP's input: of a whole MLP it is.

    The identity alone cannot tell, as an MLP that is taken for its own projection satisfies it.

    Raises:
        NotApplicable: the down projection reads what the MLP reads.
    """
    entry, neurons = recording.rows("mlp_input_module", layer), activations(recording, layer)
    if entry is not None and entry.shape == neurons.shape and torch.equal(entry, neurons):
        raise NotApplicable("its down projection reads the MLP's own input, which is no neuron")


def _experts(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Compare the mixture of the recorded choice, and the weights with the displayed scores."""
    parts = recording.model.anatomy.layers[layer]
    write = recording.rows("mlp_write", layer, rows)
    if parts.experts is None:
        raise NotApplicable("this layer has no experts")
    routed = recording.rows("router", layer, rows)
    if write is None or routed is None or recording.rows("chosen", layer, rows) is None:
        raise NotApplicable("this layer has experts, but no router whose choice could be found")
    errors = unexplained(routing(recording, layer, rows))
    mixed = compare(mixture_output(recording, layer, rows), write)
    worst = torch.maximum(mixed[0], errors.to(mixed.device))  # NaN wins, as intended
    return torch.cat([worst[None], mixed[1:]])


CHECKS: dict[str, Callable[[Recording, int, range | None], Tensor]] = {
    "writes": _writes,
    "patterns": _patterns,
    "activations": _activations,
    "experts": _experts,
}
"""Capability -> what compares its identity in one layer, for some rows or all if None."""
