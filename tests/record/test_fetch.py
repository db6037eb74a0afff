"""Tensors that several computations wait for, brought to the CPU together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.record import fetch
from llmscope.record.fetch import (
    Fetch,
    advance,
    beside,
    fetched,
    mapped,
    on_cpu,
    to_cpu,
    together,
    without_fetches,
)

DTYPES = (
    *(torch.float32, torch.bfloat16, torch.float16, torch.float64),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
)
FORMS = ("whole", "transposed", "every other", "reversed rows", "expanded")


def made(dtype, shape, form, seed):
    """A tensor of a dtype and shape with random numbers, which lies in memory as told."""
    numbers = torch.randint(-99, 100, shape, generator=torch.Generator().manual_seed(seed))
    if dtype.is_floating_point:
        numbers = numbers / 7
        if numbers.numel():
            numbers.view(-1)[seed % numbers.numel()] = (math.nan, math.inf, -0.0)[seed % 3]
    tensor = numbers.to(dtype)
    if not tensor.dim() or not tensor.numel():
        return tensor
    match form:
        case "transposed":
            return tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor
        case "every other":
            return torch.stack([tensor, tensor], -1)[..., 0]
        case "reversed rows":
            return tensor[torch.arange(len(tensor)).flip(0)][1:]
        case "expanded":
            return tensor[:1].expand(3, *tensor.shape[1:])
    return tensor


tensors = st.builds(
    made,
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.sampled_from(FORMS),
    st.integers(0, 999),
)


@settings(deadline=None)
@given(st.lists(tensors, min_size=1, max_size=9))
def test_a_row_of_bytes_holds_tensors_of_all_dtypes_and_shapes(given):
    found = fetch._fetch_packed(given)
    assert len(found) == len(given)
    for own, one in zip(given, found, strict=True):
        assert (one.dtype, one.shape) == (own.dtype, own.shape)
        assert one.is_contiguous()
        torch.testing.assert_close(one, own, rtol=0, atol=0, equal_nan=True)
        if own.dtype.is_floating_point:
            assert torch.equal(one.signbit(), own.signbit())


def test_a_small_tensor_keeps_no_large_one_in_memory():
    small, large = fetch._fetch_packed([torch.ones(2), torch.ones(1000)])
    assert small.untyped_storage().nbytes() == 8
    assert large.untyped_storage().nbytes() == 4000


def test_gradients_stay_behind():
    (found,) = fetch._fetch_packed([torch.ones(2, requires_grad=True)])
    assert not found.requires_grad


def test_what_is_on_the_cpu_is_not_copied():
    given = [torch.ones(2), torch.zeros(3)]
    assert all(one is own for one, own in zip(to_cpu(given), given, strict=True))
    assert fetched(on_cpu(*given)) == tuple(given)
    assert list(on_cpu(*given)) == []
    assert list(on_cpu()) == []


def waits(*rounds):
    """A computation that waits for a number in each round, and returns their sum."""
    total = 0.0
    for one in rounds:
        (found,) = yield Fetch((torch.tensor(float(one)),))
        total += float(found)
    return total


def steps(run):
    """What a computation waits for, round by round, and its value."""
    asked, answer = [], None
    try:
        while True:
            item = run.send(answer)
            asked.append([float(one) for one in item.tensors])
            answer = to_cpu(item.tensors)
    except StopIteration as end:
        return asked, end.value


def test_computations_wait_together_round_by_round():
    asked, values = steps(together([waits(1, 2, 3), waits(), waits(10, 20)]))
    assert asked == [[1, 10], [2, 20], [3]]
    assert values == [6.0, 0.0, 30.0]
    assert fetched(together([])) == []


def test_one_that_waits_for_nothing_has_ended_before_the_next_begins():
    ended = []

    def first():
        yield from on_cpu(torch.ones(1))
        ended.append("first")

    def second():
        assert ended == ["first"]
        yield from on_cpu()
        return "second"

    assert fetched(together([first(), second()])) == [None, "second"]


def items(*numbers, error=None):
    """A generator that waits before its first item and before its last."""
    for at, one in enumerate(numbers):
        if at in (0, len(numbers) - 1):
            (found,) = yield Fetch((torch.tensor(float(one)),))
            assert float(found) == one
        yield one
    if error is not None:
        raise error


def test_items_come_without_what_they_wait_for():
    assert list(without_fetches(items(1, 2, 3))) == [1, 2, 3]
    assert list(without_fetches(iter([1, 2]))) == [1, 2]
    assert list(without_fetches(mapped(items(1, 2, 3), lambda one: -one))) == [-1, -2, -3]
    kinds = []
    run = mapped(items(1, 2, 3), str)
    item = advance(run)
    while item is not None:
        kinds.append(type(item))
        item = advance(run, to_cpu(item.tensors) if isinstance(item, Fetch) else None)
    assert kinds == [Fetch, str, str, Fetch, str]


def test_what_is_checked_is_begun_while_its_check_waits():
    asked, (verdict, rest) = steps(beside(waits(1), lambda: items(7, 8)))
    assert asked == [[1, 7]]
    assert verdict == 1.0
    assert list(without_fetches(rest)) == [7, 8]


def test_what_is_checked_is_not_begun_where_its_check_waits_for_nothing():
    assert fetched(beside(waits(), lambda: pytest.fail("it was begun"))) == (0.0, None)


@pytest.mark.parametrize("begins", [True, False])
def test_its_error_counts_once_the_check_has_its_value(begins):
    def begin():
        if begins:
            raise ValueError("no such layer")
        return items(error=ValueError("no such layer"))

    verdict, rest = fetched(beside(waits(1), begin))
    assert verdict == 1.0
    with pytest.raises(ValueError, match="no such layer"):
        next(rest)
