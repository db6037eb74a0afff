"""The list of steps: each is recomputed and compared with the model's own value when added."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.models.module_calls import hidden_output
from llmscope.record.derive.comparison import BOUND
from llmscope.record.norms import bound, exact
from llmscope.record.walkthrough.arithmetic import (
    Form,
    Norm,
    norm_forms,
    outputs_first,
    plain,
    projected,
)
from llmscope.record.walkthrough.step import Reads, Step, Weight, disagreement
from llmscope.record.walkthrough.terms import Explanation, Region, Tell, summed
from llmscope.record.walkthrough.tracer import Call

Make = Callable[..., Tensor]

NEAR, HALF_NEAR = 1e-4, 16.0
"""Relative difference below which one tensor counts as computed from another: in float32, and in
multiples of epsilon for a narrower type. It is not the bound for showing a step."""
UNFINITE = "NaN or infinity comes out of it"
SOME = 16
"""Rows on which forms are compared."""


class Chain:
    """The steps in order.

    Each step is recomputed from earlier steps alone. If the result agrees with the model's own
    value, later steps continue from the result; otherwise the step is refused, and later steps
    continue from the model's own value. In half precision, where the rounding of twenty steps would
    add up, every step starts from the model's own values of the earlier steps, each of which was
    compared with its recomputed value.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.steps: list[Step] = []
        self.half = model.dtype.itemsize < 4
        self.model = model
        self.layer: int | None = None
        self.part = "beginning"
        self.near = bound(model.precision, NEAR, HALF_NEAR)
        self._bound, self._eps = bound(model.precision, BOUND), torch.finfo(model.dtype).eps
        self._on: list[Tensor] = []
        parameters = model.module.named_parameters(remove_duplicate=True)
        self._names = {id(parameter): name for name, parameter in parameters}
        self._buffers = {id(buffer): name for name, buffer in model.module.named_buffers()}

    def at(self, index: int) -> Tensor:
        """Return the value of a step that later steps continue from, in float64 on the CPU."""
        return self._on[index]

    def cut(self, count: int) -> None:
        """Remove all but the first `count` steps."""
        del self.steps[count:], self._on[count:]

    def add(
        self,
        name: str,
        gist: str,
        sentence: str,
        formula: str,
        axes: Sequence[str],
        inputs: Sequence[int],
        make: Make | str,
        actual: Tensor | None,
        *,
        weights: Iterable[Weight] = (),
        by: str = "arithmetic",
        start: int = 0,
        floor: float = 0.0,
        seen: Tensor | None = None,
        also: Tensor | None = None,
        roundings: int = 0,
        reads: Reads | None = None,
        tell: Tell | None = None,
    ) -> int:
        """Add a step, and return its index.

        Args:
            name, gist, sentence, formula, axes, inputs, weights, by, reads: see `Step`.
            make: computes the value from the inputs' values; or a string, why that is impossible.
            actual: the model's own value; None if it was not traced.
            start: the prompt position of the first row.
            floor: see `disagreement`.
            seen: mask of the cells that hold a number; None: all of them.
            also: the recording's value, compared as well. Not in half precision, where two passes
                computed in different ways differ by more than the bound.
            roundings: number of further roundings in the model's own value, allowed for in half
                precision.
            tell: explains a cell, from its index and the part of each input that it reads.

        Raises:
            Unseen: the value could not be recomputed and was not traced.
        """
        actual = None if actual is None else exact(actual)
        if isinstance(make, str) and actual is not None:
            there = actual if seen is None else torch.where(seen, actual, 0.0)
            if not bool(torch.isfinite(there).all()):
                make = UNFINITE  # recomputing NaN or infinity shows nothing
        computed, reason = self._recompute(make, inputs, actual, axes)
        agreement: float | None = None
        if computed is not None and not reason:
            rows = next((i for i, axis in enumerate(axes) if axis in ("position", "query")), None)

            def held(other: Tensor) -> float:
                pair = [computed, other] if rows is not None else [computed[None], other[None]]
                if seen is not None:
                    pair = [torch.where(seen, tensor, 0.0) for tensor in pair]
                return disagreement(*pair, rows=rows or 0, floor=floor)

            limit = self._bound + (roundings * self._eps if self.half else 0.0)
            agreement = None if actual is None else held(actual)
            reason = _judge(agreement, limit, "model's own")
            if also is not None and not reason and not self.half:
                again = held(exact(also))
                agreement = again if agreement is None else max(agreement, again)
                reason = _judge(again, limit, "one in the recording")
        values = computed if computed is not None and (actual is None or not reason) else actual
        if values is None:
            raise Unseen(f"{name}: {reason}")
        on = actual if actual is not None and (reason or self.half) else values
        if seen is not None:
            values = torch.where(seen, values, torch.nan)
        self._on.append(on)
        self.steps.append(
            Step(
                name=name,
                part=self.part,
                gist=gist,
                sentence=sentence,
                formula=formula,
                axes=tuple(axes),
                inputs=tuple(inputs),
                weights=tuple(weights),
                value=values.float().numpy(),
                agreement=agreement,
                reason=reason,
                by=by,
                start=start,
                layer=self.layer,
                reads=reads,
                made=None if reason else self._telling(inputs, reads, tell),
            )
        )
        return len(self.steps) - 1

    def _telling(
        self, inputs: Sequence[int], reads: Reads | None, tell: Tell | None
    ) -> Callable[[tuple[int, ...]], Explanation] | None:
        if tell is None:
            return None

        def made(at: tuple[int, ...]) -> Explanation:
            parts = () if reads is None else reads(at)
            with torch.no_grad():
                return tell(at, *(self.at(i)[part] for i, part in zip(inputs, parts, strict=True)))

        return made

    def _recompute(
        self, make: Make | str, inputs: Sequence[int], actual: Tensor | None, axes: Sequence[str]
    ) -> tuple[Tensor | None, str]:
        if isinstance(make, str):
            return None, make
        try:
            with torch.no_grad():
                computed = exact(make(*(self.at(index) for index in inputs)))
        except Exception as error:  # torch may raise anything for a wrongly guessed structure
            lines = str(error).strip().splitlines()
            return None, f"it could not be recomputed: {lines[0] if lines else error!r}"
        if len(axes) != computed.dim() or (actual is not None and actual.shape != computed.shape):
            return None, f"it has the shape {tuple(computed.shape)}, and not that of the model's"
        return computed, ""

    def weight(
        self, parameter: Any, axis: int | None = None, chosen: Tensor | None = None
    ) -> list[Weight]:
        """Return a parameter or buffer as a weight of a step; empty if the model does not have it.

        Args:
            parameter: the parameter or buffer.
            axis: the dimension that `chosen` indexes.
            chosen: indices that the step reads; None: all.
        """
        for names, learned in ((self._names, True), (self._buffers, False)):
            if id(parameter) in names:
                whole = chosen is None
                name = names[id(parameter)]
                return [Weight(name, parameter, None if whole else axis, chosen, learned)]
        return []

    def weights(self, module: nn.Module, columns: Tensor | None = None) -> list[Weight]:
        """Return all parameters of a module; with `columns`, a projection's for those outputs."""
        if not plain(module) or columns is None:
            return [
                region for parameter in module.parameters() for region in self.weight(parameter)
            ]
        axis = 0 if outputs_first(module) else 1
        regions = self.weight(module.weight, axis, columns)
        return regions + self.weight(getattr(module, "bias", None), 0, columns)

    def projection(self, call: Call, columns: Tensor | None = None) -> tuple[Make, str]:
        """Return a function that projects rows, and "arithmetic" or "module" for how it does."""
        module = call.module
        if plain(module):
            return lambda rows: projected(rows, module, columns), "arithmetic"

        def through(rows: Tensor) -> Tensor:
            values = self.through(call, rows)
            return values if columns is None else values[..., columns]

        return through, "module"

    def tells(
        self,
        module: nn.Module,
        columns: Tensor | None,
        output: Callable[[tuple[int, ...]], int],
        along: Sequence[str],
        *,
        scale: float = 1.0,
    ) -> Tell | None:
        """Return a function that explains a projection's outputs; None if its matrix is unreadable.

        Args:
            module: the projection.
            columns: indices of the outputs that the step takes; None: all.
            output: maps the index of a cell to its index among those outputs.
            along: names of the input's axes.
            scale: a factor applied to the projection's output.
        """
        if not plain(module):
            return None
        first, bias = outputs_first(module), getattr(module, "bias", None)

        def explain(at: tuple[int, ...], inputs: Tensor) -> Explanation:
            output_index = output(at)
            matrix_index = output_index if columns is None else int(columns[output_index])
            weight = module.weight
            assert isinstance(weight, Tensor)
            vector = exact((weight if first else weight.T)[matrix_index])
            region: Region = (output_index, slice(None)) if first else (slice(None), output_index)
            regions: tuple[Region, ...] = (region,)
            more = []
            if bias is not None:
                more = [("bias", scale * float(bias[matrix_index]))]
                regions = (region, (0, output_index))
            sizes = list(zip(along, inputs.shape, strict=True))
            formula = "input · weight, added up"
            return summed(formula, inputs, vector, sizes, scale=scale, more=more, weights=regions)

        return explain

    def through(self, call: Call, rows: Tensor) -> Tensor:
        """Call a module again with `rows` in place of its traced input. [row, width]

        Pass fewer rows than in the traced call only to a module that handles each row on its own.
        """
        inputs = call.given
        assert inputs is not None
        rows_given = rows.to(inputs)
        rows_given = rows_given.reshape(
            inputs.shape if rows_given.numel() == inputs.numel() else (1, *rows_given.shape)
        )

        def swapped(value: Any) -> Any:
            alike = isinstance(value, Tensor) and value.shape == inputs.shape
            return rows_given if alike and torch.equal(value, inputs) else value

        named = {name: swapped(value) for name, value in call.kwargs.items()}
        output = hidden_output(call.module(*map(swapped, call.args), **named))
        return output.reshape(-1, output.shape[-1])


