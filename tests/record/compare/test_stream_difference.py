"""Differences of streams, against plain numpy in float64."""

import numpy as np
import pytest
import torch

from llmscope.record.compare.stream_difference import (
    cosine,
    linear_cka,
    paired_streams,
    parting_stream,
    relative_difference,
    rounding_bound,
)


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(7, 12, generator=generator)
    return a, a + 0.1 * torch.randn(7, 12, generator=generator)


def test_relative_difference_and_cosine_are_those_of_numpy(rows):
    a, b = (one.numpy().astype(np.float64) for one in rows)
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    apart = np.linalg.norm(a - b, axis=1) / sizes[0]
    assert relative_difference(*rows).numpy() == pytest.approx(apart, rel=1e-12)
    angle = (a * b).sum(1) / (sizes[0] * sizes[1])
    assert cosine(*rows).numpy() == pytest.approx(angle, rel=1e-12)


def test_what_is_the_same_or_zero(rows):
    a, _ = rows
    zero = torch.zeros_like(a)
    assert relative_difference(a, a).tolist() == [0.0] * 7
    assert relative_difference(zero, zero).tolist() == [0.0] * 7
    assert relative_difference(zero, a).isinf().all()
    assert cosine(a, -a).numpy() == pytest.approx([-1.0] * 7)
    assert cosine(a, zero).isnan().all()


def test_half_precision_is_compared_in_float64(rows):
    a = rows[0]
    half = a.bfloat16()
    apart = np.linalg.norm((a.double() - half.double()).numpy(), axis=1)
    apart /= np.linalg.norm(a.double().numpy(), axis=1)
    assert relative_difference(a, half).numpy() == pytest.approx(apart, rel=1e-12)


@pytest.mark.parametrize("shape", [(7, 12, 5), (40, 12, 5), (9, 3, 20)])
def test_cka_is_that_of_centred_kernels(shape):
    count, wide, other = shape
    generator = np.random.default_rng(1)
    x = generator.normal(size=(count, wide)) + 3
    y = generator.normal(size=(count, other)) + x[:, :1]
    centre = np.eye(count) - np.full((count, count), 1 / count)
    k, o = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = (k * o).sum() / np.sqrt((k * k).sum() * (o * o).sum())
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-10)


def test_cka_ignores_rotations_factors_and_offsets():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    assert linear_cka(x, 3 * x @ turned + 5) == pytest.approx(1, rel=1e-12)
    assert np.isnan(linear_cka(x, torch.ones(50, 4)))


def test_streams_are_paired_by_depth():
    assert paired_streams(4, 4) == ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))
    assert paired_streams(6, 3) == ((0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3))
    assert paired_streams(2, 6) == ((0, 0), (1, 3), (2, 6))
    assert paired_streams(30, 7)[-1] == (30, 7)


def test_the_coarser_dtype_decides_what_rounding_is():
    full, half = torch.float32, torch.bfloat16
    assert rounding_bound(full, full) == 1e-5
    assert rounding_bound(full, half) == rounding_bound(half, full) == 4 * 2**-7
    assert rounding_bound(torch.float16, half) == rounding_bound(half, half)


def test_the_first_stream_beyond_rounding_is_found():
    apart = torch.tensor([[0.0, 0, 0], [1e-6, 2e-6, 0.9], [1e-3, 2e-3, 1e-7], [1, 1, 1]])
    assert parting_stream(apart, 1e-5) == 2  # one row of three, as of an attention sink, does not
    assert parting_stream(apart[:, 2], 1e-5) == 1
    assert parting_stream(apart, 2) is None
    assert parting_stream([0.0, float("nan")], 1) == 1
