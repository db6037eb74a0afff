"""One conversation in every format of the field is read as the same turns."""

from __future__ import annotations

import io
import json

import pytest

from llmscope.corpus.records.transcripts import ToolCall, Transcript, Turn
from llmscope.corpus.records.transcripts.reader import TranscriptFile
from llmscope.errors import ScopeError

CALL = {"city": "Paris", "days": 2}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
TURNS = (
    Turn("system", "Use the tools."),
    Turn("user", "How is Paris?"),
    Turn("assistant", calls=(ToolCall("weather", CALL),)),
    Turn("tool", "18 degrees"),
    Turn("assistant", "Mild, at 18 degrees."),
)
OPENAI = [
    {"role": "system", "content": "Use the tools."},
    {"role": "user", "content": [{"type": "text", "text": "How is "}, "Paris?"]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "weather", "arguments": json.dumps(CALL)}}],
    },
    {"role": "tool", "content": "18 degrees"},
    {"role": "assistant", "content": "Mild, at 18 degrees."},
]
SHAREGPT = [
    {"from": "system", "value": "Use the tools."},
    {"from": "human", "value": "How is Paris?"},
    {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": CALL})},
    {"from": "observation", "value": "18 degrees"},
    {"from": "gpt", "value": "Mild, at 18 degrees."},
]
OLD = [
    *OPENAI[:2],
    {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": CALL}},
    {"role": "function", "content": "18 degrees"},
    OPENAI[4],
]
RECORDS = {
    "openai": {"messages": OPENAI, "tools": TOOLS, "id": 7},
    "tools as text": {"messages": OPENAI, "tools": json.dumps(TOOLS)},
    "bare": OPENAI,
    "old function calls": {"messages": OLD},
    "sharegpt": {"conversations": SHAREGPT},
    "sharegpt with a system": {"system": "Use the tools.", "conversations": SHAREGPT[1:]},
    "prompt and completion": {"prompt": OPENAI[:4], "completion": OPENAI[4:]},
    "prompt and chosen": {"prompt": OPENAI[:2], "chosen": OPENAI[2:], "rejected": OPENAI[4:]},
    "chosen alone": {"chosen": OPENAI, "rejected": OPENAI[:2]},
    "nothing for missing": {"messages": OPENAI, "tools": None, "conversations": None},
}


def written(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def only(path, **options) -> Transcript:
    found, more = TranscriptFile(str(path)).transcript(**options)
    assert not more
    return found


@pytest.mark.parametrize("name", RECORDS)
def test_every_format_gives_the_same_turns(tmp_path, name):
    found = only(written(tmp_path / "a.jsonl", RECORDS[name]))
    assert found.turns == TURNS
    assert found.line == 1
    assert found.tools == (tuple(TOOLS) if "tools" in str(name) or name == "openai" else ())


def test_one_message_a_line_is_one_transcript(tmp_path):
    assert only(written(tmp_path / "a.jsonl", *OPENAI)).turns == TURNS
    assert only(written(tmp_path / "b.jsonl", *SHAREGPT)).turns == TURNS


@pytest.mark.parametrize("whole", [{"messages": OPENAI}, OPENAI, [{"messages": OPENAI}]])
def test_json_files(tmp_path, whole):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(whole, indent=2).encode())
    assert only(path).turns == TURNS


def test_parquet_whose_structs_hold_every_key(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"messages": OLD_STYLE_TEXT, "id": 1}, {"messages": OLD_STYLE_TEXT[:1], "id": 2}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found, more = TranscriptFile(str(tmp_path / "a.parquet")).transcript()
    assert [(turn.role, turn.content) for turn in found.turns] == [("user", "Hi"), ("tool", "18")]
    assert found.turns[1].call_id == "c1"
    assert more
    assert only(tmp_path / "a.parquet", line=2).turns == found.turns[:1]


OLD_STYLE_TEXT = [
    {"role": "user", "content": "Hi"},
    {"role": "tool", "content": "18", "tool_call_id": "c1"},
]


def test_a_url_and_stdin(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", {"messages": OPENAI})
    assert only(f"file://{path}").turns == TURNS
    import sys

    class Stdin:
        buffer = io.BufferedReader(io.BytesIO(json.dumps(OPENAI).encode()))

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert only("-").turns == TURNS


def test_the_line_and_the_rejected_answer_are_chosen(tmp_path):
    pair = {
        "prompt": OPENAI[:2],
        "chosen": OPENAI[4:],
        "rejected": [{**OPENAI[4], "content": "No"}],
    }
    path = written(tmp_path / "a.jsonl", {"messages": OPENAI[:2]}, pair)
    found, more = TranscriptFile(path).transcript()
    assert found.turns == TURNS[:2]
    assert more
    assert only(path, line=2).turns == (*TURNS[:2], TURNS[4])
    assert only(path, line=2, rejected=True).turns[-1].content == "No"
    with pytest.raises(ScopeError, match="line 1: it has no rejected answer"):
        only(path, rejected=True)
    with pytest.raises(ScopeError, match="no transcript on line 3"):
        only(path, line=3)


def test_plain_texts_of_trl_are_no_chats(tmp_path):
    for record, turns in (
        ({"text": "The sky is blue."}, (Turn("text", "The sky is blue."),)),
        (
            {"prompt": "The sky is", "completion": " blue."},
            (Turn("prompt", "The sky is"), Turn("completion", " blue.")),
        ),
        ({"chosen": "blue", "rejected": "red"}, (Turn("completion", "blue"),)),
    ):
        found = only(written(tmp_path / "a.jsonl", record))
        assert found.turns == turns
        assert found.plain
    record = {"instruction": "Add.", "input": "1 2", "output": "3"}
    found = only(written(tmp_path / "a.jsonl", record))
    assert found.turns == (Turn("user", "Add.\n\n1 2"), Turn("assistant", "3"))
    assert not found.plain


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_has_several_names(tmp_path, key):
    message = {"role": "assistant", "content": "4", key: "2 and 2"}
    (turn,) = only(written(tmp_path / "a.jsonl", [message])).turns
    assert turn.to_message() == {
        "role": "assistant",
        "content": "4",
        "reasoning_content": "2 and 2",
    }


def test_up_to_a_turn_the_model_is_asked_if_it_spoke_next(tmp_path):
    found = only(written(tmp_path / "a.jsonl", OPENAI))
    asked = [found.until(turn).asked for turn in range(1, 6)]
    assert asked == [False, True, False, True, False]
    assert found.until(4).turns == TURNS[:4]
    with pytest.raises(ScopeError, match="there is no turn 6: it has 5"):
        found.until(6)
    for last in ("user", "tool"):  # the file ends where the model is about to speak
        assert (
            only(written(tmp_path / "b.jsonl", [{"role": last, "content": "x"}])).until(None).asked
        )
