"""A model on the bench: what records it, and how far to trust what a lens shows of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial

from llmscope.figure import Focus, Verdict
from llmscope.lenses import Lens
from llmscope.models.loaded_model import LoadedModel, follow
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.model_state import adopt, check, state_of
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.determinism import check_steady
from llmscope.record.derive.row_checks import readout_verdict, rows_verdict, writes_verdict
from llmscope.record.derive.row_stats import forget_row_stats
from llmscope.record.derive.verify import Verdicts, pattern_here, verify
from llmscope.record.interventions.edited import EditedRecorder


class InstrumentedModel:
    """A model that can be recorded, and how far to trust what is shown of it.

    It is examined when it is first used, for to load takes long enough; and always before it is
    recorded, for the recorder learns from the probe what it need not keep.
    """

    def __init__(self, subject: LoadedModel) -> None:
        self.subject = subject
        self._serial = check(subject)
        self._untold = ""

    @cached_property
    def _examined(self) -> tuple[Recorder, Verdicts]:
        serial, state = check(self.subject), state_of(self.subject.model)
        if serial != self._serial:
            follow(self.subject, anatomy=state.structure > self._serial)
        self._serial = serial
        recorder = Recorder(self.subject)
        check_steady(recorder)
        verdicts = verify(recorder)
        adopt(self.subject, first=True)
        return recorder, verdicts

    def compare(self, *, whole: bool = False) -> None:
        """Compare the model with what it was when it was examined.

        If it changed, nothing that was recorded or measured on it is used again: it is examined
        anew when it is used next.

        Args:
            whole: read every value of its weights.
        """
        serial = check(self.subject, whole=whole) if whole or "_examined" in vars(self) else 0
        if "_examined" in vars(self) and serial != self._serial:
            self._untold = state_of(self.subject.model).change
            self.forget()  # what was recorded goes now, not when the recorder is collected
            for name in ("_examined", "edited"):
                vars(self).pop(name, None)

    def take_change(self) -> str:
        """What changed, in words, since this was last asked for; empty if nothing did."""
        untold, self._untold = self._untold, ""
        return untold

    def stale(self, recording: Recording) -> bool:
        """Whether the model had changed after a recording was made, when it was last compared."""
        return state_of(self.subject.model).serial != recording.state

    def adopt(self) -> None:
        """Take what passes of ours changed in the model for granted; see `ModelState.adopt`."""
        adopt(self.subject)

    @property
    def recorder(self) -> Recorder:
        """What records it."""
        return self._examined[0]

    @cached_property
    def edited(self) -> EditedRecorder:
        """What records edited passes of it."""
        return EditedRecorder(*self._examined)

    @property
    def verdicts(self) -> Verdicts:
        """How far to trust what is shown of it."""
        return self._examined[1]

    def passes(
        self,
        chosen: Lens,
        recording: Recording,
        cancelled: Cancel | None = None,
        origin: InstrumentedModel | None = None,
    ) -> Passes:
        """What a lens may run beside a recording.

        Args:
            origin: the bench of the model without its adapter.
        """
        changes = recording.changes if chosen.edited == "again" else ()
        return Passes(
            *(self.recorder, self.edited),
            verdicts=self.verdicts,
            origin=None if origin is None else partial(origin.recorder.record, cancelled=cancelled),
            changes=changes,
            cancelled=cancelled,
            fresh=recording.fresh,
        )

    @property
    def ran_beside(self) -> int:
        """How many tokens of prompts B were run so far."""
        return self.edited.ran if "edited" in vars(self) else 0

    def forget(self) -> None:
        """Let go of the latest recording, if there is one."""
        if "_examined" in vars(self):
            self.recorder.forget()
        if "edited" in vars(self):
            self.edited.forget()


def trust(chosen: Lens, recording: Recording, focus: Focus, verdicts: Verdicts) -> Verdict:
    """How far to trust what a lens shows of a recording, as far as its numbers do not tell."""
    if recording.changes and chosen.edited == "refused":
        return Verdict("refused", "it can only tell of an unedited pass: switch the edits off")
    layers = _layers(chosen, focus)
    verdict = _over(chosen, layers, verdicts)
    if verdict.status == "refused":
        return verdict
    if "patterns" in chosen.needs and recording.base is not None:
        for layer in layers or ():  # of an edited pass, as far as it is looked at
            here = pattern_here(recording, layer, focus.position)
            verdict = verdict.worst(_placed(here, layer, layers))
    return verdict.worst(_at_the_rows(chosen, recording, focus, layers, verdicts))


def _at_the_rows(
    chosen: Lens, recording: Recording, focus: Focus, layers: range | None, verdicts: Verdicts
) -> Verdict:
    """The identities that a figure stands on, at the rows and the length that it shows."""
    verdict = Verdict("verified")
    if "readout" in chosen.needs and (recording.subject.readout_holds or not chosen.own_logits):
        here = readout_verdict(recording)
        if chosen.own_logits and here.status == "refused":  # as of a prompt of this length
            forget_row_stats(recording)
            recording.subject.readout_holds = False
        else:
            verdict = verdict.worst(here)
    if "writes" in chosen.needs:
        verdict = verdict.worst(writes_verdict(recording, verdicts))
    rows = range(len(recording))
    if focus.span is not None and focus.pool == 1 and "span" in chosen.uses:
        rows = rows[max(focus.span[0], 0) : max(focus.span[1], 0)]
    for capability in ("patterns", "activations", "experts"):
        for layer in layers or () if capability in chosen.needs else ():
            here = rows_verdict(recording, capability, layer, rows)
            verdict = verdict.worst(_placed(here, layer, layers))
    return verdict


def _layers(chosen: Lens, focus: Focus) -> range | None:
    """The layers whose verdicts a figure stands on; None: the model's as a whole."""
    if "layer" not in chosen.uses:
        return None
    return range(0 if focus.mode in chosen.through else focus.layer, focus.layer + 1)


def _over(chosen: Lens, layers: range | None, verdicts: Verdicts) -> Verdict:
    """How far to trust a lens: the worst of what it stands on, in its layers if it has some."""
    worst = Verdict("verified")
    for capability in chosen.needs:
        if capability == "readout" and chosen.own_logits and verdicts(capability).reason:
            continue  # the model's own logits are shown
        if layers is None:
            worst = worst.worst(verdicts(capability))
        for layer in layers or ():
            worst = worst.worst(_placed(verdicts(capability, layer), layer, layers))
    return worst


def _placed(verdict: Verdict, layer: int, layers: range | None) -> Verdict:
    """The verdict on one of several layers, whose reason says which one."""
    if not verdict.reason or layers is None or len(layers) == 1:
        return verdict
    return replace(verdict, reason=f"layer {layer}: {verdict.reason}")
