"""The seam of llmscope: what lenses make, what panes draw and what exports write.

Everyone may import this module; it knows numpy and nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from numpy.typing import NDArray

Kind = Literal["heatmap", "bars", "lines", "tokens", "table"]
Status = Literal["verified", "partial", "unverified", "refused"]


@dataclass(frozen=True)
class Verdict:
    """How far a number may be trusted, as measured on the model itself.

    Attributes:
        status: `verified` (the identity holds), `partial` (for some layers only),
            `unverified` (it does not hold, and is shown because somebody insisted),
            `refused` (it does not hold, or the model has no such thing).
        reason: one line for a person; empty when verified.
        discrepancy: the largest relative error that was measured, if one was.
        within: what the check covers where that is less than all: the bound that half precision
            allows, or which tokens were checked.
    """

    status: Status
    reason: str = ""
    discrepancy: float | None = None
    within: str = ""

    def worst(self, other: Verdict) -> Verdict:
        """The less trustworthy of the two; of two that hold, this one's discrepancy stays."""
        order = ("verified", "partial", "unverified", "refused")

        def rank(verdict: Verdict) -> tuple[int, bool]:
            return order.index(verdict.status), bool(verdict.within)

        worse = max(self, other, key=rank)
        if self.status == other.status == "verified" and self.discrepancy is not None:
            return replace(worse, discrepancy=self.discrepancy)
        return worse


VERIFIED = Verdict("verified")


@dataclass(frozen=True)
class Axis:
    """One dimension of a figure: its name and one label for each index.

    Token labels are the raw decoded text, with its leading space; drawing makes it visible.

    Attributes:
        start: which place of the prompt (or layer, …) the first label stands for.
        step: how many places each label stands for.
    """

    name: str
    labels: tuple[str, ...]
    start: int = 0
    step: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def stop(self) -> int:
        """The place after the last one that a label stands for."""
        return self.start + len(self.labels) * self.step

    def index(self, place: int) -> int | None:
        """The index that stands for a place of the prompt; None if it is outside.

        A negative place counts from the end.
        """
        index = ((place + self.stop if place < 0 else place) - self.start) // self.step
        return index if 0 <= index < len(self.labels) else None

    def to_dict(self) -> dict[str, Any]:
        """Name and labels; start and step where they are not what one expects."""
        record: dict[str, Any] = {"name": self.name, "labels": list(self.labels)}
        if (self.start, self.step) != (0, 1):
            record |= {"start": self.start, "step": self.step}
        return record


@dataclass(frozen=True)
class Focus:
    """What a person looks at. Indices count from 0; negative ones from the end.

    Attributes:
        layer, head, position: the place on the map.
        target: id of the token asked about; None means the top next token.
        versus: id of the token that it is held against, if any.
        translator: a folder with the translators of a tuned lens.
        neuron: index into the MLP's hidden width.
        mode: a lens's own variant, such as `mean` for attention; empty means its default.
        top_k: how many candidates, neurons or rows are listed.
        temperature, sample_top_k, top_p, min_p: the sampler whose cut is shown; see
            `llmscope.sampler`. A top-k of 0 cuts nothing.
        span: the tokens that matter, from the first to before the last, for figures that would
            grow with the square of the prompt; None: all.
        pool: so many tokens become one, by their maximum.
        context: how many tokens come before the query; None: all lines but the last.
        answer: ids of the tokens that are expected after the prompt; None: the target if there is
            one, else the likeliest next token.
        versus_prompt: ids of the prompt B that this one is held against.
        words: two lists of words, each as the id of its first token, that are held against each
            other; None: the lens chooses.
        step: an operation of the pass, by its place in the walk; None: the lens chooses.
        weight: one of the parameters that the step reads, by its place among them; None: what
            comes out of the step.
        cell: row and column of a cell of the step or the weight that is asked about.
        change: what the edits changed: less the same of the unedited pass. Of a pass without edits
            it is A − B: less the same of `versus_prompt`.
    """

    layer: int = -1
    head: int = 0
    position: int = -1
    target: int | None = None
    versus: int | None = None
    translator: str | None = None
    neuron: int | None = None
    mode: str = ""
    top_k: int = 10
    temperature: float = 1.0
    sample_top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    span: tuple[int, int] | None = None
    pool: int = 1
    context: int | None = None
    answer: tuple[int, ...] | None = None
    versus_prompt: tuple[int, ...] | None = None
    words: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    step: int | None = None
    weight: int | None = None
    cell: tuple[int, int] | None = None
    change: bool = False

    def resolve(self, *, layers: int, heads: int, positions: int) -> Focus:
        """The same focus with indices counted from 0.

        Raises:
            ValueError: an index is outside of the model or the prompt.
        """

        def index(name: str, value: int, count: int) -> int:
            if not -count <= value < count:
                raise ValueError(
                    f"{name} {value} is out of range: there are {count} (0 to {count - 1})"
                )
            return value % count

        span = self.span
        if span is not None:  # ends below zero count from the end, and an end of 0 is the end
            first, end = span
            first = max(0, first + positions) if first < 0 else first
            end = end + positions if end <= 0 else end
            if first >= end:
                raise ValueError(f"span {span} is empty in a prompt of {positions} tokens")
            span = first, end
        return replace(
            self,
            layer=index("layer", self.layer, layers),
            head=index("head", self.head, heads) if heads else 0,
            position=index("position", self.position, positions),
            span=span,
        )


