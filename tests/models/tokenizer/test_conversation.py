"""Whole conversations in chat templates: the text is transformers' own, and every turn is found."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.errors import ScopeError
from llmscope.models.tokenizer.chat import Chat
from llmscope.models.tokenizer.conversation import render
from tests.models.chats import STYLES, chat_tokenizer

# In the manner of Qwen and Hermes: tools in the system message, results folded into a user's turn,
# the reasoning of the last answer alone.
AGENT = (
    "{% if tools %}<|im_start|>system\n{{ messages[0].content if messages[0].role == 'system' "
    "else '' }}\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>"
    "<|im_end|>\n{% elif messages[0].role == 'system' %}<|im_start|>system\n"
    "{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}{% set thought = '' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1] %}"
    "{% set thought = thought.lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n{% if loop.last and thought %}<think>\n{{ thought.strip('\n') }}\n"
    "</think>\n\n{% endif %}{{ content }}"
    "{% for call in m.tool_calls %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n"
    "{% elif m.role == 'tool' %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}"
    "<|im_start|>user{% endif %}\n<tool_response>\n{{ content }}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
TALK = [
    {"role": "system", "content": "Use the tools."},
    {"role": "user", "content": "a"},  # which also occurs in what the template writes
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "I ask.",
        "tool_calls": [
            {
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": 'The "P"', "days": [2, 3]}},
            },
            {"type": "function", "function": {"name": "user", "arguments": {}}},
        ],
    },
    {"role": "tool", "content": "18\n", "name": "weather"},
    {"role": "tool", "content": "20"},
    {"role": "assistant", "content": "Mild.", "reasoning_content": "Two numbers."},
]


def chat(template):
    return Chat(chat_tokenizer(STYLES.get(template, template)))


def own(template, messages, asked=False, tools=None):
    return chat_tokenizer(STYLES.get(template, template)).apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=asked
    )


def said(made):
    return [(one.turn, one.role, made.text[one.start : one.end]) for one in made.spans]


def test_the_text_is_transformers_own_and_each_part_is_found():
    made = render(chat(AGENT), TALK, False, TOOLS)
    assert made.text == own(AGENT, TALK, tools=TOOLS)
    assert said(made) == [
        (1, "system", "Use the tools."),
        (2, "user", "a"),
        (3, "call", 'weather", "arguments": {"city": "The \\"P\\"", "days": [2, 3]}}'),
        (3, "call", 'user", "arguments": {}}'),
        (4, "tool", "18"),
        (5, "tool", "20"),
        (6, "reasoning", "Two numbers."),
        (6, "assistant", "Mild."),
    ]
    assert made.notes == ("turn 3: the chat template leaves the reasoning out",)


@pytest.mark.parametrize("content", ["<think>\nTwo.\n</think>\n\nMild.", "Two.</think>Mild."])
def test_reasoning_within_the_content_is_apart(content):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    made = render(chat(AGENT), talk, False)
    assert made.text == own(AGENT, talk)
    assert said(made)[1:] == [(2, "reasoning", "Two."), (2, "assistant", "Mild.")]
    assert made.notes == ()
    plain = render(chat("chatml"), talk, False)
    assert plain.text == own("chatml", talk)
    assert said(plain)[1:] == [(2, "reasoning", "Two."), (2, "assistant", "Mild.")]


@pytest.mark.parametrize("style", [*STYLES, AGENT])
def test_the_model_is_asked_at_the_end(style):
    talk = [{"role": "user", "content": "Hi"}]
    made = render(chat(style), talk, True)
    assert made.text == own(style, talk, True)
    assert said(made) == [(1, "user", "Hi"), (2, "assistant", "")]
    assert made.spans[-1].start == len(made.text)


def test_what_a_template_leaves_out_is_told_with_its_turn():
    made = render(chat("chatml"), TALK, False, TOOLS)
    assert made.text == own("chatml", TALK, tools=TOOLS)
    assert made.notes == (
        "the chat template leaves the tools out",
        "turns 3, 6: the chat template leaves the reasoning out",
        "turn 3: the chat template leaves the tool call out",
    )
    deaf = "{% for m in messages if m.role == 'user' %}{{ '[U]' + m.content }}{% endfor %}"
    notes = render(chat(deaf), [*TALK[:2], *TALK[3:]], False).notes
    assert "turn 1: the chat template leaves the system message out" in notes
    assert "turns 3, 4: the chat template leaves the tool result out" in notes
    assert "turn 5: the chat template leaves the message out" in notes


@pytest.mark.parametrize(
    ("style", "talk", "turn"),
    [
        ("gemma", [TALK[0], TALK[1]], 1),
        ("gemma", [TALK[1], TALK[5], TALK[5]], 3),
        ("llama2", [TALK[1], TALK[1]], 2),
    ],
)
def test_what_a_template_refuses_is_told_with_its_turn(style, talk, turn):
    with pytest.raises(ScopeError, match=f"^turn {turn}: the chat template refuses this: ") as told:
        render(chat(style), talk, False)
    assert told.value.hint


def test_a_model_without_a_template_is_told_so():
    with pytest.raises(ScopeError, match=r"^this model's tokenizer has no chat template\b"):
        render(chat(None), TALK, False)


def test_characters_for_private_use_are_no_marks():
    talk = [{"role": "user", "content": "\U000f0000a\U00100000"}, TALK[5]]
    made = render(chat("chatml"), talk, False)
    assert made.text == own("chatml", talk)
    assert said(made)[0] == (1, "user", "\U000f0000a\U00100000")


def test_a_template_that_sees_the_marks_is_searched():
    shouting = "{% for m in messages %}{{ m.content | length }}: {{ m.content }}\n{% endfor %}"
    made = render(chat(shouting), TALK[:2], False)
    assert made.text == own(shouting, TALK[:2])
    assert said(made) == [(1, "system", "Use the tools."), (2, "user", "a")]


TEXTS = st.text(
    st.sampled_from("aub <>|_/[]{}\"'\\\n\x1b\u202eé") | st.characters(exclude_categories=["Cs"])
)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), TEXTS), min_size=1))
def test_foreign_contents_are_found_where_they_are(pairs):
    talk = [{"role": role, "content": content} for role, content in pairs]
    for style in ("chatml", "llama3"):
        made = render(chat(style), talk, False)
        assert made.text == own(style, talk)
        assert list(made.spans) == sorted(made.spans, key=lambda one: one.start)
        assert all(a.end <= b.start for a, b in zip(made.spans, made.spans[1:], strict=False))
        if "think" not in made.text:
            wanted = [(at, role, text.strip()) for at, (role, text) in enumerate(pairs, 1)]
            assert said(made) == [one for one in wanted if one[2]]
    assert re.sub("[\U000f0000-\U0010ffff]", "", made.text) == made.text or any(
        char >= "\U000f0000" for _, text in pairs for char in text
    )
