"""A shard holds what differs from the first step, and gives every figure back as it was."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from llmscope.figure import Axis, Figure, Verdict
from llmscope.runs.shard import RunShard, pack, shard_bytes, unpack
from tests.runs.making import figures


def same(one, other):
    assert one.to_dict(values=False) == other.to_dict(values=False)
    np.testing.assert_array_equal(one.values, other.values)


def packed(step):
    return {key: pack(figure) for key, figure in figures(step).items()}


def test_a_step_comes_back_as_it_was():
    base = packed(0)
    shard = RunShard(shard_bytes(packed(7), base), base)
    for key, figure in figures(7).items():
        same(unpack(shard.packed(key)), unpack(pack(figure)))
        np.testing.assert_array_equal(unpack(shard.packed(key)).values, figure.values)


def test_what_is_the_same_in_each_step_is_stored_once():
    base = packed(0)
    data = shard_bytes(packed(7), base)
    names = set(load(data))
    assert "0/tokens|values" in names
    assert "0/tokens|ids" not in names
    assert len(data) < len(shard_bytes(packed(7), {}))
    again = shard_bytes(packed(0), base)
    assert load(again) == {}


def test_the_first_step_needs_no_other():
    base = packed(0)
    shard = RunShard(shard_bytes(base, {}))
    for key, figure in figures(0).items():
        same(unpack(shard.packed(key)), unpack(pack(figure)))


def test_one_array_alone_is_read():
    base = packed(0)
    shard = RunShard(shard_bytes(packed(7), base), base)
    np.testing.assert_array_equal(shard.array("0/tokens", "ids"), np.arange(4))
    want = figures(7)["1/logit-lens:target"].values
    np.testing.assert_array_equal(shard.array("1/logit-lens:target"), want)
    assert shard.array("nothing") is None
    assert shard.entry("0/next-token", "extra.target_rank") == 3
    assert shard.entry("0/next-token", "extra.nothing") is None
    probability = figures(7)["0/next-token"].extra["target_probability"]
    assert shard.entry("0/next-token", "extra.target_probability") == probability


def test_a_figure_that_is_refused_at_one_step():
    base = packed(0)
    refused = Figure.refused("tokens", "Tokens", "the logits hold NaN")
    shard = RunShard(shard_bytes({"0/tokens": pack(refused)}, base), base)
    found = unpack(shard.packed("0/tokens"))
    assert found.verdict.status == "refused"
    assert found.verdict.reason == "the logits hold NaN"
    assert found.axes == ()
    assert not found.extra


numbers = st.floats(width=32) | st.sampled_from([0.0, -0.0, float("inf"), float("nan")])
texts = st.text(max_size=8)
plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts
extras = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=5),
    plain | st.lists(texts, max_size=3) | st.dictionaries(texts, texts, max_size=2),
    max_size=4,
)


@st.composite
def any_figure(draw):
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    axes = tuple(
        Axis(f"axis{at}", tuple(draw(st.lists(texts, min_size=count, max_size=count))))
        for at, count in enumerate(shape)
    )
    size = int(np.prod(shape))
    values = draw(st.lists(numbers, min_size=size, max_size=size))
    status = draw(st.sampled_from(["verified", "partial", "unverified"]))
    return Figure(
        "any",
        draw(texts),
        "heatmap",
        axes,
        np.array(values, np.float32).reshape(shape),
        draw(texts),
        Verdict(status, draw(texts)),
        draw(extras),
    )


@given(any_figure(), any_figure())
def test_any_two_figures(first, second):
    base = {"k": pack(first)}
    shard = RunShard(shard_bytes({"k": pack(second)}, base), base)
    found = unpack(shard.packed("k"))
    whole = RunShard(shard_bytes({"k": pack(second)}, {}))
    same(found, unpack(whole.packed("k")))
    assert found.values.tobytes() == second.values.tobytes()
    assert found.title == second.title
    assert found.axes == second.axes


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rebuilt(header, rest):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("__metadata__"),
        lambda header: header["__metadata__"].update(figures="{"),
        lambda header: header["__metadata__"].update(figures="[]"),
        lambda header: header["0/tokens|values"].update(data_offsets=[0, 1 << 40]),
        lambda header: header["0/tokens|values"].update(data_offsets=[8, 4]),
        lambda header: header["0/tokens|values"].update(dtype="BF99"),
        lambda header: header["0/tokens|values"].update(shape=[1 << 40]),
        lambda header: header["0/tokens|values"].pop("shape"),
    ],
)
def test_a_damaged_header_is_an_error_and_no_number(change, tmp_path):
    header, rest = header_of(shard_bytes(packed(7), packed(0)))
    change(header)
    path = tmp_path / "x.safetensors"
    path.write_bytes(rebuilt(header, rest))
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(RunShard.read(path, packed(0)).packed("0/tokens"))


def read_any(data):
    shard = RunShard(data)
    return shard.keys, shard.packed("k")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error(data):
    with pytest.raises((ValueError, KeyError, TypeError, RecursionError)):
        read_any(data)
