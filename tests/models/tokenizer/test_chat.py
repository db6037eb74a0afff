"""Chat templates: the text and ids are transformers' own, and who speaks where is found in it."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.errors import ScopeError
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.roles import ChatMarks
from llmscope.models.tokenizer.tokens import Tokens
from tests.models import chats
from tests.models.chats import STYLES, chat_tokenizer

TALK = [("user", "Hi [x] there"), ("assistant", "Yo"), ("user", "Bye\n\nnow")]
SYSTEM = ("system", "Be brief.")
TAKES_SYSTEM = sorted(set(STYLES) - {"gemma"})


def chat(style):
    return Chat(chat_tokenizer(STYLES.get(style, style)))


def said(found, text):
    return [(role, text[start:end]) for start, end, role in found.roles(text)]


def listed(messages):
    return [{"role": role, "content": content} for role, content in messages]


@pytest.mark.parametrize(
    "content", ["What is 2 + 2?", "  spaces \n", "<|im_end|>", "[INST]", "é→𝄞"]
)
@pytest.mark.parametrize("style", STYLES)
def test_the_ids_are_those_of_apply_chat_template(style, content):
    tokenizer = chat_tokenizer(STYLES[style])
    text = Chat(tokenizer).prompt(content)
    own = tokenizer.apply_chat_template(
        listed([("user", content)]), add_generation_prompt=True, return_dict=False
    )
    assert list(Tokens(tokenizer).encode(text, special_tokens=False).ids) == own
    # Adding special tokens would double the BOS of a template that writes it: the test can tell.
    assert list(Tokens(tokenizer).encode(text).ids) == [0, *own]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("style", STYLES)
def test_the_text_is_transformers_own(style, asked):
    tokenizer = chat_tokenizer(STYLES[style])
    own = tokenizer.apply_chat_template(listed(TALK), tokenize=False, add_generation_prompt=asked)
    assert Chat(tokenizer).apply(TALK, asked) == own


@pytest.mark.parametrize("style", STYLES)
def test_who_speaks_is_found_in_a_conversation(style):
    found = chat(style)
    text = found.apply(TALK)
    default = [("system", "You are a helpful assistant.")] if style == "default-system" else []
    assert said(found, text) == [*default, *TALK, ("assistant", "")]


@pytest.mark.parametrize("style", TAKES_SYSTEM)
def test_a_system_message_is_found_where_the_template_sets_it_apart(style):
    found = chat(style)
    text = found.prompt("Hi", system="Be brief.")
    if style == "folded":
        assert said(found, text) == [("user", "Be brief.\n\nHi"), ("assistant", "")]
    else:
        assert said(found, text) == [SYSTEM, ("user", "Hi"), ("assistant", "")]


@pytest.mark.parametrize("style", STYLES)
def test_the_roles_survive_that_a_person_edits_what_is_said(style):
    found = chat(style)
    text = found.apply(TALK).replace("there", "you,\nyes you") + "Good"
    *_, user, last = said(found, text)
    assert ("user", "Hi [x] you,\nyes you") in said(found, text)
    assert (user, last) == (TALK[-1], ("assistant", "Good"))


@pytest.mark.parametrize("style", sorted(set(STYLES) - {"llama2"}))
def test_the_roles_survive_that_a_person_takes_the_beginning_off(style):
    found = chat(style)
    text = found.apply(TALK)
    cut = text[text.index("Hi") :]
    at = cut.index("Yo")
    assert ("assistant", "Yo") in said(found, cut)
    assert all(start >= at for start, _, _ in found.roles(cut))


def test_a_default_system_message_can_be_edited_in_place():
    found = chat("default-system")
    text = found.prompt("Hi").replace("helpful", "rude")
    assert said(found, text)[0] == ("system", "You are a rude assistant.")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["", "The capital of France is", "user\nassistant\n", "\n\n", " "])
def test_a_plain_text_has_no_roles(style, text):
    assert chat(style).roles(text) == ()


PIECES = st.sampled_from(["<|im_start|>user\n", "<|im_end|>\n", "<|im_end|>", "x", "\n"])


@given(text=st.lists(PIECES | st.text()).map("".join))
@settings(max_examples=200, deadline=None)
def test_spans_are_in_order_and_inside_of_any_text(text):
    spans = CHATML_MARKS.roles(text)
    edges = [edge for start, end, _ in spans for edge in (start, end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(text) for edge in edges)


CHATML_MARKS = ChatMarks({"<|im_start|>user\n": "user"}, {"user": {"<|im_end|>\n": None}})


def test_turns_without_marks_are_told_apart_only_where_the_order_is_sure():
    ordered = chat(chats.USER_ONLY)
    assert said(ordered, ordered.apply(TALK)) == [*TALK, ("assistant", "")]
    assert ordered.roles("Hi there") == ()
    unsure = chat(chats.NO_MARKS)
    assert unsure.roles(unsure.apply(TALK)) == ()


def test_a_template_that_adds_nothing_has_no_roles():
    found = chat(chats.IDENTITY)
    assert found.prompt("Hi") == "Hi"
    assert found.marks == ChatMarks()


@pytest.mark.parametrize("tokenizer", [None, chat_tokenizer()])
def test_without_a_template_it_says_so(tokenizer):
    found = Chat(tokenizer)
    assert found.roles("x") == ()
    with pytest.raises(ScopeError, match="no chat template"):
        found.prompt("x")


def test_what_a_template_refuses_is_one_line():
    with pytest.raises(ScopeError, match="System role not supported") as caught:
        chat("gemma").prompt("Hi", system="x")
    assert caught.value.hint == "the prompt without system"
    with pytest.raises(ScopeError, match="must alternate") as caught:
        chat("llama2").apply([("user", "a"), ("user", "b")])
    assert caught.value.hint == "the prompt without chat=True"
    with pytest.raises(ScopeError) as caught:
        chat("{{ raise_exception('a\nb\x1b[31m') }}").prompt("Hi")
    assert "a b\\x1b[31m" in caught.value.message


@pytest.mark.parametrize("broken", ["{% for %}", "{{ nobody.nothing.at_all }}", "{{ 1 / 0 }}"])
def test_a_broken_template_is_one_line(broken):
    found = chat(broken)
    assert found.marks == ChatMarks()
    with pytest.raises(ScopeError) as caught:
        found.prompt("Hi")
    assert "\n" not in caught.value.message


def test_a_system_message_that_is_dropped_is_no_secret():
    found = chat(chats.DEAF)
    assert found.prompt("Hi") == "[U]Hi[A]"
    with pytest.raises(ScopeError, match="drops the system message"):
        found.prompt("Hi", system="Be brief.")


def test_a_template_that_does_not_end_is_left():
    found = Chat(chat_tokenizer(chats.ENDLESS), patience=0.05)
    trace = sys.gettrace()
    with pytest.raises(ScopeError, match="did not end"):
        found.prompt("Hi")
    assert found.marks == ChatMarks()
    assert sys.gettrace() is trace


def test_several_templates_need_a_default():
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = {"tool_use": chats.CHATML, "default": chats.GEMMA}
    assert Chat(tokenizer).prompt("Hi").startswith("<s><start_of_turn>user\nHi")
    tokenizer.chat_template = {"one": chats.CHATML, "two": chats.GEMMA}
    with pytest.raises(ScopeError, match="no default"):
        Chat(tokenizer).prompt("Hi")


def test_reading_roles_needs_no_transformers():
    code = (
        "import sys, llmscope.models.tokenizer.chat\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
