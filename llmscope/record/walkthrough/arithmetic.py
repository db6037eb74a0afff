"""The operations of a decoder, implemented in float64 without running any module.

Names do not tell which of several forms a model uses (mean subtracted or not, rotated pairs
adjacent or half a head apart). So each form is tried, and the one closest to the model's output is
used. If no form is close enough, the caller refuses the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import FLOATS
from llmscope.record.norms import exact
from llmscope.record.walkthrough.terms import Explanation, Region, added

Form = tuple[str, Callable[[Tensor], Tensor]]
"""A formula, and the function that computes it."""

EPSILONS = (1e-5, 1e-6, 0.0)
"""Tried for a norm that has no epsilon attribute."""


CELLS = 2**24
"""Matrix cells that are converted to float64 at a time."""


def plain(module: nn.Module) -> bool:
    """Return whether a module is one readable matrix, with or without a bias."""
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, Tensor)
        and weight.dim() == 2
        and weight.dtype in FLOATS
        and not weight.is_meta
        and not list(module.children())
        and not isinstance(module, nn.Embedding)
    )


def outputs_first(module: nn.Module) -> bool:
    """Return whether the matrix is [output, input], as in `nn.Linear`; Conv1D: [input, output]."""
    return hasattr(module, "in_features")


def projected(rows: Tensor, module: nn.Module, columns: Tensor | None = None) -> Tensor:
    """Return rows times the module's matrix, plus bias: x W + b. `[..., input] -> [..., output]`

    Args:
        rows: [..., input]
        module: a module for which `plain` is true.
        columns: indices of the outputs to compute; None: all.
    """
    weight, bias = module.weight, getattr(module, "bias", None)
    assert isinstance(weight, Tensor)
    weight = weight if outputs_first(module) else weight.T
    chosen = torch.arange(len(weight)) if columns is None else columns
    # An unembedding in float64 may be larger than memory, so convert a few outputs at a time.
    pieces = torch.split(chosen.to(weight.device), max(1, CELLS // weight.shape[1]))
    product = torch.cat([rows @ exact(weight[piece]).T for piece in pieces], -1)
    return product if bias is None else product + exact(bias[chosen.to(bias.device)])


def norm_forms(module: nn.Module) -> Iterator[Form]:
    """Yield the forms that a norm may have: LayerNorm or RMSNorm, gain γ or 1 + γ.

    Yields nothing if its weights are offloaded, and can only be read while the module runs.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    gains: list[tuple[str, Tensor | float]] = [("", 1.0)]
    if isinstance(weight, Tensor):
        gains = [("γ · ", exact(weight)), ("(1 + γ) · ", 1 + exact(weight))]
    shift = exact(bias) if isinstance(bias, Tensor) else None
    own_eps = [
        value for name, value in vars(module).items() if "eps" in name and isinstance(value, float)
    ]
    for eps in own_eps or EPSILONS:
        for centred in (True, False):
            for gain_name, gain in gains:
                numerator, denominator = ("(x − mean)", "std") if centred else ("x", "rms")
                tail = "" if shift is None else " + β"
                formula = f"{gain_name}{numerator} / {denominator}(x){tail}"
                yield formula, Norm(gain, shift, eps, centred)


@dataclass(frozen=True, eq=False)
class Norm:
    """LayerNorm, or RMSNorm if not centred; `gain` already is γ or 1 + γ."""

    gain: Tensor | float
    bias: Tensor | None
    eps: float
    centred: bool

    def __call__(self, rows: Tensor) -> Tensor:
        """Normalize rows. `[..., width]` to the same."""
        seen = rows - rows.mean(-1, keepdim=True) if self.centred else rows
        normed = self.gain * (seen * self._scale(seen))
        return normed if self.bias is None else normed + self.bias

    def _scale(self, seen: Tensor) -> Tensor:
        return (seen.square().mean(-1, keepdim=True) + self.eps).rsqrt()

    def tell(self, row: Tensor, column: int) -> Explanation:
        """Return how the output at `column` was computed.

        Args:
            row: all values that are normalized together.
            column: index within the row.
        """
        mean = float(row.mean()) if self.centred else 0.0
        size = 1 / float(self._scale(row - mean))
        gain = float(self.gain[column]) if isinstance(self.gain, Tensor) else 1.0
        x, shift = float(row[column]), 0.0 if self.bias is None else float(self.bias[column])
        normed = (
            f"({x:.4g} {_format_summand(-mean)}) / {size:.4g}"
            if self.centred
            else f"{x:.4g} / {size:.4g}"
        )
        terms, filled = [("scaled", gain * (x - mean) / size)], normed
        formula = f"its distance from the mean / {STD}" if self.centred else f"it / {RMS}"
        regions: list[Region] = []
        if isinstance(self.gain, Tensor):
            filled, formula = f"{gain:.4g} · {normed}", f"gain · {formula}"
            regions.append((0, column))
        if self.bias is not None:
            filled, formula = f"{filled} {_format_summand(shift)}", f"{formula} + bias"
            terms.append(("bias", shift))
            regions.append((0, column))
        return added(formula, *terms, filled=filled, weights=tuple(regions))


