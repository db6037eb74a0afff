"""`llmscope read` and `snapshot --transcript`: what a model saw at a turn, told safely."""

from __future__ import annotations

import json
import re
import sys

import pytest

from llmscope.corpus.records.transcripts.records import transcript_of
from llmscope.corpus.records.transcripts.rendering import render_transcript
from llmscope.errors import ScopeError
from llmscope.models.tokenizer.chat import Chat
from tests.cli.running import failure, fresh, record, run
from tests.models.chats import STYLES, chat_tokenizer
from tests.models.checkpoints import save_model

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\x00 [/x] [@click=app.quit]y[/]"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": EVIL},
    {"role": "assistant", "content": "No.", "reasoning": EVIL},
    {"role": "tool", "content": EVIL, "name": EVIL},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    save_model(folder, vocab_size=300, max_position_embeddings=256)
    chat_tokenizer(STYLES["chatml"]).save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + '\n{"text": "plain"}\n')
    return path


def own(messages, asked):
    return chat_tokenizer(STYLES["chatml"]).apply_chat_template(
        messages, add_generation_prompt=asked, return_dict=False
    )


def test_the_turns_are_listed_without_anything_raw(model, file):
    result = run("read", file, model)
    assert result.exit_code == 0, result.stderr
    assert not RAW.search(result.stdout.replace("\n", ""))
    assert not RAW.search(result.stderr.replace("\n", ""))
    head, *rows, last = result.stdout.splitlines()
    assert head.split() == ["turn", "role", "tokens", "from"]
    assert [row.split()[1] for row in rows] == ["system", "user", "assistant", "tool"]
    counts = [int(row.split()[2]) for row in rows]
    assert counts[0] == len("Be brief.")  # a token is a byte here
    assert counts[1] == len(EVIL.encode())
    total = len(own([{"role": one["role"], "content": one["content"]} for one in TALK], True))
    assert f"{total} in all, {total - sum(counts)} of them the template's" in last
    assert "line 1, turn 3: the chat template leaves the reasoning out" in result.stderr
    assert "note: the file has other transcripts: --line N" in result.stderr


@pytest.mark.slow
def test_the_bytes_of_a_real_process_are_safe(model, file):
    for more in ((), ("--json",), ("--turn", "2")):
        result = fresh("read", str(file), str(model), *more)
        assert result.returncode == 0, result.stderr
        assert not RAW.search((result.stdout + result.stderr).replace("\n", ""))


def test_json_is_a_format_and_txt_is_the_list(file, model):
    printed = run("read", file, model, "--json")
    assert printed.exit_code == 0
    assert run("read", file, model, "--format", "json").stdout == printed.stdout
    listed = run("read", file, model, "--list").stdout
    assert run("read", file, model, "--format", "txt").stdout == listed
    assert "--json" in failure("read", file, model, "--json", "--format", "txt", code=2)
    assert "note: " not in run("read", file, model, "--list", "-q").stderr


@pytest.mark.parametrize(("turn", "asked"), [(1, False), (2, True), (3, False), (4, True)])
def test_json_tells_the_text_that_the_model_reads_up_to_a_turn(model, file, turn, asked):
    result = run("read", file, model, "--turn", turn, "--json")
    told = json.loads(result.stdout)
    text = chat_tokenizer(STYLES["chatml"]).apply_chat_template(
        TALK[:turn], add_generation_prompt=asked, tokenize=False
    )
    assert (told["text"], told["generation_prompt"], told["line"]) == (text, asked, 1)
    assert told["tokens"] == len(own(TALK[:turn], asked))
    for row, message in zip(told["turns"], TALK, strict=False):
        (part,) = row["parts"]
        assert text[part["start"] : part["end"]] == message["content"].strip()
        assert part["role"] == row["role"] == message["role"]


def test_a_snapshot_is_of_the_same_tokens(model, file):
    options = ("--lens", "tokens", "--transcript", file, "--turn", "2")
    told = record(model, *options)
    ids = [token["id"] for token in told["tokens"]]
    assert ids == own(TALK[:2], True)
    plain = record(model, "--lens", "tokens", "--transcript", file, "--line", "2")
    ids = [token["id"] for token in plain["tokens"]]
    assert ids == chat_tokenizer()("plain")["input_ids"]  # a text that is no chat has its BOS


