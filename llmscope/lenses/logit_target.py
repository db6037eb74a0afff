"""The target of lenses that run many edited passes, and helpers for their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import VERIFIED, Verdict
from llmscope.figure.tables import label, text

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.loaded_model import LoadedModel

TARGET_COLUMNS = (
    text("target", "the target token", "target"),
    label("target_id", "id of the target", "target_id"),
    text("versus", "the token that the target is held against; null without one", "versus"),
    label("versus_id", "id of that token", "versus_id"),
)
"""The columns that say which logits a table is of."""
NAMED = 3
"""Number of cells that the caption names."""


@dataclass(frozen=True)
class LogitTarget:
    """A target token, and the token whose logit is subtracted (None: no subtraction)."""

    model: LoadedModel
    target: int
    versus: int | None

    @classmethod
    def of(cls, model: LoadedModel, target: int, versus: int | None) -> LogitTarget:
        """Create a target after checking its token ids.

        Raises:
            ValueError: a token is outside of the vocabulary.
        """
        model.anatomy.check_tokens((target,) if versus is None else (target, versus))
        return cls(model, target, versus)

    def __str__(self) -> str:
        label = self.model.label
        less = "" if self.versus is None else f" − ‹{label(self.versus)}›"
        return f"‹{label(self.target)}›{less}"

    unit = "logit"

    @property
    def key(self) -> tuple[int, int | None]:
        """What results are kept under."""
        return self.target, self.versus

    @property
    def phrase(self) -> str:
        """What is measured, for titles."""
        return f"logit of {self}"

    def value(self, logits: Tensor) -> Tensor:
        """Return the logit, or the logit difference. `[..., token]` -> [...], float64"""
        from llmscope.record.interventions.sweep import difference

        return difference(logits, self.target, self.versus)

    @property
    def extra(self) -> dict[str, Any]:
        """The entries of the figure's `extra`."""
        label, versus = self.model.label, self.versus
        return {
            "target_id": self.target,
            "target": label(self.target),
            "versus_id": versus,
            "versus": None if versus is None else label(versus),
        }


def over(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts of all layers: partial if some are refused, refused if all are."""
    from llmscope.record.derive.verify import Verdicts

    named = Verdicts({"layers": tuple(verdicts)})
    return named.over("layers") if verdicts else VERIFIED


def strongest(
    values: NDArray[np.float64], layers: Sequence[str], columns: Sequence[str], unit: str = ""
) -> str:
    """Name the cells of the largest magnitude: `strongest: layer 3 MLP +1.20, … logit`.

    A column named `layer` stands for the whole layer.
    """
    order = np.argsort(-np.abs(np.nan_to_num(values)), axis=None, kind="stable")[:NAMED]
    places = [divmod(int(place), values.shape[1]) for place in order]
    named = [
        f"layer {layers[row]} {columns[column]}".removesuffix(" layer")
        + f" {values[row, column]:+.2f}"
        for row, column in places
        if np.isfinite(values[row, column]) and values[row, column]
    ]
    return f"strongest: {', '.join(named)} {unit}".rstrip() if named else ""


def progress(done: int, total: int) -> dict[str, tuple[int, int]]:
    """Return passes done and total passes for `extra` of a partial figure; empty if complete."""
    return {"progress": (done, total)} if done < total else {}
