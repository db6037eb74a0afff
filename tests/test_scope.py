"""The front door: what it gives, and what it refuses to run."""

import inspect
import pydoc

import pytest

import llmscope
from llmscope.errors import ScopeError
from tests.user_script import use


@pytest.fixture(scope="module")
def scope():
    return llmscope.load("builtin:sort")


def test_the_six_letters_are_sorted_one_by_one(scope):
    text = "CABACB"
    for _ in range(6):
        scope.record(text)
        text += scope.look("next-token").axes[0].labels[0]
        if len(text) == 11:  # the context; the last letter is the model's answer to it
            scope.record(text)
            text += scope.look("next-token").axes[0].labels[0]
            break
    assert text == "CABACB" + "AABBCC"


def test_nothing_was_recorded_yet():
    fresh = llmscope.Scope(llmscope.load("builtin:sort").loaded_model)
    with pytest.raises(ValueError, match="call record"):
        fresh.look("tokens")


def test_text_and_its_ids_are_the_same_prompt(scope):
    by_text = scope.record("CAB")
    by_ids = scope.record(list(by_text.prompt.ids))
    assert by_ids.prompt.labels == by_text.prompt.labels
    assert by_ids.ran == 0


@pytest.mark.parametrize("prompt", ["", []])
def test_an_empty_prompt_is_refused(scope, prompt):
    with pytest.raises(ScopeError, match="empty"):
        scope.record(prompt)


def test_a_prompt_that_is_too_long_says_what_fits(scope):
    with pytest.raises(ScopeError, match="12 tokens, and the model's context holds 11"):
        scope.record("A" * 12)


def test_the_tokenizer_of_another_model_is_noticed(scope, monkeypatch):
    encode = scope.loaded_model.tokens.encode
    wrong = {0: 50_000}

    def foreign(text, **options):
        from dataclasses import replace

        encoded = encode(text, **options)
        return replace(encoded, ids=tuple(wrong.get(token, token) for token in encoded.ids))

    monkeypatch.setattr(scope.loaded_model.tokens, "encode", foreign)
    with pytest.raises(ScopeError, match="token id 50000 is not in the model's vocabulary") as told:
        scope.record("CAB")
    assert "tokenizer" in told.value.hint


def test_the_latest_good_recording_stays_after_a_refusal(scope):
    recording = scope.record("CAB")
    with pytest.raises(ScopeError):
        scope.record("")
    assert scope.latest is recording
    assert scope.look("tokens").values.shape == (3,)


def test_tokens_and_words_are_read_as_the_command_line_reads_them(scope):
    assert [scope.token(text) for text in ("A", "C", "id:1")] == [0, 2, 1]
    with pytest.raises(ScopeError, match="not one token but 2"):
        scope.token("AB")
    assert scope.words("C, A id:1 C").ids == (2, 0, 1)
    with pytest.raises(ScopeError, match="no words"):
        scope.words(" ")
    scope.record("CABA")
    asked = {"words": (scope.words("A B").ids, scope.words("C").ids), "mode": "lens"}
    other = scope.prompt("CABB").ids
    figure = scope.look("contrast", position=2, versus_prompt=other, **asked)
    assert figure.verdict.status == "verified"
    target, versus = scope.token("B"), scope.token("A")
    figure = scope.look("attribution", target=target, versus=versus)
    assert (figure.extra["target"], figure.extra["versus"]) == ("B", "A")


def test_a_pool_of_what_has_none_is_refused():
    scope = llmscope.load("builtin:sort")
    scope.record("CAB")
    with pytest.raises(ValueError, match="tokens has no option 'pool'"):
        scope.look("tokens", pool=2)
    assert scope.look("attention", pool=2).values.shape == (2, 2)


def test_the_public_names_are_listed_and_documented():
    assert dir(llmscope) == sorted(llmscope.__all__)
    page = pydoc.plain(pydoc.render_doc(llmscope))
    for name in llmscope.__all__:
        assert name.startswith("__") or name in page
        assert name.startswith("__") or inspect.getdoc(getattr(llmscope, name))


def test_a_users_script_runs(tmp_path):
    figure, stream = use(tmp_path)
    assert figure.verdict.status == "verified"
    assert stream.shape == (6, 48)
