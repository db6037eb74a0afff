"""What `look` takes: text where ids are wanted, several layers, and words that are nearly right."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.figure import Axis, Figure, Verdict
from llmscope.lenses.stacked import stack_figures
from tests.families import small_model
from tests.models.chats import CHATML, chat_tokenizer

PROMPT, OTHER = "CABACB", "CABABB"


@pytest.fixture(scope="module")
def scope():
    scope = llmscope.load("builtin:sort")
    scope.record(PROMPT)
    return scope


def test_a_prompt_b_is_text_or_ids_or_an_encoding(scope):
    wanted = scope.look("contrast", versus_prompt=scope.prompt(OTHER).ids)
    ids = torch.tensor([scope.prompt(OTHER).ids])
    for given in (OTHER, ids, {"input_ids": ids}):
        assert np.array_equal(
            scope.look("contrast", versus_prompt=given).values, wanted.values, equal_nan=True
        )


def test_special_tokens_are_added_to_b_as_to_the_recording():
    scope = llmscope.wrap(small_model("llama", vocab_size=300), chat_tokenizer(CHATML))
    for special in (True, False):
        recording = scope.record("How are you?", special_tokens=special)
        ids = scope.prompt("Who are you?", special_tokens=special).ids
        found = scope.look("contrast", recording=recording, versus_prompt="Who are you?")
        wanted = scope.look("contrast", recording=recording, versus_prompt=ids)
        assert np.array_equal(found.values, wanted.values, equal_nan=True)


def test_a_token_and_words_are_text_or_ids(scope):
    by_text = scope.look("attribution", target="A", versus="B")
    by_ids = scope.look("attribution", target=scope.token("A"), versus=scope.token("B"))
    assert by_text.title == by_ids.title
    assert np.array_equal(by_text.values, by_ids.values, equal_nan=True)
    asked = {"mode": "lens", "versus_prompt": OTHER}
    by_text = scope.look("contrast", words=("A B", "C"), **asked)
    ids = scope.words("A B").ids, scope.words("C").ids
    by_ids = scope.look("contrast", words=ids, **asked)
    assert np.array_equal(by_text.values, by_ids.values, equal_nan=True)
    with pytest.raises(ScopeError, match="is not one token but 4"):
        scope.look("attribution", target="ABBA")


def test_all_layers_are_the_layers_one_by_one(scope):
    for lens, options in (("attention", {"head": 2}), ("neurons", {"neuron": 3})):
        try:
            whole = scope.look(lens, layer="all", **options)
        except ValueError as error:
            assert "other axes in each layer" in str(error)  # noqa: PT017
            continue
        assert whole.axes[0] == Axis("layer", ("0", "1", "2"))
        for layer in range(3):
            one = scope.look(lens, layer=layer, **options)
            assert np.array_equal(whole.values[layer], one.values, equal_nan=True)
            assert whole.axes[1:] == one.axes
        assert whole.verdict.status == "verified"
    some = scope.look("attention", layer=slice(1, None))
    assert some.axes[0].labels == ("1", "2")
    assert np.array_equal(
        scope.look("attention", layer=range(0, 3, 2)).values,
        scope.look("attention", layer="all").values[::2],
        equal_nan=True,
    )
    assert some.title == "attention · layers 1 to 2"


def test_a_layer_that_is_refused_is_missing_and_said():
    values = np.ones((2, 2), dtype=np.float32)
    axes = (Axis("query", ("a", "b")), Axis("key", ("a", "b")))
    good = Figure("attention", "t", "heatmap", axes, values, "probability")
    bad = Figure.refused("attention", "t", "no attention", 0.5)
    found = stack_figures([good, bad, good], range(3))
    assert np.isnan(found.values[1]).all()
    assert np.isfinite(found.values[[0, 2]]).all()
    assert found.verdict == Verdict("partial", "layer 1: no attention", 0.5)
    assert stack_figures([bad, bad], range(2)).verdict.status == "refused"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (("atention", {}), "no lens 'atention' (did you mean attention?)"),
        (("attention", {"laier": 1}), "no lens has an option 'laier' (did you mean layer?)"),
        (("attention", {"mode": "rolout"}), "(did you mean rollout?)"),
        (("attention", {"layer": "al"}), 'layer must be a number, a slice or "all"'),
        (("attention", {"layer": slice(7, 9)}), "holds no layer: there are 3"),
        (("mlp", {"layer": "all"}), "mlp has other axes in each layer: look at one at a time"),
    ],
)
def test_a_wrong_word_is_answered_with_a_right_one(scope, ask, said):
    name, options = ask
    with pytest.raises((TypeError, ValueError)) as caught:
        scope.look(name, **options)
    assert said in str(caught.value)


def test_a_range_of_layers_keeps_its_order(scope):
    whole = scope.look("attention", layer="all")
    for asked in (range(2, -1, -1), range(-2, 0)):
        found = scope.look("attention", layer=asked)
        assert np.array_equal(found.values, whole.values[list(asked)], equal_nan=True)
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        scope.look("attention", layer=range(5))
