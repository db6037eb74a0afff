"""The Python interface and the options of the commands refuse wrong arguments in one line."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import llmscope
from llmscope.lenses import lens, names, options
from llmscope.support.arguments import LONGEST, MOST_THREADS, differences, quote_value
from tests.families import small_model
from tests.lenses.asked import options_for

BUILTIN = "builtin:sort"
REFUSALS = llmscope.Error
LONGEST_LINE = 400
EXAMPLES = int(os.environ.get("LLMSCOPE_EXAMPLES", "50"))
"""Of each property; more are a matter of patience."""


def refusal(call, *words):
    """The one line with which a call is refused; it holds the words."""
    with pytest.raises(REFUSALS) as caught:
        call()
    line = getattr(caught.value, "message", str(caught.value))
    assert "\n" not in line
    assert 0 < len(line) <= LONGEST_LINE, line
    for word in words:
        assert word in line
    return line


@pytest.fixture(scope="module")
def scope():
    return llmscope.load(BUILTIN, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    small_model("llama").save_pretrained(where)
    return where


def test_more_threads_than_the_machine_survives_are_refused_before_torch_gets_them():
    before = torch.get_num_threads()
    for number in (100_000, 10**18, MOST_THREADS + 1, 0, -1):
        refusal(lambda number=number: llmscope.load(BUILTIN, threads=number), "threads")
    assert torch.get_num_threads() == before


def test_a_path_a_torch_device_and_a_torch_dtype_are_names(folder):
    one = llmscope.load(Path(folder), device=torch.device("cpu"), dtype=torch.bfloat16)
    other = llmscope.load(str(folder), device="cpu", dtype="bfloat16")
    assert one.loaded_model.dtype == other.loaded_model.dtype == torch.bfloat16
    assert one.loaded_model.device == torch.device("cpu")
    assert one.base.spec == str(folder)
    usual = llmscope.load(folder, device=None, dtype=None)
    assert usual.loaded_model.device == llmscope.load(folder).loaded_model.device
    assert llmscope.load(BUILTIN, threads=np.int64(1)).loaded_model is not None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"spec": torch.nn.Linear(1, 1)}, "save_pretrained"),
        ({"spec": 3}, "spec"),
        ({"spec": b"gpt2"}, "spec"),
        ({"spec": "\ud800"}, "spec"),
        ({"spec": "a\0b"}, "spec"),
        ({"device": 0}, "device"),
        ({"device": "\0"}, "device"),
        ({"dtype": float}, "dtype"),
        ({"dtype": torch.int8}, "dtype"),
        ({"threads": "4"}, "threads"),
        ({"threads": True}, "threads"),
        ({"threads": 1.0}, "threads"),
        ({"threads": 10**5000}, "threads"),
        ({"adapters": "an-adapter"}, "adapters"),
        ({"adapters": [None]}, "adapters[0]"),
        ({"reward": 1}, "reward"),
        ({"unverified": "no"}, "unverified"),
        ({"trust_remote_code": None}, "trust_remote_code"),
        ({"allow_pickle": 1}, "allow_pickle"),
        ({"progress": "yes"}, "progress"),
    ],
    ids=quote_value,
)
def test_load_names_the_argument_that_is_wrong(given, word):
    with pytest.raises(REFUSALS) as caught:
        llmscope.load(**{"spec": BUILTIN, **given})
    error = caught.value
    assert word in getattr(error, "message", str(error)) + getattr(error, "hint", "")
    assert "\n" not in str(error)


def test_ids_are_integers_of_any_library(scope):
    wanted = scope.record([0, 1, 2]).prompt.ids
    for ids in (
        (0, 1, 2),
        range(3),
        np.arange(3),
        torch.arange(3),
        [np.int32(0), torch.tensor(1), 2],
        bytearray,
    ):
        if ids is bytearray:
            refusal(lambda: scope.record(bytearray(3)), "prompt")
        else:
            assert scope.record(ids).prompt.ids == wanted
            assert {type(one) for one in scope.latest.prompt.ids} == {int}


NO_IDS = [
    [True, False],
    [0.0, 1.0],
    ["0"],
    [None],
    [[0, 1]],
    np.array([0.0, 1.0]),
    np.array([True]),
    torch.tensor([[0, 1]]),
    torch.tensor([True]),
    torch.tensor(1),
    {0, 1},
    {0: 1},
    iter([0]),
    range(10**30),
    range(10**9),
    [10**5000],
    [-1],
    [2**40],
    b"A",
    None,
    3,
    object(),
]


def is_2d(ids):
    return getattr(ids, "ndim", 1) == 2


@pytest.mark.parametrize("ids", NO_IDS, ids=lambda ids: type(ids).__name__)
@pytest.mark.parametrize("name", ["prompt", "versus_prompt", "written"])
def test_what_is_no_row_of_ids_is_refused_by_name(scope, name, ids):
    if ids is None and name == "versus_prompt":
        pytest.skip("None means that there is no prompt B")
    if name != "written" and ((type(ids) is list and ids == [[0, 1]]) or is_2d(ids)):
        pytest.skip("a batch of one prompt")
    given = {"prompt": "A", name: ids}
    line = refusal(lambda: scope.record(**given))
    assert name in line or "token id" in line


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_character_is_refused_wherever_a_text_is_wanted(scope, text):
    for name, call in {
        "prompt": lambda: scope.record(text),
        "versus_prompt": lambda: scope.record("A", versus_prompt=text),
        "text": lambda: scope.encode(text),
        "context": lambda: scope.teach(text, "A"),
        "query": lambda: scope.teach("A", text),
        "edits[1]": lambda: scope.record("A", edits=["zero mlp 0", text]),
        "adapter": lambda: scope.use(text),
    }.items():
        refusal(call, name)
    refusal(lambda: scope.token(text), "text")
    refusal(lambda: scope.words(text), "text")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"edits": "zero mlp 0"}, "edits"),
        ({"edits": [3]}, "edits[0]"),
        ({"edits": None}, "edits"),
        ({"aside": [3]}, "aside[0]"),
        ({"cancelled": 3}, "cancelled"),
        ({"fresh": "no"}, "fresh"),
        ({"special_tokens": None}, "special_tokens"),
    ],
    ids=quote_value,
)
def test_record_names_the_argument_that_is_wrong(scope, given, word):
    refusal(lambda: scope.record("A", **given), word)


HUGE = 10**5000
WRONG = [
    *(("attention", {name: value}) for name in ("layer", "head") for value in (99, -99, HUGE)),
    *(("next-token", {"position": value}) for value in (99, -99, True, 0.0, None, "0")),
    *(("next-token", {"target": value}) for value in (-1, 99, HUGE, "AB", 1.5, True)),
    *(("next-token", {"temperature": value}) for value in (0, -1, float("nan"), float("inf"))),
    *(("next-token", {"temperature": value}) for value in ("1", None, True, HUGE)),
    *(("next-token", {"top_k": value}) for value in (0, -1, 2.0, None)),
    *(("next-token", {"sample_top_k": value}) for value in (-1, 0.5)),
    *(("next-token", {name: value}) for name in ("top_p", "min_p") for value in (-1, 2)),
    *(("next-token", {name: float("nan")}) for name in ("top_p", "min_p")),
    *(("attention", {"pool": value}) for value in (0, -3, 1.5, None, True)),
    *(("attention", {"span": value}) for value in ((5, 3), (0,), 3, "03", (0, None), (2, 2))),
    *(("attention", {"mode": value}) for value in ("loud", 3, None, "\ud800")),
    *(("logit-lens", {"translator": value}) for value in (3, b"x")),
    *(("logit-lens", {"second_translator": value}) for value in (3, b"x")),
    *(("features", {"features": value}) for value in (3, b"x", [3])),
    *(("features", {"query": value}) for value in (3, None)),
    *(("neurons", {"neuron": value}) for value in (-(10**9), 10**9, "3")),
    *(("context", {"context": value}) for value in (-1, 2.5)),
    *(("patching", {"versus_prompt": value}) for value in (b"AB", [99], [True])),
    *(("contrast", {"words": value}) for value in (3, ((0,),), ((0,), (99,)), ("A", "ZZ"))),
    *(("walkthrough", {"step": value}) for value in (-1, "0", HUGE)),
    *(("walkthrough", {"cell": value}) for value in ((-1, 0), (0,), 3)),
    ("next-token", {"change": "yes"}),
    ("next-token", {"nothing": 1}),
]


@pytest.mark.parametrize(("name", "focus"), WRONG, ids=quote_value)
def test_look_names_the_field_that_is_wrong(scope, name, focus):
    scope.record("ABC")
    refusal(lambda: scope.look(name, **focus), next(iter(focus)))


def test_look_takes_numbers_of_numpy_and_torch(scope):
    scope.record("ABC")
    plain = scope.look("attention", layer=1, head=1, span=(0, 2))
    other = scope.look("attention", layer=np.int64(1), head=torch.tensor(1), span=np.array([0, 2]))
    assert plain.to_dict() == other.to_dict()
    last = scope.look("attention", span=(-1, 0))
    assert np.array_equal(last.values, scope.look("attention").values[-1:], equal_nan=True)


def test_a_lens_and_a_recording_are_what_they_should_be(scope):
    scope.record("A")
    refusal(lambda: scope.look(None), "name")
    refusal(lambda: scope.look("x" * 10**6), "lens")
    refusal(lambda: scope.look("tokens", recording="A"), "recording")


def test_a_quoted_value_is_one_short_line():
    class Odd:
        def __repr__(self):
            raise RuntimeError("no repr")

    for value in ("\x1b[31m\n" * 10**6, 10**5000, [[0] * 10**6] * 10, Odd(), torch.zeros(10**6)):
        shown = quote_value(value)
        assert 0 < len(shown) <= LONGEST
        assert "\n" not in shown
        assert "\x1b" not in shown


whole = st.one_of(
    st.integers(-12, 12), st.sampled_from([2**31, -(2**31), 2**63, -(2**63), 10**1000])
)
values = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), whole, st.floats(), st.text(max_size=6), st.binary(max_size=3)),
        st.sampled_from(["\ud800", "\0", "zero mlp 0", "x" * 10_000, "-1", "id:1", " A", "../.."]),
        st.sampled_from([np.int64(2), np.float32("nan"), np.array([1, 2]), np.array([[1]])]),
        st.sampled_from([torch.tensor(1), torch.tensor([1, 2]), torch.tensor([True]), object()]),
        st.sampled_from([float("nan"), Path("x"), torch.float32, torch.device("cpu"), len, int]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=5,
)


def survives(call):
    """A call works, or is refused in one line of bounded length."""
    try:
        return call()
    except REFUSALS as error:
        line = getattr(error, "message", str(error)) + getattr(error, "hint", "")
        assert "\n" not in line, line
        assert 0 < len(line) <= 2 * LONGEST_LINE, line
        return None


small = st.integers(-4, 9)
few = st.lists(st.integers(0, 5), max_size=3)
lenses = st.sampled_from(["", "/", "nowhere", Path("nowhere"), "jacobian", "org/name:x.pt"])
NEAR = {
    "metric": st.sampled_from([None, float, torch.max, lambda logits: logits[0] - logits[1]]),
    **dict.fromkeys(("layer", "head", "position", "target", "versus", "neuron", "context"), small),
    **dict.fromkeys(("expert", "step", "weight", "top_k", "sample_top_k", "pool"), small),
    **dict.fromkeys(("temperature", "top_p", "min_p"), st.floats(0, 2)),
    **dict.fromkeys(("span", "cell"), st.tuples(small, small)),
    **dict.fromkeys(("layers", "heads"), few | st.sampled_from(["0-1", "0,-1", "1-0", "", "a"])),
    **dict.fromkeys(("answer", "versus_prompt"), few),
    "words": st.tuples(few, few),
    **dict.fromkeys(("translator", "second_translator"), lenses),
    "direction": lenses,
    "features": st.lists(lenses, max_size=2) | lenses,
    "place": st.sampled_from(["", "resid_post", "z", "nowhere"]),
    **dict.fromkeys(("query", "suffix", "separator"), st.text(max_size=6)),
    **dict.fromkeys(("tokens", "sentences", "samples", "seed"), small),
    "fork_quantile": st.floats(-0.5, 1.5),
    "feature": small,
    "receiver": st.sampled_from(["logits", "head 0.0.k", "mlp 0", "attention 9", "head", ""]),
    "examples": st.none() | lenses,
    "change": st.booleans(),
}
LENSES = [(name, mode) for name in names() for mode in lens(name).modes or ("",)]


def test_there_is_something_near_for_each_option_of_a_lens():
    fields = {field.name for field in dataclasses.fields(llmscope.Focus)} - {"options"}
    assert {*NEAR, "mode"} == set(options()) >= fields


focuses = st.fixed_dictionaries({}, optional=NEAR) | st.dictionaries(
    st.sampled_from(sorted(NEAR)), values, max_size=2
)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(LENSES), focuses)
def test_whatever_a_focus_holds_look_shows_or_refuses(scope, asked, focus):
    name, mode = asked
    recording = scope.record([0, 1, 2, 1])
    for options_of in (
        focus,
        options_for(name, mode=mode, **focus),
    ):  # those that it lacks are refused
        given = {"mode": mode, **options_of}
        figure = survives(lambda given=given: scope.look(name, recording=recording, **given))
        assert figure is None or isinstance(figure, llmscope.Figure)


RECORD = ("prompt", "fresh", "special_tokens", "edits", "versus_prompt", "written", "aside")


@settings(max_examples=EXAMPLES)
@given(st.dictionaries(st.sampled_from(RECORD), values, min_size=1, max_size=3))
def test_whatever_record_is_given_it_runs_or_refuses(scope, given):
    survives(lambda: scope.record(**{"prompt": "AB", **given}))


CALLS = {
    "prompt": ("prompt", "special_tokens", "written"),
    "token": ("text",),
    "words": ("text",),
    "encode": ("text", "special_tokens"),
    "teach": ("context", "query", "special_tokens"),
    "use": ("adapter",),
    "look": ("name", "recording"),
}


@settings(max_examples=EXAMPLES // 2)
@given(st.sampled_from(sorted(CALLS)), st.lists(values, min_size=3, max_size=3))
def test_whatever_the_other_methods_are_given(scope, method, given):
    arguments = dict(zip(CALLS[method], given, strict=False))
    survives(lambda: getattr(scope, method)(**arguments))


LOAD = ("device", "dtype", "threads", "adapters", "reward", "unverified", "trust_remote_code")


@settings(max_examples=EXAMPLES // 3)
@given(st.sampled_from([*LOAD, "allow_pickle", "progress", "spec"]), values)
def test_whatever_load_is_given(name, value):
    assume(not (name in ("threads", "spec") and value is None))
    assume(not (name == "adapters" and isinstance(value, list | tuple) and value))
    survives(lambda: llmscope.load(**{"spec": "./nowhere", "device": "cpu", name: value}))


def test_differing_options_are_named_with_both_values():
    stored = {"length": 64, "focus": {"layer": 1, "head": 0}, "gone": "x", "same": [1]}
    ours = {"length": 128, "focus": {"layer": 2, "head": 0}, "new": "y", "same": (1,)}
    assert differences(stored, ours) == (
        " (length: 64 there, 128 here; focus.layer: 1 there, 2 here; new: nothing there, 'y' here; "
        "1 more)"
    )
    assert differences(ours | {"same": [1]}, ours) == ""
    assert differences(None, {"a": 1}) == " (a: nothing there, 1 here)"
    assert "\n" not in differences({"a": "x\x1b[31m\n" * 99}, {"a": 1})
