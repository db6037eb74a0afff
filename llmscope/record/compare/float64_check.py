"""Identities that were refused, again in float64: a wrong structure stays wrong, rounding does not.

The model runs the probe once more in a copy whose weights are float64. What a refused identity is
off by there tells its two causes apart: an error of the structure, such as a factor that was left
out, is as large as before, and rounding falls to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from llmscope.models.loaded_model import LoadedModel
from llmscope.models.loading.frozen_copy import copy_in
from llmscope.models.loading.memory import GIB, available, ran_out
from llmscope.record.capture.recorder import Recorder
from llmscope.record.compare.rounding import ROOM
from llmscope.record.derive.verify import Verdicts, verify
from llmscope.support.text import error_line

FALL, STAY = 10.0, 2.0
"""How many times smaller a discrepancy is in float64, at least for rounding, at most for structure.

Parts of many models compute in float32 whatever their weights are, so rounding does not fall by all
of the digits. An error of the structure does not fall at all.
"""


@dataclass(frozen=True)
class Float64Check:
    """What a refused identity is off by in float64.

    Attributes:
        discrepancy: the relative error in float64; None if it was not measured.
        cause: "rounding" or "structure"; "" if neither was shown.
        reason: why neither was shown; "" if one was.
    """

    discrepancy: float | None
    cause: str
    reason: str = ""

    @property
    def words(self) -> str:
        """The finding in a line, for people."""
        if not self.cause:
            return f"in float64: {self.reason}"
        if self.cause == "rounding":
            return f"falls to {self.discrepancy:.0e} in float64: rounding"
        return f"stays at {self.discrepancy:.1e} in float64: the structure is not what was found"


@dataclass(frozen=True)
class Float64Verdicts:
    """The verdicts on a model beside those on its copy in float64, which is None with a reason."""

    verdicts: Verdicts
    exact: Verdicts | None
    reason: str = ""

    def over(self, capability: str, layers: Sequence[int] | None = None) -> Float64Check | None:
        """Return the check of the layers among these that are off; None if none of them is."""
        measured = self.verdicts.layers[capability]
        chosen = range(len(measured)) if layers is None or capability == "readout" else layers
        refused = [layer for layer in chosen if _is_off(self.verdicts, capability, layer)]
        if not refused:
            return None
        if self.exact is None:
            return Float64Check(None, "", self.reason)
        checks = [self._check(capability, layer) for layer in refused]
        order = ("rounding", "", "structure")  # one layer of a wrong structure decides
        return max(checks, key=lambda check: (order.index(check.cause), check.discrepancy or 0.0))

    def _check(self, capability: str, layer: int) -> Float64Check:
        assert self.exact is not None
        before = self.verdicts.layers[capability][layer].discrepancy
        exact = self.exact.layers[capability][layer]
        if exact.status == "refused" and exact.discrepancy is None:
            return Float64Check(None, "", exact.reason)
        after = exact.discrepancy or 0.0
        if before is None or after >= before / STAY:
            return Float64Check(after, "structure")
        if after <= before / FALL and exact.status != "refused":
            return Float64Check(after, "rounding")
        return Float64Check(after, "", f"falls to {after:.1e} only: parts of it stay in float32")


def check_in_float64(model: LoadedModel, verdicts: Verdicts) -> Float64Verdicts:
    """Check what was refused with a discrepancy again, in a copy of the model in float64.

    Args:
        model: the model. Nothing runs if no identity of it was refused with a discrepancy.
        verdicts: its verdicts.
    """
    counts = {name: len(measured) for name, measured in verdicts.layers.items()}
    if not any(
        _is_off(verdicts, name, layer) for name, count in counts.items() for layer in range(count)
    ):
        return Float64Verdicts(verdicts, None)
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    need, free = parameters * torch.float64.itemsize, available(model.device)
    if need > ROOM * free:
        reason = f"a copy takes {need / GIB:.1f} GiB of memory, and {free / GIB:.1f} GiB are free"
        return Float64Verdicts(verdicts, None, reason)
    try:
        copied = copy_in(model, torch.float64)
        with suppress(AttributeError, ValueError):  # a model without experts
            copied.module.set_experts_implementation("eager")  # the grouped product has no float64
        return Float64Verdicts(verdicts, verify(Recorder(copied)))
    except Exception as error:  # a model's own code may do anything in another dtype
        reason = "the memory does not hold a copy" if ran_out(error) else error_line(error)
        return Float64Verdicts(verdicts, None, reason)


def _is_off(verdicts: Verdicts, capability: str, layer: int) -> bool:
    verdict = verdicts.layers[capability][layer]
    return verdict.status == "refused" and verdict.discrepancy is not None
