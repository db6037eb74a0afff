"""The program itself: what it imports, and the whole of it on a terminal."""

import json
import sys

import pytest

from tests.cli.running import failure, fresh

WALK = """
import sys

class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Nobody())
import asyncio, json
from pathlib import Path
from llmscope.tui.modes.replay.reader import read_snapshot
from llmscope.tui.modes.replay.screen import replay_app

async def walk():
    app = replay_app(read_snapshot(Path(sys.argv[1])))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        keys = "left up right tab down p m y y d p escape question_mark escape 1 slash A enter"
        for key in [*keys.split(), "s", "escape", "ctrl+p", *"quit", "escape"]:
            await pilot.press(key)
        assert app.state.tokens
    return app.return_code

asyncio.run(walk())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_torch_however_one_walks(five):
    result = fresh(str(five[".safetensors"]), code=WALK)
    assert result.returncode == 0, result.stderr
    modules = set(json.loads(result.stdout))
    assert "textual" in modules
    assert not modules & {"torch", "transformers", "tokenizers", "huggingface_hub"}


def test_without_a_terminal_it_says_so(five):
    assert "stdout is no terminal" in failure("replay", five[".npz"])


def test_wrong_usage():
    assert "FILE" in failure("replay", code=2)
    assert "--color" in failure("replay", "x.json", "--color", "pink", code=2)


def test_a_shell_completes_snapshots(five, monkeypatch):
    from llmscope.cli.completion import snapshots

    folder = five[".npz"].parent
    monkeypatch.chdir(folder)
    assert snapshots("") == ["a.json", "a.safetensors", "b.json", "c.npz"]
    assert snapshots("./b") == ["./b.json"]
    assert snapshots(f"{folder}/c") == [f"{folder}/c.npz"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals here")
def test_the_real_program(five, tmp_path):
    from tests.test_terminal import Terminal

    terminal = Terminal(tmp_path, "replay", str(five[".safetensors"]), "--theme", "light")
    terminal.wait("replay · a.safetensors", "Attention · layer 1 head 2", "read only")
    terminal.child.send("\x1b[D")
    terminal.wait("not in this snapshot: next-token at token")  # the next line says which
    terminal.resize(80, 24)
    terminal.wait("replay", "layer 1")
    terminal.child.send("q")
    terminal.child.expect_exact(__import__("pexpect").EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0
    left = [path.name for path in (tmp_path / "state").rglob("*")]
    assert not {"state.json", "history.jsonl"} & set(left)
