"""The `Figure`, which lenses compute, panes draw and exports write.

Every module may import this one; it imports numpy and plain helpers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from llmscope.errors import WrongValueError
from llmscope.support import exporting
from llmscope.support.arguments import check_index
from llmscope.support.text import one_line

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Page
    from numpy.typing import DTypeLike, NDArray

    from llmscope.support.exporting import Widget

Form = Literal["heatmap", "bars", "lines", "tokens", "table"]
Status = Literal["verified", "partial", "unverified", "refused"]


@dataclass(frozen=True)
class Verdict:
    """How far a number may be trusted, as measured on the model itself.

    Attributes:
        status: `verified` (the identity holds), `partial` (for some layers only),
            `unverified` (it does not hold, and is shown because the user asked for that),
            `refused` (it does not hold, or the model has no such part).
        reason: one line for the user; empty when verified.
        discrepancy: the largest relative error that was measured; None if none was measured.
        within: the limits of a check that does not cover everything: the bound of half
            precision, or which tokens were checked.
    """

    status: Status
    reason: str = ""
    discrepancy: float | None = None
    within: str = ""

    def worst(self, other: Verdict) -> Verdict:
        """Return the less trustworthy of the two; if both are verified, keep this discrepancy."""
        order = ("verified", "partial", "unverified", "refused")

        def rank(verdict: Verdict) -> tuple[int, bool]:
            return order.index(verdict.status), bool(verdict.within)

        worse = max(self, other, key=rank)
        if self.status == other.status == "verified" and self.discrepancy is not None:
            return replace(worse, discrepancy=self.discrepancy)
        return worse


VERIFIED = Verdict("verified")
LAYER_HEAD = "layer.head"
"""The axis of all heads of all layers, each labelled `LAYER.HEAD`."""
TRAINING_STEP = "training step"
"""The axis of a figure over the recorded steps of a run; `Focus.step` is an index on it."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a figure: its name and one label for each index.

    Token labels are the raw decoded text, with its leading space; drawing makes spaces visible.

    Attributes:
        start: the position in the prompt (or layer, …) of the first label.
        step: the number of positions that each label covers.
    """

    name: str
    labels: tuple[str, ...]
    start: int = 0
    step: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def stop(self) -> int:
        """The position after the last one that a label covers."""
        return self.start + len(self.labels) * self.step

    def index(self, place: int) -> int | None:
        """Return the index of the label that covers a position; None if it is outside.

        Args:
            place: the position in the prompt; a negative one counts from the end.
        """
        index = ((place + self.stop if place < 0 else place) - self.start) // self.step
        return index if 0 <= index < len(self.labels) else None

    def to_dict(self) -> dict[str, Any]:
        """Return name and labels, and start and step unless they are 0 and 1."""
        record: dict[str, Any] = {"name": self.name, "labels": list(self.labels)}
        if (self.start, self.step) != (0, 1):
            record |= {"start": self.start, "step": self.step}
        return record


@dataclass(frozen=True)
class Focus:
    """The user's selection. Indices count from 0; negative ones from the end.

    Attributes:
        layer, head, position: the selected place in the model and the prompt.
        target: id of the target token; None: the top next token.
        versus: id of the token that the target is compared with; None: no comparison.
        neuron: index into the MLP's hidden width; None: the lens chooses.
        mode: a lens's own variant, such as `mean` for attention; empty means its default.
        top_k: the number of candidates, neurons or rows to list.
        span: start and end (exclusive) of the tokens to show, for figures that would grow with
            the square of the prompt; None: all.
        pool: the number of tokens that are pooled into one, by their maximum.
        context: the number of tokens before the query; None: all lines except the last.
        answer: ids of the tokens expected after the prompt; None: the target if one is given, else
            the likeliest next token.
        versus_prompt: ids of prompt B, which this one is compared with; None: no comparison.
        words: two lists of words to compare, each word as the id of its first token; None: the
            lens chooses.
        step: index of an operation in the walkthrough; None: the lens chooses.
        weight: index of one of the parameters that the step reads; None: the output of the step.
        cell: row and column of a cell of the step or weight; None: the lens chooses.
        change: show edited minus unedited instead of the edited pass. For a pass without edits:
            show A − B, this prompt minus `versus_prompt`.
        options: other options of single lenses, those that differ from their defaults: name and
            value, sorted by name; see `llmscope.lenses.options`.
    """

    layer: int = -1
    head: int = 0
    position: int = -1
    target: int | None = None
    versus: int | None = None
    neuron: int | None = None
    mode: str = ""
    top_k: int = 10
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
    options: tuple[tuple[str, Any], ...] = ()

    def resolve(self, *, layers: int, heads: int, positions: int) -> Focus:
        """Return the same focus with indices counted from 0.

        Args:
            layers: the number of layers.
            heads: the number of heads; 0 if the model has no attention.
            positions: the number of tokens in the prompt.

        Raises:
            ValueError: an index is outside of the model or the prompt.
        """
        span = self.span
        if span is not None:  # negative ends count from the end; an end of 0 is the end
            first, end = span
            first = max(0, first + positions) if first < 0 else first
            end = end + positions if end <= 0 else end
            if first >= end:
                raise WrongValueError(f"span {span} is empty in a prompt of {positions} tokens")
            span = first, end
        return replace(
            self,
            layer=check_index("layer", self.layer, layers),
            head=check_index("head", self.head, heads) if heads else 0,
            position=check_index("position", self.position, positions),
            span=span,
        )


SIGNED_WEIGHT = "signed weight"
"""The unit of weights of both signs that do not sum to 1, which need a diverging scale."""

MISSING = (
    *("prompt B", "context", "adapter", "reward model", "dictionary of features"),
    *("second model", "direction"),
)
"""What a figure may lack: see `Figure.lacking`."""


@dataclass(frozen=True)
class Figure:
    """The result of a lens: the numbers and the facts needed to draw them, immutable.

    Attributes:
        lens: name of the lens that computed it.
        title: one line without units.
        kind: its form, by which it is drawn; see `llmscope.figure.kinds`.
        axes: one for each dimension of `values`.
        values: float32; NaN for missing values.
        unit: "probability", "bits", "logit", "norm", …
        verdict: how far to trust the values. A refused figure holds no values.
        extra: additional named arrays and scalars.
    """

    lens: str
    title: str
    kind: Form
    axes: tuple[Axis, ...]
    values: NDArray[np.float32]
    unit: str
    verdict: Verdict = VERIFIED
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.shape != tuple(len(axis) for axis in self.axes):
            raise WrongValueError(
                f"{self.lens}: values {self.values.shape} do not fit axes "
                f"{[(axis.name, len(axis)) for axis in self.axes]}"
            )
        self.values.flags.writeable = False

    @classmethod
    def refused(
        cls, lens: str, title: str, reason: str, discrepancy: float | None = None
    ) -> Figure:
        """Return a figure without values that shows the reason of the refusal."""
        verdict = Verdict("refused", reason, discrepancy)
        import numpy as np

        return cls(lens, title, "table", (), np.array(np.nan, dtype=np.float32), "", verdict)

    @classmethod
    def lacking(cls, lens: str, title: str, missing: str, reason: str) -> Figure:
        """Return a refused figure that could be made if the user gave something.

        Args:
            lens: the name of the lens.
            title: the title.
            missing: one of `MISSING`, for `extra`.
            reason: the reason, and how to give it.
        """
        return replace(cls.refused(lens, title, reason), extra={"missing": missing})

    @property
    def missing(self) -> str:
        """Return what the user has to give for the figure; empty if nothing is missing."""
        missing = self.extra.get("missing", "")
        return missing if missing in MISSING else ""

    def axis(self, name: str) -> int | None:
        """Return the index of the axis with that name, or None."""
        return next((i for i, axis in enumerate(self.axes) if axis.name == name), None)

    def to_dict(self, *, values: bool = True) -> dict[str, Any]:
        """Return strict JSON: NaN and infinity become null; `infinite` counts infinities.

        Args:
            values: include the values; False for metadata that goes beside an array of them.
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

        Args:
            path: the file.
            options: those of `llmscope.export.save`.
        """
        return exporting.exporter().save(self, Path(path), **options)

    def tidy(self) -> dict[str, Any]:
        """Return the values in long form, as columns for `pandas.DataFrame` or `polars.DataFrame`.

        The columns are, for each axis, its labels and, as `NAME_index`, their positions; then
        `value`. One row per value, the last axis fastest; no rows for a refused figure.
        """
        return exporting.exporter().tidy(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the result of `tidy` as a data frame; `attrs` holds lens, title, unit and verdict.

        Raises:
            ScopeError: pandas is not installed.
        """
        return exporting.exporter().data_frame(self)

    def to_polars(self) -> polars.DataFrame:
        """Return the result of `tidy` as a data frame of polars.

        Raises:
            ScopeError: polars is not installed.
        """
        return exporting.exporter().polars_frame(self)

    def to_xarray(self) -> xarray.DataArray:
        """Return the values with a dimension for each axis.

        The coordinate `NAME` of a dimension holds the positions, `NAME_label` the labels; `attrs`
        holds lens, title, unit and verdict.

        Raises:
            ScopeError: xarray is not installed, or the figure is refused.
        """
        return exporting.exporter().data_array(self)

    @overload
    def plot(self, ax: Axes) -> Axes: ...

    @overload
    def plot(
        self,
        ax: None = None,
        *,
        cmap: str | None = None,
        font: str | None = None,
        width: float | None = None,
    ) -> Page: ...

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: str | None = None,
        font: str | None = None,
        width: float | None = None,
    ) -> Axes | Page:
        """Plot the figure with matplotlib: on axes of yours, or on a page in the look `paper`.

        Args:
            ax: the axes to plot on, in your style: for a map, bars, or lines; None: a new page.
            cmap: of the page: the colours of maps, and after a comma of those with signs; None:
                viridis, and the colours that signs have on the screen.
            font: of the page: a family of letters; None: DejaVu Sans.
            width: of the page, in millimetres; None: 176, or what words in cells need.

        Returns:
            The axes; without axes the page, a matplotlib figure that pyplot knows.

        Raises:
            ScopeError: matplotlib is not installed; the figure is refused or a table; with axes,
                it is several maps, such as the patterns of all heads; or there is no such font or
                map of colours.
        """
        return exporting.exporter().plot(self, ax, cmap=cmap, font=font, width=width)

    def widget(self, *, cursor: int = -1) -> Widget:
        """Return a widget for notebooks: the figure as on the html page, with a moving cursor.

        Args:
            cursor: the position of the token at the cursor at first; negative ones count from the
                end. `widget.cursor` is where it is now, and can be set.

        Raises:
            ScopeError: anywidget is not installed.
        """
        return exporting.exporter().widget(self, cursor=cursor)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.float32]:
        """Return the values, for `np.asarray`.

        Raises:
            ValueError: the figure is refused, or a copy is needed and `copy` is False.
        """
        if self.verdict.status == "refused":
            raise WrongValueError(f"{self.lens} is refused: {self.verdict.reason}")
        import numpy as np

        return np.array(self.values, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        sizes = " × ".join(f"{axis.name} {len(axis)}" for axis in self.axes)
        facts = [sizes, self.unit, self.verdict.status]
        title = one_line(self.title)
        return f"<Figure {self.lens}: {title}: {', '.join(filter(None, facts))}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Draw the figure as text, for IPython, where it is in a list too."""
        printer.text("\n" + exporting.exporter().mimebundle(self)["text/plain"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the svg and txt exports by MIME type, for a notebook."""
        return exporting.exporter().mimebundle(self)


def plain(value: Any) -> Any:
    """Convert values to JSON types: NaN and infinity to None, a function to its name."""
    if hasattr(value, "tolist"):  # an array or a numpy scalar
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    return value
