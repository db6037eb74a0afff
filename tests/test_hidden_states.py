"""Files of vLLM's hidden states: what is read of good ones, and one line for every other."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmscope.errors import ScopeError
from llmscope.models.hidden_states import StreamSizes, is_hidden_states, read_hidden_states
from tests.cli.running import run
from tests.vllm_files import write

IDS = [5, 0, 9]
LAYERS = (0, 2, 5)
SIZES = StreamSizes(layers=5, width=4, vocabulary=10)


def numbers(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator).to(dtype) for _ in LAYERS]


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "good.safetensors", IDS, numbers())


def changed(path, **tensors):
    """A copy of a file with other tensors; None leaves one out."""
    found = {**load_file(path), **tensors}
    copy = path.with_name("changed.safetensors")
    save_file({name: one for name, one in found.items() if one is not None}, copy)
    return copy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_numbers_are_those_that_were_written(tmp_path, dtype):
    found = numbers(dtype)
    states = read_hidden_states(write(tmp_path / "a.safetensors", IDS, found), LAYERS, sizes=SIZES)
    assert (states.ids, states.layers, len(states), states.width) == ((5, 0, 9), LAYERS, 3, 4)
    assert f"torch.{states.dtype}" == str(dtype)
    for index, one in enumerate(found):
        read = states.streams(index)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, one.float().numpy())
    assert isinstance(states.states, np.memmap)


def test_all_layers_of_a_known_model_need_no_names(tmp_path):
    path = write(tmp_path / "a.safetensors", IDS, numbers())
    known = StreamSizes(layers=2, width=4, vocabulary=10)
    assert read_hidden_states(path, sizes=known).layers == (0, 1, 2)
    for sizes in (None, SIZES):
        with pytest.raises(ScopeError, match="does not name its 3 layers"):
            read_hidden_states(path, sizes=sizes)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((1, 2), "2 are named, and .* holds 3 layers"),
        ((1, 1, 2), "1,1,2: one is there twice"),
        ((3, 2, 1), "3,2,1 are not sorted"),
        ((-1, 0, 1), "one is negative"),
        ((0, 2, 6), "6 is named, and the model has 5 layers"),
    ],
)
def test_layers_that_do_not_fit(good, layers, said):
    with pytest.raises(ScopeError, match=said):
        read_hidden_states(good, layers, sizes=SIZES)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"hidden_states": None}, "has no hidden_states; it has token_ids"),
        ({"token_ids": None}, "has no token_ids; it has hidden_states"),
        ({"token_ids": torch.tensor([1.0, 2, 3])}, r"are F32 \[3\], and not int64 \[token\]"),
        ({"token_ids": torch.tensor([[1, 2, 3]])}, r"are I64 \[1, 3\]"),
        ({"token_ids": torch.tensor([1, 2])}, "has 2 token_ids, and hidden_states of 3 tokens"),
        ({"token_ids": torch.tensor([1, -2, 3])}, "a negative id"),
        ({"token_ids": torch.tensor([1, 10, 3])}, "token 1 of .* has the id 10, outside of"),
        ({"hidden_states": torch.zeros(3, 12)}, r"are F32 \[3, 12\], and not floats"),
        ({"hidden_states": torch.zeros(3, 3, 4, dtype=torch.int32)}, "and not floats"),
        ({"hidden_states": torch.zeros(3, 3, 8)}, "width 8, and the model's have 4"),
        (
            {"hidden_states": torch.zeros(0, 3, 4), "token_ids": torch.zeros(0, dtype=torch.long)},
            "is empty",
        ),
    ],
)
def test_other_tensors(good, tensors, said):
    with pytest.raises(ScopeError, match=said):
        read_hidden_states(changed(good, **tensors), LAYERS, sizes=SIZES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_not_finite(tmp_path, monkeypatch, value, dtype):
    monkeypatch.setattr("llmscope.models.hidden_states._AT_ONCE", 13)  # a token at a time
    found = numbers(dtype)
    found[1][2, 3] = value
    with pytest.raises(ScopeError, match="NaN or infinity: first at token 2, layer 2"):
        read_hidden_states(write(tmp_path / "a.safetensors", IDS, found), LAYERS)


def test_damaged_files(good, tmp_path):
    data = good.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-7])
    (tmp_path / "short.safetensors").write_bytes(data[:30])
    (tmp_path / "text.safetensors").write_text("hello, this is no safetensors file")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name, said in (
        ("cut", "is cut off: 7 bytes are missing at its end"),
        ("short", "no safetensors file: its header does not fit into it"),
        ("text", "no safetensors file: its header does not fit into it"),
        ("empty", "no safetensors file: its header does not fit into it"),
        ("missing", "there is no file"),
        ("\x1b[31mred", "there is no file"),
        ("a" * 5000, "there is no file"),
        ("nul\0", "there is no file"),
    ):
        with pytest.raises(ScopeError, match=said) as caught:
            read_hidden_states(tmp_path / f"{name}.safetensors", LAYERS)
        assert caught.value.hint
        assert "\x1b" not in str(caught.value)
    with pytest.raises(ScopeError, match="there is no file"):
        read_hidden_states(tmp_path, LAYERS)


def test_which_files_they_are(good, tmp_path):
    assert is_hidden_states(good)
    save_file({"0.tokens.values": torch.zeros(2)}, tmp_path / "own.safetensors")
    (tmp_path / "a.json").write_text("{}")
    for other in ("own.safetensors", "a.json", "none", "", "a" * 5000, "nul\0"):
        assert not is_hidden_states(tmp_path / other)


@pytest.mark.parametrize("command", ["replay", "diff"])
def test_a_damaged_file_is_not_told_as_missing(good, tmp_path, command):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(good.read_bytes()[:30])
    words = (damaged,) if command == "replay" else (good, damaged)
    ended = run(command, *words, "--layer-ids", ",".join(map(str, LAYERS)))
    assert ended.exit_code == (1 if command == "replay" else 2)  # as of diff(1)
    said = ended.stderr
    assert "damaged.safetensors is no safetensors file: its header does not fit into it" in said
    (tmp_path / "damaged.json").write_text("{}")  # the sidecar of a snapshot
    assert not is_hidden_states(damaged)


def test_the_first_other_token_is_told(good):
    states = read_hidden_states(good, LAYERS)
    states.check_ids(IDS)
    with pytest.raises(ScopeError, match=r"another prompt: its token 1 has the id 0, and .* 7"):
        states.check_ids([5, 7, 9])
    with pytest.raises(ScopeError, match="it has 3 tokens, and the prompt 4"):
        states.check_ids([*IDS, 1])


def header_of(data):
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_costs_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("files") / "f.safetensors"
    whole = write(path, IDS, numbers()).read_bytes()
    header, rest = header_of(whole)
    kind = data.draw(st.sampled_from(("bytes", "cut", "entry")))
    if kind == "bytes":
        place = data.draw(st.integers(0, len(whole) - 1))
        made = whole[:place] + data.draw(st.binary(max_size=9)) + whole[place + 1 :]
    elif kind == "cut":
        made = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        name = data.draw(st.sampled_from(("hidden_states", "token_ids")))
        key = data.draw(st.sampled_from(("dtype", "shape", "data_offsets")))
        header[name][key] = data.draw(ANYTHING)
        text = json.dumps(header).encode()
        made = struct.pack("<Q", len(text)) + text + rest
    path.write_bytes(made)
    is_hidden_states(path)
    said, states = "", None
    try:
        states = read_hidden_states(path, LAYERS, sizes=SIZES)
    except ScopeError as error:
        said = f"{error.message}{error.hint}"
    assert said.isprintable()
    assert (states is None) == bool(said)
    if states is not None:
        assert states.states.shape == (3, 3, 4)
        assert np.isfinite(states.streams(2)).all()
