"""What docs/report.md tells of the built-in model is what its commands print."""

import json
import re
import shlex
from pathlib import Path

import pytest

from demo.many_prompts import lines
from demo.who_gave_it import COUNT, NAMES
from demo.who_gave_it import lines as ioi_lines
from tests.cli.running import run

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")
SHOWN = re.findall(r"```sh\n(llmscope report animals[^\n]*)\n```\n\n```\n(.*?)```", PAGE, re.S)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animals")
    prompts = folder / "animals.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines()))
    words = ("--lens", "next-token", "--lens", "ablation")
    result = run("snapshot", "builtin:town", "--prompts", prompts, "--out", folder / "out", *words)
    assert result.exit_code == 0, result.output
    return folder / "out"


def numbers(text):
    return [float(one.replace(",", "")) for one in NUMBER.findall(text)]


@pytest.mark.slow
def test_the_page_shows_what_the_commands_print(animals):
    assert len(SHOWN) == 2
    for command, shown in SHOWN:
        words = [animals if word == "animals" else word for word in shlex.split(command)[1:]]
        result = run(*words)
        assert result.exit_code == 0, result.output
        # The page may begin below the first lines, which name the folder.
        told = shown.splitlines()[1:]
        printed = result.stdout.splitlines()[-len(told) :]
        for ours, theirs in zip(told, printed, strict=True):
            assert numbers(ours) == pytest.approx(numbers(theirs), rel=0.02, abs=0.02), ours


def test_the_prompts_of_the_page_are_pairs():
    found = ioi_lines()
    assert found == ioi_lines()
    assert len(found) == COUNT
    assert found[0]["prompt"] in PAGE
    for one in found:
        right, giver = one["target"].strip(), one["repeated"]
        assert {right, giver} <= set(NAMES)
        assert one["prompt"].count(giver) == 2
        assert one["prompt"].count(right) == 1
    assert all(
        {a["order"], b["order"]} == {"ABBA", "BABA"}
        for a, b in zip(found[::2], found[1::2], strict=True)
    )