STD, RMS = "the typical distance", "the typical size"


def _format_summand(value: float) -> str:
    """Format a number as a summand: `+ 0.5`, `− 0.5`."""
    return f"{'−' if value < 0 else '+'} {abs(value):.4g}"


ACTIVATIONS: tuple[Form, ...] = (
    ("GELU(x) = x · Φ(x)", lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
    (
        "GELU(x) ≈ x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))",
        lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    ),
    ("SiLU(x) = x · σ(x)", lambda x: x * torch.sigmoid(x)),
    ("ReLU(x) = max(0, x)", lambda x: x.clamp(min=0)),
    ("ReLU²(x) = max(0, x)²", lambda x: x.clamp(min=0) ** 2),
    ("x · σ(1.702 x)", lambda x: x * torch.sigmoid(1.702 * x)),
    ("tanh(x)", torch.tanh),
)


def rotations(cos: Tensor, sin: Tensor) -> Iterator[Form]:
    """Yield the ways to rotate a head by its position. `[head, row, head width]` to the same.

    Args:
        cos, sin: cosines and sines of the angles, once or twice per pair. [row, pair] or
            [row, 2 · pair]
    """
    half = cos.shape[-1] // 2
    # Twice per pair (the whole list repeated, or each angle repeated), or once per pair.
    angles = ((cos[:, :half], sin[:, :half]), (cos[:, ::2], sin[:, ::2]), (cos, sin))
    for c, s in angles:
        yield "(xᵢ, xᵢ₊d/₂) turned by the angle p · ωᵢ", _rotation(c, s, halves=True)
        yield "(x₂ᵢ, x₂ᵢ₊₁) turned by the angle p · ωᵢ", _rotation(c, s, halves=False)


def _rotation(cos: Tensor, sin: Tensor, *, halves: bool) -> Callable[[Tensor], Tensor]:
    pairs = cos.shape[-1]

    def turn(heads: Tensor) -> Tensor:
        turned, rest = heads[..., : 2 * pairs], heads[..., 2 * pairs :]
        if halves:
            first, second = turned[..., :pairs], turned[..., pairs:]
        else:
            first, second = turned[..., ::2], turned[..., 1::2]
        there, back = first * cos - second * sin, second * cos + first * sin
        joined = [there, back]
        together = torch.cat(joined, -1) if halves else torch.stack(joined, -1).flatten(-2)
        return torch.cat([together, rest], -1)

    return turn


def score_form(scale: float, softcap: float | None = None) -> Form:
    """Return the form that maps products of queries and keys to scores."""
    formula = "q kᵀ" if scale == 1 else f"{scale:.4g} · q kᵀ"
    if softcap is None:
        return f"s = {formula}", lambda products: products * scale
    return (
        f"s = {softcap:g} · tanh({formula} / {softcap:g})",
        lambda products: torch.tanh(products * scale / softcap) * softcap,
    )


def inside_forms(heads: int, width: int, rows: range, keys: int) -> Iterator[Form]:
    """Yield forms from products to scores, with ALiBi (Press et al. 2022) among them.

    For an attention module that does not call the attention function, so that its settings are
    unknown.

    Args:
        heads: number of query heads.
        width: width of a head.
        rows: positions of the queries.
        keys: number of keys.
    """
    places = torch.arange(keys, dtype=torch.float64)
    back = places - torch.arange(rows.start, rows.stop)[:, None]
    slopes = torch.tensor([2 ** (-8 * (head + 1) / heads) for head in range(heads)]).double()
    for scale in (1.0, width**-0.5):
        formula, form = score_form(scale)
        yield formula, form
        # A constant per row does not change the softmax, and models differ in it.
        biases = {"place": places, "(place − last)": places - (keys - 1), "(place − own)": back}
        for name, bias in biases.items():
            yield f"{formula} + slope · {name}", _add_bias(form, slopes[:, None, None] * bias)


def _add_bias(form: Callable[[Tensor], Tensor], bias: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda products: form(products) + bias
