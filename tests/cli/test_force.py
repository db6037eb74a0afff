"""What is in the way is refused, and replaced with --force alone, by every command that writes."""

import pytest

from llmscope.cli.app import command_named
from llmscope.cli.command_table import COMMANDS
from tests.cli.running import failure, run
from tests.jobs.snapshots.files import write_rows
from tests.runs.making import written

TOWN = "builtin:town"
ROWS = [{"prompt": text} for text in ("Anna has a red ball.", "Ben has a cat.", "The dog is big.")]
PAIRS = [
    {"positive": f"Anna has a {word}", "negative": f"Ben has a {word}", "group": word}
    for word in ("cat", "dog", "ball", "bird", "house", "park", "book", "hat")
]


def named(name):
    """The command, or those of a group, by name."""
    command = command_named(name)
    inner = getattr(command, "commands", {})
    return {f"{name} {word}": one for word, one in inner.items()} if inner else {name: command}


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts}


def test_a_command_that_writes_where_it_is_told_has_force():
    writing = {
        name
        for group in COMMANDS
        for name, command in named(group).items()
        if options_of(command) & {"--out", "--export"} and "--force" not in options_of(command)
    }
    # The folder of `mcp` holds the files of one session after another, and replaces its own alone.
    assert writing == {"mcp"}


@pytest.fixture
def prompts(tmp_path):
    return write_rows(tmp_path / "prompts.jsonl", ROWS)


def test_a_file_in_the_way(tmp_path):
    out = tmp_path / "figure.csv"
    asked = ("snapshot", TOWN, "--prompt", "Anna", "--lens", "tokens", "--out", out)
    refuse_then_replace(asked, out)


def test_a_direction_in_the_way(tmp_path):
    pairs, out = write_rows(tmp_path / "pairs.tsv", PAIRS), tmp_path / "direction.safetensors"
    asked = ("fit", "direction", TOWN, pairs, "--layer", "1", "--no-dose", "--shuffles", "2")
    refuse_then_replace((*asked, "--out", out), out)


def refuse_then_replace(asked, out):
    out.write_text("old")
    assert "exists (try: --force to replace it)" in failure(*asked)
    assert out.read_text() == "old"
    result = run(*asked, "--force")
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() != b"old"


@pytest.mark.parametrize("command", ["snapshot", "compare"])
def test_a_folder_of_another_job(tmp_path, prompts, command):
    out = tmp_path / "out"
    if command == "snapshot":
        asked, other = ("snapshot", TOWN, "--lens"), ("tokens", "next-token")
    else:
        asked, other = ("compare", TOWN, TOWN, "--resamples", "20", "--skip"), ("0", "1")
    more = ("--prompts", prompts, "--out", out)
    assert run(*asked, other[0], *more).exit_code == 0
    (out / "note.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    line = failure(*asked, other[1], *more, code=2 if command == "compare" else 1)
    assert "was made with other options (" in line
    assert f"{other[0]}" in line
    assert f"{other[1]}" in line
    assert "--force to begin anew" in line
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    result = run(*asked, other[1], *more, "--force")
    assert result.exit_code == 0, result.stderr
    assert (out / "note.txt").read_text() == "mine"
    assert run(*asked, other[1], *more).exit_code == 0, "the same again goes on"
    if command == "snapshot":
        assert list((out / "tokens").glob("shard-*")) == []


def test_force_empties_no_folder_of_others(tmp_path, prompts):
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-00000.parquet").write_text("mine")
    asked = ("snapshot", TOWN, "--lens", "tokens", "--prompts", prompts, "--out", out)
    assert "holds other files" in failure(*asked, "--force")
    assert (out / "shard-00000.parquet").read_text() == "mine"
    assert "not with --shard" in failure(*asked, "--force", "--shard", "0/2", code=2)


def test_tables_of_a_run_in_the_way(tmp_path):
    out, training = tmp_path / "tables", written(tmp_path / "run", quick=True)
    asked = ("watch", training, "--export", out)
    assert run(*asked).exit_code == 0
    line = failure(*asked)
    assert "is not empty (try: another folder, or --force to replace the tables in it)" in line
    assert run(*asked, "--force").exit_code == 0
    assert "it takes --export FOLDER" in failure("watch", training, "--force", code=2)
