"""Path patching: the senders whose edges to one receiver are patched, for the lens `patching`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.edits import Receiver, parse_receiver
from llmscope.errors import ScopeError, WrongValueError
from llmscope.figure import VERIFIED, Axis, Focus, Verdict
from llmscope.lenses.base import layer_axis
from llmscope.lenses.focus import sweep_heads
from llmscope.lenses.logit_target import over
from llmscope.lenses.options import HEADS, LensOption

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.lenses.patching import PatchedPair
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.change_hooks import Job
    from llmscope.record.interventions.sweep import SweepRow
    from llmscope.record.sites import Site

MLP = "MLP"


def _problem(text: str, _: bool = False) -> str | None:
    """Return what is wrong with the text of a receiver; None if nothing is."""
    try:
        parse_receiver(text)
    except ScopeError as error:
        return error.line
    return None


def _check(name: str, text: str) -> None:
    """Raise ValueError for a text that names no receiver."""
    problem = _problem(text)
    if problem is not None:
        raise WrongValueError(f"{name}: {problem}")


RECEIVER = LensOption(
    "receiver",
    "text",
    "logits",
    "With the mode paths, what reads the senders: head 9.6.q (or .k, .v), head 9.6, attention 9, "
    "mlp 8 or logits.",
    "PART",
    check=_check,
    problem=_problem,
)


@dataclass(frozen=True, eq=False)
class Paths:
    """The edges from all senders to a receiver.

    Attributes:
        pair: the two prompts.
        into: the receiver, with layer and head from 0.
        carried: by sender, as its layer and its column, the factor by which the layers in between
            multiply the stream; senders that are not known to reach the receiver are missing.
        verdict: partial if a sender in a layer before the receiver is missing.
    """

    pair: PatchedPair
    into: Receiver
    carried: dict[tuple[int, int], float]
    verdict: Verdict

    @classmethod
    def of(cls, pair: PatchedPair, focus: Focus, layers: Collection[int], run: Passes) -> Paths:
        """Find the senders in some layers that reach the receiver of a focus.

        Raises:
            ValueError: the receiver's layer or head does not exist.
        """
        from llmscope.record.interventions.compile import receiver_of

        recording = pair.recording
        try:
            into = receiver_of(parse_receiver(RECEIVER.of(focus)), recording)
        except ScopeError as error:
            raise error.at("receiver") from None
        assert into.layer is not None
        carried: dict[tuple[int, int], float] = {}
        reasons: dict[int, Verdict] = {}
        heads = recording.model.anatomy.heads
        chosen = {*sweep_heads(focus, heads), *(() if HEADS.of(focus) else (heads,))}
        for layer in sorted(layers):
            if layer > into.layer:
                continue
            factors, verdict = _senders(pair, into, layer, run)
            carried |= {
                (layer, column): factor for column, factor in factors.items() if column in chosen
            }
            if layer < into.layer:  # of the receiver's own layer at most the heads reach it
                reasons[layer] = verdict
        if not reasons and not carried:
            verdict = Verdict("refused", f"no sender is before {into}")
        else:
            verdict = over(list(reasons.values()))
        if carried and verdict.status == "refused":
            verdict = replace(verdict, status="partial")
        return cls(pair, into, carried, verdict)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Layers and senders."""
        heads = range(self.pair.recording.model.anatomy.heads)
        names = (*(f"h{head}" for head in heads), MLP)
        return layer_axis(self.pair.recording), Axis("part", names)

    @property
    def _rows(self) -> range:
        """The tokens in which the senders are patched."""
        return range(max(self.pair.first, self.pair.rows.start), self.pair.rows.stop)

    def plan(self) -> tuple[tuple[SweepRow, ...], NDArray[np.bool_]]:
        """Return the rows of the sweep, and a mask of cells where B cannot differ."""
        from llmscope.record.interventions.sweep import SweepRow

        depth = self.into.layer
        assert depth is not None
        rows: list[SweepRow] = []
        still = np.zeros(tuple(map(len, self.axes)), dtype=bool)
        for layer in reversed(range(self.pair.recording.layers)):
            columns = tuple(column for at, column in self.carried if at == layer)
            if not self._rows:
                still[layer, list(columns)] = True
            elif columns:
                # An edge needs the keys of all tokens.
                start = self.pair.position if depth == self.pair.recording.layers else 0
                jobs = partial(self._jobs, layer)
                rows.append(SweepRow(layer, depth, columns, start, jobs))
        return tuple(rows), still

    def _jobs(self, layer: int, columns: Sequence[int]) -> list[Job]:
        """Return the jobs of some senders of a layer."""
        import torch

        from llmscope.record.change_hooks import Change

        rows = self._rows
        with torch.no_grad():
            deltas = list(self._deltas(layer, columns))
        jobs: list[Job] = []
        for column, delta in zip(columns, deltas, strict=True):
            delta = delta[rows.start : rows.stop] * self.carried[layer, column]
            jobs.append((Change.known(self.into, rows, delta),))
        return jobs

    def _deltas(self, layer: int, columns: Sequence[int]) -> Iterator[Tensor]:
        """Yield what each sender writes with B's values minus what it writes. [row, width]"""
        from llmscope.record.edge_hooks import head_write
        from llmscope.record.interventions.compile import head_columns, written

        recording, other = self.pair.recording, self.pair.other
        parts, heads = recording.model.anatomy.layers[layer], recording.model.anatomy.heads
        everywhere = range(len(recording))
        sites: tuple[Site, ...] = ("attention_module", "attention_write")
        alter: dict[str, Callable[[Tensor], Tensor]] = {
            site: partial(recording.changed, site=site, layer=layer, rows=everywhere)
            for site in sites
        }
        if any(column < heads for column in columns):
            ours, theirs = (written(side, "heads", layer) for side in (recording, other))
            plain = head_write(parts, ours, alter)
        for column in columns:
            if column == heads:
                after, before = (side.rows("mlp_write", layer) for side in (other, recording))
                assert after is not None  # else `_senders` has left the column out
                assert before is not None
                yield after.float() - before.float()
                continue
            changed = ours.clone()
            place = head_columns(recording, layer, column)
            changed[:, place] = theirs[:, place]
            yield head_write(parts, changed, alter) - plain


def _senders(
    pair: PatchedPair, into: Receiver, layer: int, run: Passes
) -> tuple[dict[int, float], Verdict]:
    """Return the senders of a layer that reach a receiver, and the verdict on all of them.

    Each as its column, with the factor by which the layers in between multiply the stream.
    """
    from llmscope.record.derive.row_checks import rows_verdict

    recording = pair.recording
    heads = recording.model.anatomy.heads
    reached: dict[int, float] = {}
    reasons: list[Verdict] = [VERIFIED]
    for part, columns in (("head", range(heads)), ("mlp", range(heads, heads + 1))):
        if part == "mlp" and recording.model.anatomy.layers[layer].mlp_write is None:
            continue
        verdict = run.verdicts("heads" if part == "head" else "writes", layer)
        if part == "head" and verdict.status != "refused":
            verdict = verdict.worst(rows_verdict(pair.other, "patterns", layer))
        if verdict.status != "refused":
            try:
                factor = run.carried(recording, part, layer, into)
                reached |= dict.fromkeys(columns, factor)
            except ScopeError as error:
                verdict = Verdict("refused", error.message)
        reasons.append(verdict)
    return reached, next((reason for reason in reasons if reason.status == "refused"), VERIFIED)