def test_what_does_not_go_together_is_refused(model, file):
    snapshot = ("snapshot", model, "--lens", "tokens")
    assert "--transcript" in failure(*snapshot, "--prompt", "x", "--turn", "1", code=2)
    assert "--transcript" in failure(*snapshot, "--prompt", "x", "--transcript", file, code=2)
    assert "--chat" in failure(*snapshot, "--chat", "--transcript", file, code=2)
    many = (*snapshot, "--prompts", file, "--out", file.parent / "o", "--transcript", file)
    assert "--transcript" in failure(*many, code=2)
    assert "there is no turn 5" in failure("read", file, model, "--turn", "5")
    assert "--turn" in failure("read", file, model, "--turn", "0", code=2)


def test_a_model_without_a_template_is_told_so(file):
    shown = failure("read", file, "builtin:town")
    assert "a.jsonl, line 1: this model's tokenizer has no chat template" in shown
    assert "(try: a model that was tuned for chat)" in shown
    assert run("read", file, "builtin:town", "--line", "2").exit_code == 0


def test_what_the_template_refuses_is_told_with_its_line(tmp_path, file):
    save_model(tmp_path / "m", vocab_size=300)
    chat_tokenizer(STYLES["gemma"]).save_pretrained(tmp_path / "m")
    shown = failure("read", file, tmp_path / "m")
    assert "a.jsonl, line 1, turn 1: the chat template refuses this: System role" in shown


@pytest.mark.parametrize("given", ['{"city":"Paris"}', {"city": "Paris"}])
def test_a_template_that_takes_arguments_as_text_gets_the_files_own(given):
    takes_text = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls %}"
        "{{ '<call>' + call.function.name + ' ' + call.function.arguments }}"
        "{% endfor %}{% endfor %}"
    )
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": given}}
    talk = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    found = transcript_of({"messages": talk}, "a.jsonl, line 1", 1).until(None)
    made = render_transcript(found, Chat(chat_tokenizer(takes_text)))
    if isinstance(given, str):
        assert made.text == chat_tokenizer(takes_text).apply_chat_template(talk, tokenize=False)
    assert [made.text[one.start : one.end] for one in made.spans] == [
        f"f {given if isinstance(given, str) else json.dumps(given)}"
    ]
    refuses = Chat(chat_tokenizer("{{ raise_exception('no') }}"))
    with pytest.raises(ScopeError, match=r"a\.jsonl, line 1: the chat template refuses this: no"):
        render_transcript(found, refuses)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals here")
def test_a_real_terminal_gets_nothing_raw(model, file, tmp_path):
    from tests.test_terminal import Terminal

    terminal = Terminal(tmp_path, "read", str(file), str(model))
    terminal.wait("Prompt", "user", "tool", "Next token")
    terminal.child.send("\x1b")
    terminal.read(1.0)
    terminal.child.send("gl")
    terminal.wait("Turns", "[@click=app.quit]y[/]", "4  tool")
    hostile = (b"\x1b]0;owned", b"owned\x07", b"\xc2\x9b", b"\xe2\x80\xae", b"\x00")
    for raw in hostile:
        assert raw not in terminal.raw
    terminal.child.send("\x1b")
    terminal.read(1.0)
    terminal.child.send("q")
    terminal.child.expect_exact(__import__("pexpect").EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_the_help_names_the_key_that_the_screen_has(monkeypatch):
    from llmscope.tui.actions import user_keymap as keymap

    def told():
        return " ".join(run("read", "--help").stdout.split())

    usual = keymap.Keymap().first("turns")
    assert f"the key {usual} lists the turns" in told()
    own = keymap.Keymap({"turns": ("f9",)})
    monkeypatch.setattr(keymap, "read_keymap", lambda: own)
    assert "the key F9 lists the turns" in told() or "the key f9 lists the turns" in told()
