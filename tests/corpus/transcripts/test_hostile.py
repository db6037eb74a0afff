"""Hostile transcripts cost a line that names their line; nothing in them reaches the terminal."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.corpus.records.transcripts.reader import TranscriptFile
from llmscope.corpus.records.transcripts.records import DEEPEST, transcript_of
from llmscope.errors import ScopeError
from tests.cli.running import failure, fresh

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\x00 [/x] [@click=app.quit]y[/]"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What no terminal may get from a file."""


def chat(*messages, **more):
    return json.dumps({"messages": list(messages), **more})


def said(content="Hi", **more):
    return {"role": "user", "content": content, **more}


def call(arguments, name="f"):
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


GOOD = chat(said())
BAD = {
    "unknown role": (chat(said(), {"role": "wizard", "content": "x"}), "turn 2: the role"),
    "evil role": (chat({"role": EVIL, "content": "x"}), "turn 1: the role"),
    "role of another type": (chat({"role": ["user"], "content": "x"}), "turn 1: its role"),
    "no role": (chat({"content": "x"}), "turn 1: it has no role"),
    "no content": (chat(said(), {"role": "user"}), "turn 2: it has no content"),
    "content is a number": (chat(said(3)), "turn 1: its content is no text"),
    "content is an object": (chat(said({"text": "x"})), "turn 1: its content is no text"),
    "a part is an image": (
        chat(said([{"type": "image_url", "image_url": "x"}])),
        "turn 1: a part of its content is of type 'image_url'",
    ),
    "a part is a number": (chat(said([7])), "turn 1: a part of its content is no text"),
    "a part of an evil type": (chat(said([{"type": EVIL}])), "turn 1: a part of its content"),
    "a message is a text": (chat("Hi"), "turn 1: it is no object"),
    "messages are an object": (json.dumps({"messages": {"role": "user"}}), "messages are no list"),
    "no messages": (chat(), "it has no messages"),
    "an unknown object": (json.dumps({EVIL: EVIL}), "it has neither messages"),
    "a number": ("7", "it is no transcript"),
    "a name of another type": (chat(said(name=[EVIL])), "turn 1: the name is no text"),
    "half a character": (chat(said("\ud800")), "turn 1: its content is not valid Unicode"),
    "arguments that are no JSON": (chat(call("{'city': 1")), "turn 1: the arguments of the call"),
    "arguments that are a list": (chat(call([1])), "turn 1: the arguments of a tool call"),
    "arguments that are deep": (
        chat(call("[" * 500 + "]" * 500)),
        "turn 1: the arguments of the call of 'f': nested deeper",
    ),
    "evil name of a tool": (chat(call("{", EVIL)), "turn 1: the arguments of the call of"),
    "a call without a name": (
        chat({"role": "assistant", "tool_calls": [{"function": {}}]}),
        "turn 1: a tool call has no name",
    ),
    "calls are a text": (
        chat({"role": "assistant", "tool_calls": "x"}),
        "turn 1: its tool calls are no list",
    ),
    "tools are a number": (chat(said(), tools=7), "its tools are no list"),
    "deep nesting": ("[" * 300 + "]" * 300, "nested deeper than"),
    "deeper nesting": ("[" * 100_000 + "]" * 100_000, "it is not JSON that can be read"),
    "a key twice": ('{"messages": [{"role": "user", "role": "tool"}]}', "occurs twice"),
    "an evil key twice": (
        "{" + ", ".join([f"{json.dumps(EVIL)}: 1"] * 2) + "}",
        "occurs twice",
    ),
    "huge number": ('{"messages": ' + "9" * 10_000 + "}", "it is not JSON that can be read"),
    "NaN": ('{"messages": [], "x": NaN}', "it holds NaN"),
    "infinity": ('{"messages": [], "x": -Infinity}', "it holds -Infinity"),
    "cut file": (GOOD[:-10], "it is not JSON"),
    "another quote": ("{'messages': []}", "it is not JSON"),
    "invalid UTF-8": (b'{"messages": "\xff\xfe"}', "it is not UTF-8 (byte 14)"),
    "a prompt and a list": (json.dumps({"prompt": "x", "completion": [said()]}), "is no text"),
    "ten thousand messages": (chat(*[said("x")] * 10_001), "it has 10,001 messages"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_line_is_told_in_a_line_with_its_number(tmp_path, name):
    line, reason = BAD[name]
    path = tmp_path / "a.jsonl"
    raw = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    path.write_bytes(GOOD.encode() + b"\n\n" + raw + b"\n")
    shown = failure("read", path, "builtin:town", "--line", "3")
    assert shown.count("\n") == 1
    assert "a.jsonl, line 3" in shown
    assert reason in shown
    assert not RAW.search(shown)
    assert len(shown) < 1500


@pytest.mark.slow
def test_the_bytes_of_a_real_process_are_one_safe_line(tmp_path):
    for number, (line, reason) in enumerate(BAD.values()):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass"))
        result = fresh("read", str(path), "builtin:town")
        assert (result.returncode, result.stdout) == (1, "")
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
        assert not RAW.search(result.stderr)


WHOLE = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n\n", "is empty"),
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
    "UTF-16": (GOOD.encode("utf-16"), "is UTF-16"),
    "NUL alone": (b"\x00" * 100, "line 1: it is not JSON"),
    "mixed": (json.dumps(said()).encode() + b"\n" + GOOD.encode(), "line 2: it is no message"),
    "binary": (bytes(range(256)), "line 1: it is not"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_hostile_file_is_told_in_a_line(tmp_path, name):
    content, reason = WHOLE[name]
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    shown = failure("read", path, "builtin:town")
    assert reason in shown
    assert not RAW.search(shown)


def test_a_byte_order_mark_is_no_harm(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert TranscriptFile(str(path)).transcript()[0].turns[0].content == "Hi"


def test_a_line_of_50_mb_is_refused_without_holding_it(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"messages": "')
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + GOOD.encode() + b"\n")
    tracemalloc.start()
    try:
        with pytest.raises(ScopeError, match="line 1: it is longer than 16 MB"):
            TranscriptFile(str(path)).transcript()
        assert TranscriptFile(str(path)).transcript(2)[0].turns[0].content == "Hi"
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.txt", "a", f"{EVIL[:4]}.csv".replace("/", "")])
def test_other_files_are_refused(name):
    shown = failure("read", name, "builtin:town")
    assert "is no file of transcripts" in shown
    assert not RAW.search(shown)


def test_files_that_cannot_be_opened(tmp_path):
    assert "cannot read" in failure("read", tmp_path / "none.jsonl", "builtin:town")
    assert "cannot read" in failure("read", "a\0b.jsonl", "builtin:town")
    assert "cannot read" in failure("read", f"file://{tmp_path}/none.jsonl", "builtin:town")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not at all")
    assert "cannot read" in failure("read", tmp_path / "a.parquet", "builtin:town")
    (tmp_path / "a.json").write_text("[1,\n2,,]")
    assert "line 2, column" in failure("read", tmp_path / "a.json", "builtin:town")


KEYS = st.text() | st.sampled_from(
    (
        *("messages", "role", "content", "conversations", "from", "value", "tools", "tool_calls"),
        *("function", "name", "arguments", "prompt", "chosen", "rejected", "completion", "text"),
        *("user", "system", "type", "reasoning", "instruction", "output"),
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


@given(VALUES | st.lists(st.fixed_dictionaries({"role": VALUES, "content": VALUES})))
def test_any_value_is_a_transcript_or_is_refused_in_a_line(value):
    try:
        found = transcript_of(value, "f, line 1", 1)
    except ScopeError as told:
        found, error = None, told
    if found is None:
        assert error.message.startswith("f, line 1")
        assert not RAW.search(error.message + error.hint)
        assert "\n" not in error.message
        assert error.hint
    else:
        assert found.turns
        json.dumps([turn.to_message() for turn in found.turns], allow_nan=False).encode()


def test_the_bound_of_depth_is_exact():
    value = 1
    for _ in range(DEEPEST - 4):
        value = [value]
    fine = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    transcript_of({"messages": [fine], "more": value}, "f", 1)
    with pytest.raises(ScopeError, match="nested deeper"):
        transcript_of({"messages": [fine], "more": [[[[value]]]]}, "f", 1)
