"""Decomposes a norm into scale, gain and bias: with its scale frozen, a norm is linear.

    norm(x) = s(x) · gain ∘ (x - c · mean(x)) + bias        c = 1: LayerNorm, c = 0: RMSNorm

Gain, bias and c are not read from parameters, whose names and meanings differ (1 + weight, no
weight at all), but measured on the module, using that s(x) is the same for x and -x. A module that
is not of this form is refused. s(x), which includes eps, is measured at each x where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ROWS = 16
"""Number of rows that a norm is measured on."""
SIZE = 16.0
"""Their root mean square: large enough for eps to be negligible beside its square."""
BOUND = 1e-5
HALF_BOUND = 4.0
"""Bounds relative to a row's largest output: in float32, and in eps of a narrower type."""

NO_SCALE = "it is more than a norm, and has no scale that can be held still"


class UnknownNorm(ValueError):  # noqa: N818 - a finding
    """A module is neither a norm of the form above nor the identity."""


@dataclass(frozen=True, eq=False)
class NormParts:
    """The parts of a norm that are the same at every position. In float64, on the CPU.

    Attributes:
        gain: the factor of each dimension. [width]
        bias: added at the end. [width]
        centred: whether the mean over the width is subtracted first.
    """

    gain: Tensor
    bias: Tensor
    centred: bool

    def scale(self, stream: Tensor, normed: Tensor) -> Tensor:
        """Return s(x) of each row: 1 / std or 1 / rms, as the module applied it.

        Args:
            stream: the norm's input. [row, width]
            normed: the norm's output. [row, width]

        Returns:
            [row]
        """
        before = self.linear(exact(stream))
        after = exact(normed) - self.bias
        return (after * before).sum(-1) / before.square().sum(-1)

    def error(self, stream: Tensor, normed: Tensor) -> float:
        """Return the largest error of the form, relative to a row's largest output."""
        scale = self.scale(stream, normed)[:, None]
        left = exact(normed) - self.bias - scale * self.linear(exact(stream))
        tiny = torch.finfo(torch.float32).tiny
        return float((left.abs().amax(-1) / exact(normed).abs().amax(-1).clamp(min=tiny)).max())

    def before(self, direction: Tensor, scale: Tensor) -> Tensor:
        """Pull a direction after the norm back to one before it. [width]

        `direction · norm(x) = before · x + direction · bias`, with the scale of that x frozen.
        """
        seen = direction * self.gain * scale
        return seen - seen.mean() if self.centred else seen

    def linear(self, stream: Tensor) -> Tensor:
        """Apply the norm without its scale and bias: gain ∘ (x - c · mean(x))."""
        mean = stream.mean(-1, keepdim=True) if self.centred else 0.0
        return self.gain * (stream - mean)


def exact(tensor: Tensor) -> Tensor:
    """Convert to float64 on the CPU, where rounding is negligible; not every device has float64."""
    return tensor.detach().cpu().double()


@torch.no_grad()
def take_apart(norm: nn.Module, like: Tensor) -> NormParts:
    """Measure a norm's gain, bias and centring.

    Args:
        norm: the module.
        like: a tensor with the width, device and dtype of its inputs.

    Raises:
        UnknownNorm: the module is not of the form above.
    """
    generator = torch.Generator().manual_seed(0)
    rows = _balanced_rows(like.shape[-1], generator).to(like)
    try:
        plus, minus = exact(norm(rows)), exact(norm(-rows))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        # A module that needs more arguments, such as a block that layers share.
        raise UnknownNorm(NO_SCALE) from error
    if plus.shape != rows.shape:  # a head that changes the width
        raise UnknownNorm(NO_SCALE)
    rms = exact(rows).square().mean(-1, keepdim=True).sqrt()
    # The mean of the rows is zero, so that the gain is the same with and without centring.
    # norm(±x) = ±gain · x / rms + bias: half the difference holds the gain, half the sum the bias.
    gain = ((plus - minus) / (2 * exact(rows)) * rms).mean(0)
    bias = ((plus + minus) / 2).mean(0)
    test_rows = (torch.randn(ROWS, like.shape[-1], generator=generator) + 0.5).to(like)
    normed = norm(test_rows)
    candidates = [NormParts(gain, bias, centred) for centred in (True, False)]
    best = min(candidates, key=lambda parts: parts.error(test_rows, normed))
    if not best.error(test_rows, normed) <= bound(like.dtype, BOUND):  # also refuses NaN
        raise UnknownNorm(NO_SCALE)
    return best


def bound(dtype: torch.dtype, single: float, roundings: float = HALF_BOUND) -> float:
    """Return the allowed relative error: `single`, or `roundings` times eps of a narrower type."""
    return roundings * torch.finfo(dtype).eps if dtype.itemsize < 4 else single


def _balanced_rows(width: int, generator: torch.Generator) -> Tensor:
    """Return random rows without small values, whose mean is exactly zero in any type.

    Each value occurs with its negative; if the width is odd, one negative occurs twice, with the
    value doubled. [row, width]
    """
    size = 1 + torch.rand(ROWS, width // 2, generator=generator)
    size = (size * 64).round() / 64 * (SIZE / 2)  # exact in bfloat16
    if width % 2:
        return torch.cat([2 * size[:, :1], size[:, 1:], -size, -size[:, :1]], dim=-1)
    return torch.cat([size, -size], dim=-1)
