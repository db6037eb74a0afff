"""Norms taken apart, against their formulas written out."""

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llmscope.record.norms import UnknownNorm, take_apart


class Tanh(nn.Module):
    def forward(self, rows):
        return torch.tanh(rows)


class ByHalves(nn.Module):
    """A norm of each half for itself: one scale cannot tell it."""

    def forward(self, rows):
        return nn.functional.rms_norm(rows.unflatten(-1, (2, -1)), (rows.shape[-1] // 2,)).flatten(
            -2
        )


def random(module, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return module


@pytest.mark.parametrize("width", [48, 49])
@pytest.mark.parametrize(
    ("make", "centred", "shift"),
    [
        (lambda width: nn.LayerNorm(width, eps=1e-5), True, 0),
        (lambda width: nn.LayerNorm(width, eps=1e-5, elementwise_affine=False), True, None),
        (lambda width: LlamaRMSNorm(width, eps=1e-5), False, 0),
        (lambda width: GemmaRMSNorm(width, eps=1e-5), False, 1),
    ],
)
def test_gain_bias_and_scale_are_those_of_the_formula(make, centred, shift, width):
    norm = random(make(width))
    rows = torch.randn(5, width, generator=torch.Generator().manual_seed(1)) * 0.02 + 0.01
    parts = take_apart(norm, rows)
    assert parts.centred == centred
    gain = torch.ones(width) if shift is None else norm.weight.detach() + shift
    assert parts.gain == pytest.approx(gain.numpy(), rel=1e-5)
    bias = getattr(norm, "bias", None)
    expected = torch.zeros(width) if bias is None else bias.detach()
    assert parts.bias == pytest.approx(expected.numpy(), abs=1e-5)
    # The rows are small, so that eps counts: it belongs to the scale.
    size = rows.double().var(-1, correction=0) if centred else rows.double().square().mean(-1)
    own = 1 / (size + 1e-5).sqrt()
    with torch.no_grad():
        normed = norm(rows)
    assert parts.scale(rows, normed) == pytest.approx(own.numpy(), rel=1e-5)


@pytest.mark.parametrize("make", [nn.LayerNorm, LlamaRMSNorm, nn.Identity])
def test_a_direction_before_the_norm_reads_what_one_after_it_reads(make):
    norm = random(make(48))
    rows = torch.randn(3, 48, generator=torch.Generator().manual_seed(2)) + 2
    with torch.no_grad():
        normed = norm(rows)
    parts = take_apart(norm, rows)
    direction = torch.randn(48, generator=torch.Generator().manual_seed(5)).double()
    for row, after, scale in zip(rows, normed, parts.scale(rows, normed), strict=True):
        before = parts.before(direction, scale)
        found = float(before @ row.double() + direction @ parts.bias)
        assert found == pytest.approx(float(direction @ after.double()), rel=1e-5)


def test_it_works_in_half_precision():
    norm = random(LlamaRMSNorm(48)).to(torch.bfloat16)
    parts = take_apart(norm, torch.zeros(1, 48, dtype=torch.bfloat16))
    assert not parts.centred
    assert parts.gain == pytest.approx(norm.weight.detach().double().numpy(), rel=4e-3)


@pytest.mark.parametrize("module", [Tanh(), ByHalves(), nn.Linear(48, 48)])
def test_what_is_no_norm_is_refused(module):
    with pytest.raises(UnknownNorm):
        take_apart(module, torch.zeros(1, 48))