@dataclass(frozen=True)
class Figure:
    """One picture with its numbers, frozen.

    Attributes:
        lens: name of the lens that made it.
        title: one line without units.
        kind: how it is drawn.
        axes: one for each dimension of `values`.
        values: float32; NaN where there is no value.
        unit: "probability", "bits", "logit", "norm", …
        verdict: how far to trust it. A refused figure holds no values.
        extra: named arrays and scalars that belong to it.
    """

    lens: str
    title: str
    kind: Kind
    axes: tuple[Axis, ...]
    values: NDArray[np.float32]
    unit: str
    verdict: Verdict = VERIFIED
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.shape != tuple(len(axis) for axis in self.axes):
            raise ValueError(
                f"{self.lens}: values {self.values.shape} do not fit axes "
                f"{[(axis.name, len(axis)) for axis in self.axes]}"
            )
        self.values.flags.writeable = False

    @classmethod
    def refused(
        cls, lens: str, title: str, reason: str, discrepancy: float | None = None
    ) -> Figure:
        """A figure that shows nothing but why it does not."""
        verdict = Verdict("refused", reason, discrepancy)
        import numpy as np

        return cls(lens, title, "table", (), np.array(np.nan, dtype=np.float32), "", verdict)

    def axis(self, name: str) -> int | None:
        """The number of the axis with that name, or None."""
        return next((i for i, axis in enumerate(self.axes) if axis.name == name), None)

    def to_dict(self, *, values: bool = True) -> dict[str, Any]:
        """The figure as strict JSON: NaN and infinity become null; `infinite` counts the latter.

        Args:
            values: with the values; without them it is what goes beside an array of them.
        """
        record: dict[str, Any] = {
            "lens": self.lens,
            "title": self.title,
            "kind": self.kind,
            "unit": self.unit,
            "axes": [axis.to_dict() for axis in self.axes],
            **({"values": plain(self.values)} if values else {}),
            "verdict": {
                "status": self.verdict.status,
                "reason": self.verdict.reason,
                **({"within": self.verdict.within} if self.verdict.within else {}),
            },
            "extra": {key: plain(value) for key, value in self.extra.items()},
        }
        infinite = int((abs(self.values) == math.inf).sum())
        if infinite:
            record["infinite"] = infinite
        return record

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the figure to a file, in the format that the suffix names.

        Options are those of `llmscope.export.save`.
        """
        from llmscope.export import save

        return save(self, Path(path), **options)

    def tidy(self) -> dict[str, Any]:
        """The values in long form, as columns that `pandas.DataFrame` and `polars.DataFrame` take.

        For each axis its labels and, as `NAME_index`, the places that they stand for; then
        `value`. A row a value, the last axis fastest; none for a refused figure.
        """
        from llmscope.export import tidy

        return tidy(self)

    def to_pandas(self) -> pandas.DataFrame:
        """What `tidy` gives as a data frame, with lens, title, unit and verdict in its `attrs`.

        Raises:
            ScopeError: pandas is not installed.
        """
        from llmscope.export import data_frame

        return data_frame(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows of it: the drawing of the exports svg and txt, by MIME type."""
        from llmscope.export import mimebundle

        return mimebundle(self)


def plain(value: Any) -> Any:
    """Numbers, arrays and containers as JSON types; what is not finite as None."""
    if hasattr(value, "tolist"):  # an array, or a number of one
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
