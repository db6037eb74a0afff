"""The forms of a prompt: each gives the ids that it stands for, or one line that names it."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from tests.families import small_model
from tests.models.chats import CHATML, chat_tokenizer

TEXT = "How are you?"
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": TEXT}]


@pytest.fixture(scope="module")
def scope():
    model = small_model("llama", vocab_size=300)
    return llmscope.wrap(model, chat_tokenizer(CHATML))


def test_an_encoding_is_its_ids(scope):
    tokenizer = scope.tokenizer
    wanted = scope.record(TEXT).prompt.ids
    assert scope.record(tokenizer(TEXT)).prompt.ids == wanted
    for kind in ("pt", "np"):
        assert scope.record(tokenizer(TEXT, return_tensors=kind)).prompt.ids == wanted
    assert scope.record(tokenizer([TEXT])).prompt.ids == wanted
    ids = torch.tensor([wanted])
    assert scope.record(ids).prompt.ids == scope.record(ids[0]).prompt.ids == wanted
    assert scope.record(np.array([wanted])).prompt.ids == wanted


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_mask_leaves_out_is_dropped(scope, side):
    ids = list(scope.record(TEXT).prompt.ids)
    padding = [0] * 3
    padded = padding + ids if side == "left" else ids + padding
    mask = [0] * 3 + [1] * len(ids) if side == "left" else [1] * len(ids) + [0] * 3
    encoding = {"input_ids": torch.tensor([padded]), "attention_mask": torch.tensor([mask])}
    assert scope.record(encoding).prompt.ids == tuple(ids)


def test_a_chat_is_what_its_template_makes_of_it(scope):
    tokenizer = scope.tokenizer
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    wanted = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert scope.record(CHAT).prompt.ids == wanted
    answered = [*CHAT, {"role": "assistant", "content": "Well."}]
    text = tokenizer.apply_chat_template(answered, tokenize=False)
    assert scope.record(answered).prompt.text == text


def test_a_list_is_a_batch_in_its_order(scope):
    found = scope.record([TEXT, [5, 7, 9], CHAT, torch.tensor([8, 8]), scope.tokenizer("abc")])
    assert [one.prompt.ids for one in found[1:4:2]] == [(5, 7, 9), (8, 8)]
    assert found[2].prompt.ids == scope.record(CHAT).prompt.ids
    assert found[4].prompt.ids == scope.record("abc").prompt.ids
    assert len(scope.record(["abc"])) == 1
    assert len(scope.record([CHAT, CHAT])) == 2


def test_prompt_b_takes_the_same_forms(scope):
    edit = "patch stream 1 from B"
    by_text = scope.record(TEXT, edits=[edit], versus_prompt="Who are you?")
    encoding = scope.tokenizer("Who are you?", return_tensors="pt")
    by_ids = scope.record(TEXT, edits=[edit], versus_prompt=encoding)
    assert torch.equal(by_text.logits, by_ids.logits)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"role": "user", "content": "x"}, "prompt is one message: a chat is a list"),
        ({"ids": [1]}, "prompt has no input_ids"),
        ([{"role": "user"}], "prompt[0] must have role and content"),
        ([{"role": "user", "content": "x", "name": "y"}], "prompt[0] must have role and content"),
        ([{"role": "user", "content": 3}], "prompt[0]['content'] must be a string"),
        (torch.zeros(2, 3, dtype=torch.long), "prompt holds 2 prompts: give a list"),
        ({"input_ids": [[1], [2]]}, "prompt['input_ids'] holds 2 prompts"),
        ({"input_ids": [1, 2], "attention_mask": [1]}, "prompt has 2 input_ids, and a mask of 1"),
        (["A", 3], "prompt[1] must be token ids"),
        (["A", ["B"]], "prompt[1][0] must be an integer"),
    ],
)
def test_what_is_no_prompt_is_refused_by_name(scope, prompt, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        scope.record(prompt)
    assert said in str(caught.value)


def test_a_bad_prompt_of_a_list_is_named_by_its_place(scope):
    with pytest.raises(ScopeError, match=r"prompt\[1\]: the prompt is empty"):
        scope.record(["A", []])
    with pytest.raises(ScopeError, match=r"prompt\[2\]: token id 300 is not in"):
        scope.record([[1], [2], [300]])
    with pytest.raises(ValueError, match="written follows one prompt"):
        scope.record(["A", "B"], written=[3])


def test_without_a_tokenizer_a_text_lists_ids():
    scope = llmscope.wrap(small_model("llama"))
    recording = scope.record("5, 17\n3")
    assert recording.prompt.ids == (5, 17, 3)
    assert recording.prompt.spans == ((0, 1), (3, 5), (6, 7))
    for text in ("five", "5 -3", "1.5", "1e3", "5x"):
        with pytest.raises(ScopeError, match="no tokenizer"):
            scope.record(text)
    with pytest.raises(ScopeError, match="the prompt is empty"):
        scope.record(" ")


def test_a_recording_prints_one_line(scope):
    text = repr(scope.record("Hi\x1b[31m[red] " + "long " * 8, edits=["zero head 1.1"]))
    assert len(text) < 120
    assert text.isprintable()
    assert text.startswith("<Recording of ")
    assert text.endswith("edits: 1>")
