"""A norm taken apart: at one place it is linear, once its scale there is held still.

    norm(x) = s(x) · gain ∘ (x - c · mean(x)) + bias        c = 1: LayerNorm, c = 0: RMSNorm

Gain, bias and c are not read from parameters, whose names and meanings differ (1 + weight, no
weight at all), but measured on the module, as s(x) is the same for x and -x. A module that is
nothing of this form is refused. s(x) is measured where it is wanted, eps included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ROWS = 16
"""Rows that a norm is measured on."""
SIZE = 16.0
"""Their root mean square: large enough that no eps counts beside its square."""
BOUND = 1e-5
HALF_BOUND = 4.0
"""Of the largest output of a row: in float32, and in roundings of a narrower type."""


class UnknownNorm(ValueError):  # noqa: N818 - it is a finding
    """A module is no norm of the form above, nor the identity."""


@dataclass(frozen=True, eq=False)
class NormParts:
    """What is the same at every position. In float64, on the CPU.

    Attributes:
        gain: what each dimension is multiplied by. [width]
        bias: what is added at the end. [width]
        centred: the mean over the width is taken off first.
    """

    gain: Tensor
    bias: Tensor
    centred: bool

    def scale(self, stream: Tensor, normed: Tensor) -> Tensor:
        """s(x) of each row: 1 / std or 1 / rms, as the module applied it. `[row, width]` -> [row]

        Args:
            stream, normed: what went in, and what came out.
        """
        before = self.linear(exact(stream))
        after = exact(normed) - self.bias
        return (after * before).sum(-1) / before.square().sum(-1)

    def error(self, stream: Tensor, normed: Tensor) -> float:
        """The largest part of an output that the form leaves unexplained, by a row's largest."""
        scale = self.scale(stream, normed)[:, None]
        left = exact(normed) - self.bias - scale * self.linear(exact(stream))
        tiny = torch.finfo(torch.float32).tiny
        return float((left.abs().amax(-1) / exact(normed).abs().amax(-1).clamp(min=tiny)).max())

    def before(self, direction: Tensor, scale: Tensor) -> Tensor:
        """The direction before the norm that reads what `direction` reads after it. [width]

        `direction · norm(x) = before · x + direction · bias`, with the scale of that x held still.
        """
        seen = direction * self.gain * scale
        return seen - seen.mean() if self.centred else seen

    def linear(self, stream: Tensor) -> Tensor:
        """What is left of the norm without its scale and bias: gain ∘ (x - c · mean(x))."""
        mean = stream.mean(-1, keepdim=True) if self.centred else 0.0
        return self.gain * (stream - mean)


def exact(tensor: Tensor) -> Tensor:
    """In float64 on the CPU, where rounding does not count; not every device has that type."""
    return tensor.detach().cpu().double()


@torch.no_grad()
def take_apart(norm: nn.Module, like: Tensor) -> NormParts:
    """Measure a norm.

    Args:
        like: a tensor whose width, device and dtype its inputs have.

    Raises:
        UnknownNorm: it is something else.
    """
    generator = torch.Generator().manual_seed(0)
    rows = _balanced(like.shape[-1], generator).to(like)
    try:
        there, back = exact(norm(rows)), exact(norm(-rows))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        # A module that takes more than rows, such as a block that layers share.
        raise UnknownNorm("its norm is none whose scale can be held still") from error
    size = exact(rows).square().mean(-1, keepdim=True).sqrt()
    # The mean of the rows is zero, so that the same gain comes out whether it is taken off or not.
    gain = ((there - back) / (2 * exact(rows)) * size).mean(0)
    bias = ((there + back) / 2).mean(0)
    shifted = (torch.randn(ROWS, like.shape[-1], generator=generator) + 0.5).to(like)
    normed = norm(shifted)
    found = [NormParts(gain, bias, centred) for centred in (True, False)]
    best = min(found, key=lambda parts: parts.error(shifted, normed))
    if not best.error(shifted, normed) <= bound(like.dtype, BOUND):  # NaN is no norm either
        raise UnknownNorm("its norm is none whose scale can be held still")
    return best


def bound(dtype: torch.dtype, single: float, roundings: float = HALF_BOUND) -> float:
    """How large a relative error may be: `single` in float32, some roundings of a narrower type."""
    return roundings * torch.finfo(dtype).eps if dtype.itemsize < 4 else single


def _balanced(width: int, generator: torch.Generator) -> Tensor:
    """Rows without small values, whose mean is zero to the last bit in any type. [row, width]

    Each value stands beside its negative; in an odd width one of them twice, beside its double.
    """
    size = 1 + torch.rand(ROWS, width // 2, generator=generator)
    size = (size * 64).round() / 64 * (SIZE / 2)  # so few digits that bfloat16 holds them
    if width % 2:
        return torch.cat([2 * size[:, :1], size[:, 1:], -size, -size[:, :1]], dim=-1)
    return torch.cat([size, -size], dim=-1)
