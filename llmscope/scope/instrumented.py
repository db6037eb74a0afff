"""A model with its recorders, and the verdicts on what a lens shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from llmscope.errors import ScopeError
from llmscope.figure import Focus, Verdict
from llmscope.lenses import Lens
from llmscope.models.hidden_states import HiddenStates
from llmscope.models.loaded_model import LoadedModel, follow
from llmscope.models.loading.at_rest import at_rest, default_settings, one_thread
from llmscope.models.loading.memory import ran_out
from llmscope.models.progress import silenced
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.model_state import adopt, check, state_of
from llmscope.record.capture.observed_attention import own_logits
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.compare.given_inputs import GivenInputs
from llmscope.record.compare.other_model import OtherModel
from llmscope.record.derive.activation_cache import ActivationCache
from llmscope.record.derive.batching import why_alone
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.determinism import DrawnNumbers, check_steady, checked_draws
from llmscope.record.derive.row_checks import (
    OTHER_LOGITS,
    check_maps,
    check_readout,
    check_rows,
    check_writes,
)
from llmscope.record.derive.row_stats import check_finite, forget_row_stats
from llmscope.record.derive.verify import (
    MAPS,
    Verdicts,
    check_pattern_at,
    discrepancy,
    learn_rows,
    looks_ahead,
    probe,
    verify,
)
from llmscope.record.features.active import applied
from llmscope.record.fetch import Fetching, together
from llmscope.record.interventions.edited import EditedRecorder
from llmscope.record.norms import bound
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import typed_error_line

STALE = "the model changed since this was recorded: record it again"
LONGER_PROBES = (0, 48, 192)
"""Lengths of the probe that are tried where code from outside runs; 0: the usual one."""
MEASURED = ("_examine", "edited", "given_inputs", "why_alone")
"""Attributes that hold only until the model changes."""


def shortest_probe(recorder: Recorder) -> int:
    """Return how many tokens a probe needs for code from outside, such as a hook on one token.

    0 if a short one runs, or none does.
    """
    return next((tokens for tokens in LONGER_PROBES if _runs(recorder, tokens)), 0)


def _runs(recorder: Recorder, tokens: int) -> bool:
    """Return whether the model runs a probe of at least that length."""
    recorder.model.probe_tokens = tokens
    try:
        recorder.run([probe(recorder.model).ids], last=1)
    except Cancelled:
        raise
    except Exception as error:  # anything that the user's code raises
        if ran_out(error):
            raise
        return False
    return True


def gives_same_logits(recording: Recording) -> bool:
    """Return whether the model gives the logits of a recording again.

    For code from outside whose values cannot all be compared, or change in each pass.
    """
    base = recording.base or recording
    if base.logits is None:
        return True
    apart = discrepancy(own_logits(base)[-1:], base.logits[None])
    return apart <= bound(base.model.precision, BOUND)


class InstrumentedModel:
    """A model that can be recorded, and the verdicts measured on it.

    The model is probed on first use, since loading takes long enough; and always before it is
    recorded, since the recorder learns from the probe what it does not need to keep.

    Args:
        model: the model.
        rows: compare a value of each row and column of the weights, since the user may change them.

    Attributes:
        ran_as_other: how many tokens of prompts it ran so far as the second model of a comparison.
    """

    def __init__(self, model: LoadedModel, *, rows: bool = False) -> None:
        self.model = model
        self._by_row = rows
        self._serial = check(model, rows=rows)
        self._untold = ""
        self.ran_as_other = 0

    @cached_property
    def _examine(self) -> tuple[Recorder, Verdicts, DrawnNumbers]:
        serial, state = check(self.model, rows=self._by_row), state_of(self.model.module)
        if serial != self._serial:
            follow(self.model, anatomy=state.structure > self._serial)
        self._serial = serial
        recorder = Recorder(self.model)
        self.model.probe_tokens = shortest_probe(recorder) if recorder.outside else 0
        try:
            check_steady(recorder)
            # transformers says of each recurrence that a package would make it faster.
            recurrent = any(layer.recurrence for layer in self.model.anatomy.layers)
            quiet = silenced() if recurrent else nullcontext()
            with checked_draws(recorder), quiet:
                verdicts = verify(recorder)
                # Where a pass may go on from a cache, earlier tokens do not depend on later ones.
                self.model.looks_ahead = not recorder.reuses and looks_ahead(recorder)
                if not recorder.reuses:
                    learn_rows(recorder)
        except ScopeError:
            raise
        except Exception as error:  # the model's own code, such as of a damaged config
            if ran_out(error):
                raise
            raise ScopeError(
                f"the model fails on a short prompt: {typed_error_line(error)}",
                "another copy of the model, with its own config.json",
            ) from error
        adopt(self.model, first=True)
        self.model.cache_of = partial(ActivationCache, verdicts=verdicts, reading=_reading)
        return recorder, verdicts, DrawnNumbers(recorder)

    def compare(self, *, rows: bool = True, whole: bool = False) -> None:
        """Compare the model with its state when it was probed.

        If it changed, nothing that was recorded or measured on it is used again, and the next use
        probes it anew.

        Args:
            rows: read a value of each row and column, if the user may change the weights.
            whole: read every value of the weights.
        """
        rows = rows and self._by_row
        examined = "_examine" in vars(self)
        serial = check(self.model, rows=rows, whole=whole) if whole or examined else 0
        if "_examine" in vars(self) and serial != self._serial:
            self._untold = state_of(self.model.module).change
            self.forget()  # free recordings now, not when the recorder is garbage-collected
            for name in MEASURED:
                vars(self).pop(name, None)

    def take_change(self) -> str:
        """Return in words what changed since the last call; empty if nothing changed."""
        untold, self._untold = self._untold, ""
        return untold

    def stale(self, recording: Recording) -> bool:
        """Return whether the latest comparison found a change after a recording was made."""
        return state_of(self.model.module).serial != recording.state

    def adopt(self) -> None:
        """Accept what our own passes changed in the model as its state; see `ModelState.adopt`."""
        adopt(self.model)

    @property
    def recorder(self) -> Recorder:
        """The recorder of the model."""
        return self._examine[0]

    @cached_property
    def edited(self) -> EditedRecorder:
        """The recorder of edited passes."""
        recorder, verdicts, _ = self._examine
        return EditedRecorder(recorder, verdicts, applied)

    @property
    def drawn(self) -> DrawnNumbers:
        """Whether what the model computes depends on random numbers."""
        return self._examine[2]

    @cached_property
    def given_inputs(self) -> GivenInputs:
        """The recorder of passes on the inputs of another model."""
        return GivenInputs(self.recorder)

    def as_other(self, key: object, cancelled: Cancel | None = None) -> OtherModel:
        """Return this model as the one that another is compared with.

        Args:
            key: identifies the comparison; see `OtherModel.key`.
            cancelled: asked before each layer; true ends a pass with `Cancelled`.
        """

        def counted(recording: Recording) -> Recording:
            self.ran_as_other += recording.ran
            return recording

        return OtherModel(
            self.model,
            self.verdicts,
            lambda prompt: counted(self.recorder.record(prompt, cancelled=cancelled)),
            lambda a: self.given_inputs.record(a, cancelled),
            key,
        )

    @cached_property
    def why_alone(self) -> str:
        """Why each prompt needs a pass of its own; empty if several can run in a padded one."""
        return why_alone(self.recorder)

    @property
    def verdicts(self) -> Verdicts:
        """The verdict on each capability, measured on the model."""
        return self._examine[1]

    def passes(
        self,
        chosen: Lens,
        recording: Recording,
        cancelled: Cancel | None = None,
        origin: InstrumentedModel | None = None,
        versus: OtherModel | HiddenStates | None = None,
        *,
        unverified: bool = False,
    ) -> Passes:
        """Return the extra passes that a lens may run for a recording.

        Args:
            chosen: the lens.
            recording: the recording that it is applied to.
            cancelled: asked before each layer; true ends a pass with `Cancelled`.
            origin: the model without its adapter; None if no adapter is on.
            versus: the model that this one is compared with, or another engine's streams; None:
                nothing.
            unverified: whether the user asked to see figures that fail their check.
        """
        changes = recording.changes if chosen.edited == "again" else ()
        return Passes(
            *(self.recorder, self.edited),
            verdicts=self.verdicts,
            origin=None if origin is None else origin.as_other(origin.model, cancelled),
            versus=versus,
            changes=changes,
            cancelled=cancelled,
            fresh=recording.fresh,
            unverified=unverified,
        )

    @property
    def ran_beside(self) -> int:
        """The number of tokens of prompts B that were run so far."""
        return self.edited.ran if "edited" in vars(self) else 0

    def forget(self) -> None:
        """Drop the latest recording, if there is one."""
        if "_examine" in vars(self):
            self.recorder.forget()
        if "edited" in vars(self):
            self.edited.forget()
        if "given_inputs" in vars(self):
            self.given_inputs.forget()

    def detach(self) -> None:
        """Drop all that was recorded and measured, and the hooks, which are on no module now."""
        for name in MEASURED:
            vars(self).pop(name, None)
        self.model.taps = self.model.cache_of = None


@contextmanager
def _reading(recording: Recording) -> Iterator[None]:
    """Read the model of a recording within.

    Raises:
        ScopeError: the model has changed since the recording was made.
    """
    model = recording.model
    settings = default_settings(model.threads)
    base = (model.origin or model).module
    with one_thread(base), at_rest(model.module), settings:
        if check(model) != recording.state:
            raise ScopeError(STALE)
        try:
            yield
        finally:
            adopt(model)


def trust(
    chosen: Lens, recording: Recording, focus: Focus, verdicts: Verdicts
) -> Fetching[Verdict]:
    """Return the verdict on a lens for a recording, except what its own numbers reveal.

    Unless it is refused at once, `check_finite` of the recording is known then.
    """
    if recording.changes and chosen.edited == "refused":
        return Verdict("refused", "it can only tell of an unedited pass: switch the edits off")
    state = state_of(recording.model.module)
    if state.outside and not state.sees_all and not gives_same_logits(recording):
        return Verdict("refused", STALE)
    if chosen.edited == "again" and any(
        edit.own is not None and callable(edit.own.value) for edit in recording.edits
    ):
        return Verdict("refused", "it runs the prompt again, where a function might differ")
    layers = _layers(chosen, focus)
    mapped = _shows_map(chosen, recording, focus)
    verdict = _over(chosen, layers, verdicts, mapped=mapped)
    if verdict.status == "refused":
        return verdict
    at_the_rows = _at_the_rows(chosen, recording, focus, layers, verdicts)
    if "patterns" not in chosen.needs or recording.base is None or mapped:
        return verdict.worst((yield from at_the_rows))
    edited = layers or ()  # for an edited pass, check the row in the focus
    *layer_verdicts, here = yield from together(
        [
            *(check_pattern_at(recording, layer, focus.position) for layer in edited),
            at_the_rows,
        ]
    )
    for layer, layer_verdict in zip(edited, layer_verdicts, strict=True):
        verdict = verdict.worst(_name_layer(layer_verdict, layer, layers))
    return verdict.worst(here)


def _at_the_rows(
    chosen: Lens, recording: Recording, focus: Focus, layers: range | None, verdicts: Verdicts
) -> Fetching[Verdict]:
    """Check the identities that a figure relies on, at the rows and the length that it shows."""
    rows = range(len(recording))
    if focus.span is not None and focus.pool == 1 and "span" in chosen.uses:
        rows = rows[max(focus.span[0], 0) : max(focus.span[1], 0)]
    checks: list[Fetching[Any]] = [check_finite(recording)]
    readout = "readout" in chosen.needs and (recording.model.readout_holds or not chosen.own_logits)
    if readout:
        checks.append(check_readout(recording))
    if "writes" in chosen.needs:
        checks.append(check_writes(recording, verdicts))
    placed = [
        (capability, layer)
        for capability in ("patterns", "activations", "experts")
        for layer in (layers or () if capability in chosen.needs else ())
    ]
    if _shows_map(chosen, recording, focus):
        head = focus.head if "head" in chosen.uses_in(focus.mode) else None
        checks += [
            check_maps(recording, layer, head, rows)
            if capability == "patterns"
            else check_rows(recording, capability, layer, rows)
            for capability, layer in placed
        ]
    else:
        checks += [check_rows(recording, capability, layer, rows) for capability, layer in placed]
    checked = iter((yield from together(checks)))
    next(checked)
    verdict = Verdict("verified")
    if readout:
        here = next(checked)
        own_logits_stand = chosen.own_logits and here.reason != OTHER_LOGITS
        if own_logits_stand and here.status == "refused":  # it fails at this prompt length
            forget_row_stats(recording)
            recording.model.readout_holds = False
        else:
            verdict = verdict.worst(here)
    if "writes" in chosen.needs:
        verdict = verdict.worst(next(checked))
    for (_, layer), here in zip(placed, checked, strict=True):
        verdict = verdict.worst(_name_layer(here, layer, layers))
    return verdict


def _layers(chosen: Lens, focus: Focus) -> range | None:
    """Return the layers whose verdicts a figure relies on; None: the whole model."""
    if "layer" not in chosen.uses:
        return None
    return range(0 if focus.mode in chosen.through else focus.layer, focus.layer + 1)


def _shows_map(chosen: Lens, recording: Recording, focus: Focus) -> bool:
    """Return whether a lens shows the map of a layer without attention in place of a pattern."""
    mode = focus.mode or next(iter(chosen.modes), "")
    return mode in chosen.maps and recording.model.anatomy.layers[focus.layer].mapped is not None


def _over(
    chosen: Lens, layers: range | None, verdicts: Verdicts, *, mapped: bool = False
) -> Verdict:
    """Return the worst verdict of the capabilities that a lens needs, in `layers` unless None.

    Args:
        mapped: whether it shows maps in place of patterns.
    """
    worst = Verdict("verified")
    needs = (MAPS if mapped and need == "patterns" else need for need in chosen.needs)
    for capability in needs:
        if capability == "readout" and chosen.own_logits and verdicts(capability).reason:
            continue  # the model's own logits are shown
        if layers is None:
            worst = worst.worst(verdicts(capability))
        for layer in layers or ():
            worst = worst.worst(_name_layer(verdicts(capability, layer), layer, layers))
    return worst


def _name_layer(verdict: Verdict, layer: int, layers: range | None) -> Verdict:
    """Return a verdict on one of several layers, with the layer in its reason."""
    if not verdict.reason or layers is None or len(layers) == 1:
        return verdict
    return replace(verdict, reason=f"layer {layer}: {verdict.reason}")
