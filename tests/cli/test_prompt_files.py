"""Every command that reads prompts reads each format of them alike."""

import ast
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from llmscope.cli.app import command_named
from llmscope.cli.command_table import COMMANDS
from llmscope.jobs.snapshots import PromptSource
from tests.cli.running import run
from tests.jobs.snapshots.files import SUFFIXES, write_rows

ROWS = [
    {"prompt": text}
    for text in (
        *("Anna has a red ball.", "Ben, has\ta cat.", "  The dog is big.", "Tom has a hat."),
        *("Mia sees a bird.", "The cat is in the house.", "Sam has two books.", "Eva runs home."),
        *("The ball is blue.", "Max likes the park."),
    )
]
TOWN = "builtin:town"
ASKED = {
    "snapshot": lambda path, out: ("snapshot", TOWN, "--lens", "tokens", "--out", out),
    "compare": lambda path, out: (
        *("compare", TOWN, TOWN, "--skip", "0", "--resamples", "20", "--out", out, "--json"),
    ),
    "examples": lambda path, out: ("examples", TOWN, "--neuron", "1.3", "--out", out, "--json"),
    "fit jacobian": lambda path, out: (
        *("fit", "jacobian", TOWN, "--skip", "0", "--held-out", "0", "--max-prompts", "2"),
        *("--out", f"{out}.safetensors", "--json"),
    ),
    "fit tuned": lambda path, out: (
        *("fit", "tuned", TOWN, "--skip", "0", "--held-out", "5", "--steps", "0"),
        *("--out", f"{out}.safetensors", "--json"),
    ),
}


def test_the_formats_hold_the_same_prompts(tmp_path):
    held = {
        suffix: [
            line.prompt for line in PromptSource(str(write_rows(tmp_path / f"p{suffix}", ROWS)))
        ]
        for suffix in SUFFIXES
    }
    wanted = [row["prompt"] for row in ROWS]
    assert held == dict.fromkeys(SUFFIXES, wanted)


@pytest.mark.parametrize(
    ("command", "suffixes"),
    [
        ("snapshot", SUFFIXES),
        *((name, (".jsonl", ".parquet")) for name in list(ASKED)[1:]),
        *(pytest.param(name, SUFFIXES, marks=pytest.mark.slow) for name in list(ASKED)[1:]),
    ],
)
def test_a_command_reads_each_format(tmp_path, command, suffixes):
    told = {}
    for suffix in suffixes:
        path = write_rows(tmp_path / f"prompts{suffix}", ROWS)
        out = tmp_path / suffix[1:]
        result = run(*ASKED[command](path, out), "--prompts", path)
        assert result.exit_code == 0, result.stderr
        if command == "snapshot":
            table = pyarrow.parquet.read_table(next(out.glob("tokens*/*.parquet")))
            told[suffix] = {"surprisal": table["surprisal"].to_pylist()}
        else:
            told[suffix] = without_names(json.loads(result.stdout))
        assert told[suffix]
    for one in told.values():
        assert one == told[".jsonl"]


def without_names(value):
    """JSON without what depends on the file's name and layout rather than on its prompts."""
    if isinstance(value, dict):
        names = ("file", "bytes", "corpus", "corpus_bytes", "line", "sha256", "prompts_sha256")
        names += ("arguments", "command", "random")  # random examples are drawn by their lines
        return {key: without_names(one) for key, one in value.items() if key not in names}
    return [without_names(one) for one in value] if isinstance(value, list) else value


def test_every_command_with_prompts_is_among_them():
    reading = set()
    for name in COMMANDS:
        command = command_named(name)
        inner = getattr(command, "commands", {})
        for word, one in inner.items() if inner else [("", command)]:
            if any("--prompts" in parameter.opts for parameter in one.params):
                reading.add(f"{name} {word}".strip())
    # `fit check` needs a lens, and reads as `fit jacobian`; what the screen reads is tested in
    # tests/jobs/compare/test_prompt_reader.py.
    assert reading == {*ASKED, "fit check", "open", "serve"}


def test_nothing_else_opens_a_file_of_prompts():
    root = Path(__file__).parents[2] / "llmscope"
    readers = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "csv" in path.read_text()
        and any(
            isinstance(node, ast.Attribute)
            and node.attr in ("reader", "DictReader")
            and isinstance(node.value, ast.Name)
            and node.value.id == "csv"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert readers == ["corpus/records/prompts.py"]