def _judge(agreement: float | None, limit: float, whose: str) -> str:
    """Return why a step is refused; empty if it is not."""
    if agreement is None or agreement <= limit:
        return ""
    if not math.isfinite(agreement):
        return UNFINITE
    return f"it differs from the {whose} by {agreement:.1e} (bound {limit:.0e})"


class Unseen(Exception):  # noqa: N818 - a result, not an error
    """A step's value could not be recomputed and was not traced."""


def best_form(forms: Iterable[Form], inputs: Tensor, actual: Tensor) -> Form | None:
    """Return the form whose output is closest to the model's; None if no form can be computed.

    Args:
        forms: candidates.
        inputs: the input.
        actual: the model's own output.
    """
    ranked: list[tuple[float, Form]] = []
    for form in forms:
        try:
            off = disagreement(form[1](inputs).flatten(0, -2), actual.flatten(0, -2))
        except (RuntimeError, IndexError):  # the shapes do not fit this form
            continue
        if math.isfinite(off):
            ranked.append((off, form))
    return min(ranked, key=lambda candidate: candidate[0])[1] if ranked else None


def norm_form(call: Call) -> Form | None:
    """Return the form of a norm, found from its call; None if no form can be computed."""
    if call.given is None or call.gave is None or call.given.shape != call.gave.shape:
        return None
    inputs, gave = (
        tensor.reshape(-1, *tensor.shape[-2:])[:SOME] for tensor in (call.given, call.gave)
    )
    return best_form(norm_forms(call.module), exact(inputs), exact(gave))


def unknown_norm(module: nn.Module) -> str:
    """Return why a norm has no form."""
    if any(parameter.is_meta for parameter in module.parameters()):
        return "its weights are offloaded, and are there only while it runs"
    return "it is no norm of a known form"


def normed(form: Form) -> Tell | None:
    """Return a function that explains the outputs of a norm over a row; None if not a `Norm`."""
    norm = form[1]
    return (lambda at, row: norm.tell(row, at[-1])) if isinstance(norm, Norm) else None
