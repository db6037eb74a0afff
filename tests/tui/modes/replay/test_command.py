"""The command that `y c` copies from a file: made anew from its parts, or not at all."""

import json
import shlex
import subprocess

import pytest

from llmscope.cli.commands.snapshot import snapshot_command
from llmscope.lenses import command_options
from llmscope.support.text import controls, without_controls
from llmscope.tui.modes.replay.command import SWITCHES, TEXTS, TRUST, VALUES, safe_command
from tests.tui.modes.replay.replaying import replayed
from tests.tui.modes.replay.test_reader import changed

GOOD = (
    "llmscope snapshot builtin:sort --lens attention --prompt='it'\"'\"'s $(x)\nline 2' --layer 1"
)

EVIL = {
    "another program": "rm -rf ~",
    "a second line": f"{GOOD}\nrm -rf ~",
    "a second command": f"{GOOD}; rm -rf ~",
    "a pipe": f"{GOOD} | sh",
    "another command": "llmscope serve --host 0.0.0.0",
    "an output": f"{GOOD} --out /home/me/.bashrc --force",
    "an escape": GOOD.replace("line 2", "\x1b[201~\nrm -rf ~\n"),
    "a carriage return": GOOD.replace("line 2", "\rrm -rf ~"),
    "C1": GOOD.replace("line 2", "\x9b201~"),
    "turned text": GOOD.replace("line 2", "\u202eline"),
    "tags": GOOD.replace("line 2", "\U000e0041"),
    "line separator": GOOD.replace("line 2", "a\u2028b"),
    "hidden in the model": "llmscope snapshot $'a\u200bb' --lens attention",
    "hidden in a value": "llmscope snapshot gpt2 --lens 'atten\u200btion'",
    "a line end in a value": "llmscope snapshot gpt2 --lens 'a\nb'",
    "an option in the place of the model": "llmscope snapshot --config=x",
    "an unknown option": f"{GOOD} --config x",
    "open quotes": "llmscope snapshot 'gpt2",
    "no text": ["llmscope", "snapshot"],
    "nothing": "",
    "long": "llmscope snapshot gpt2 --prompt=" + "a" * 2_000_000,
}


def test_a_good_command_is_the_same_words():
    made = safe_command(GOOD)
    assert shlex.split(made) == shlex.split(GOOD)
    emoji = "llmscope snapshot gpt2 --prompt='👩‍👩‍👧 é'"
    assert shlex.split(safe_command(emoji)) == shlex.split(emoji)


def test_what_trusts_code_is_left_out():
    made = safe_command(f"{GOOD} --trust-remote-code --allow-pickle")
    assert shlex.split(made) == shlex.split(GOOD)


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_command_runs_nothing_else(name):
    made = safe_command(EVIL[name])
    if made is None:
        return
    # What a shell would run is one command, and that is llmscope's own.
    code = 'llmscope() { printf \'%s\\0\' "$#" "$1"; }; rm() { echo BAD; }; sh() { echo BAD; }; '
    ran = subprocess.run(["sh", "-c", code + made], capture_output=True, text=True, timeout=20)
    count, command, *rest = ran.stdout.split("\0")
    assert (command, rest) == ("snapshot", [""])
    assert int(count) == len(shlex.split(made)) - 1
    pytest.fail(f"it was not refused: {made!r}")


def test_every_option_of_a_snapshot_of_one_prompt_is_known():
    options = snapshot_command().params
    opts = {word for one in options for word in (*one.opts, *one.secondary_opts) if word[0] == "-"}
    batch = {"--prompts", "--shard", "--shard-size", "--batch-size", "--batch-tolerance"}
    batch |= {"--engine", "--workers", "--gpus-per-worker", "--max-errored-blocks", "--tensors"}
    here = {"--out", "-o", "--force", "--debug", "--quiet", "-q", "--verbose", "-v"}
    here |= {"--revision", "--json"}  # in the name of the model, and --format json
    declared = {option.flag for option in command_options()}
    assert opts - batch - here == {*TEXTS, *VALUES, *SWITCHES, *TRUST, *declared}


async def test_the_screen_copies_the_command_only_when_it_is_safe(five, monkeypatch):
    for command, copied in ((EVIL["a second line"], []), (GOOD, [safe_command(GOOD)])):

        def change(record, command=command):
            record["provenance"]["command"] = command

        async with replayed(changed(five[".json"], change)) as shown:
            heard = []
            monkeypatch.setattr(shown.app, "copy_to_clipboard", heard.append)
            await shown.press("y", "c")
            assert heard == copied


def test_what_is_copied_holds_nothing_that_acts_on_a_terminal():
    text = "a\x1b[201~b\tc\n\u202ed 👩‍👧"
    assert without_controls(text) == "a\\x1b[201~b\tc\n\\u202ed 👩‍👧"
    assert not controls(json.dumps(text))
