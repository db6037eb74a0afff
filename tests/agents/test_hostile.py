"""Wrong and hostile calls cost one line each, and the server lives on."""

import json
import os

import pytest
from mcp import MCPError

from tests.agents.truth import ANIMALS

pytestmark = pytest.mark.xdist_group("agents")

ESCAPES = "a\x1b[31mred\x07 \u202eback\r\n"


@pytest.fixture(autouse=True)
def lives(town):
    """The server answers after each test as before."""
    town.call("look", lens="next-token", prompt=ANIMALS)
    yield
    assert town.call("look", lens="next-token", prompt=ANIMALS).rows[0]["token"] == "·calf"


@pytest.mark.parametrize(
    ("tool", "given", "words"),
    [
        ("look", {"lens": "next-tokn"}, ["next-token"]),
        ("look", {}, ["needs lens"]),
        ("look", {"lens": 3}, ["lens is 3", "a text"]),
        ("look", {"lens": ["next-token"]}, ["a text"]),
        ("look", {"lens": "next-token", "layer": "four"}, ["layer", "whole number"]),
        ("look", {"lens": "next-token", "layer": True}, ["layer", "whole number"]),
        ("look", {"lens": "next-token", "layer": 1e300}, ["layer"]),
        ("look", {"lens": "attention", "layer": 99}, ["layer 99", "6"]),
        ("look", {"lens": "attention", "mode": "rawr"}, ["raw"]),
        ("look", {"lens": "next-token", "position": 4000}, ["position 4000"]),
        ("look", {"lens": "next-token", "options": {"pol": 3}}, ["pol"]),
        ("look", {"lens": "next-token", "options": [3]}, ["options", "object"]),
        ("look", {"lens": "next-token", "options": {"pool": 3}}, ["pool"]),
        ("look", {"lens": "saliency", "options": {"metric": "print"}}, ["Python"]),
        ("look", {"lens": "logit-lens", "options": {"translator": "/etc/x.pt"}}, ["translator"]),
        ("look", {"lens": "next-token", "promt": "x"}, ["prompt"]),
        ("look", {"lens": "next-token", "rows": 0}, ["rows"]),
        ("look", {"lens": "next-token", "order": "random"}, ["largest"]),
        ("look", {"lens": "x" * 100_000}, ["no lens"]),
        ("edit", {"edits": ["zero haed 5.3"]}, ["head"]),
        ("edit", {"edits": "zero head 5.3"}, ["list"]),
        ("edit", {"edits": ["zero head 50.3"]}, ["50"]),
        ("edit", {"edits": ["patch mlp 1 from B"]}, ["prompt B"]),
        ("edit", {"edits": [f"zero {ESCAPES}"]}, []),
        ("compare", {}, ["versus_prompt"]),
        ("compare", {"versus_prompt": "a", "versus_adapter": "base"}, ["one of them"]),
        ("compare", {"versus_adapter": "town-pirat"}, ["town-pirate"]),
        ("compare", {"versus_model": "builtin:sort"}, ["same tokens"]),
        ("generate", {"tokens": 10**9}, ["tokens"]),
        ("generate", {"temperature": -1}, ["temperature"]),
        ("generate", {"seed": 3}, ["temperature"]),
        ("many_prompts", {"lens": "next-token"}, ["prompts or file"]),
        ("many_prompts", {"lens": "next-token", "prompts": []}, ["prompts"]),
        ("many_prompts", {"lens": "next-token", "prompts": [3]}, ["list of texts"]),
        (
            "many_prompts",
            {"lens": "next-token", "prompts": ["a" * 4_000_000]},
            ["characters, more than"],
        ),
        ("look", {"lens": "next-token", "prompt": "a" * 4_000_000}, ["characters, more than"]),
        ("many_prompts", {"lens": "next-token", "prompts": ["the cat " * 300]}, ["all 1 prompts"]),
        ("many_prompts", {"lens": "next-token", "file": "/etc/passwd"}, ["working folder"]),
        ("many_prompts", {"lens": "next-token", "file": "../../x.txt"}, ["working folder"]),
        ("many_prompts", {"lens": "next-token", "file": "missing.txt"}, ["missing.txt"]),
        ("many_prompts", {"lens": "next-token", "file": "a\0b"}, ["file"]),
        ("explain", {"topic": "lense"}, ["lenses"]),
        ("explain", {"topic": ESCAPES}, ["no topic"]),
        ("export", {"path": "../out.svg"}, ["output folder"]),
        ("export", {"path": "/tmp/out.svg"}, ["output folder"]),
        ("export", {"path": "a\0b.svg"}, ["path"]),
        ("export", {"path": "out.exe"}, ["format"]),
        ("export", {"path": "."}, ["output folder"]),
        ("export", {"path": "x" * 5000 + ".svg"}, []),
        ("export", {"path": "a.svg", "theme": "nope"}, ["theme"]),
        ("open", {"dtype": "float32"}, ["model"]),
        ("open", {"adapter": "nope"}, ["nope"]),
        ("nothing", {}, ["no tool", "explain"]),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, list) else "",
)
def test_it_costs_one_line(town, tool, given, words):
    line = town.refused(tool, **given)
    assert [word for word in words if word not in line] == [], line


def test_a_long_prompt_is_refused_in_a_line(town):
    assert "256" in town.refused("look", lens="next-token", prompt="the cat " * 131_072)


def test_a_prompt_that_cannot_run_is_not_remembered(town):
    assert "template" in town.refused("look", lens="next-token", prompt="a", chat=True)
    assert "the cat" not in town.refused("look", lens="next-token", prompt="the cat " * 300)
    assert town.call("look", lens="next-token").rows[0]["token"] == "·calf"


def test_what_controls_a_terminal_is_escaped(town):
    found = town.call("look", lens="tokens", prompt=f"the cat{ESCAPES}")
    assert "\x1b" not in found.text
    assert "\\x1b" in found.text


def test_a_link_out_of_the_folder_is_not_followed(town, tmp_path):
    town.folder.mkdir(exist_ok=True)
    os.symlink(tmp_path, town.folder / "link")
    assert "output folder" in town.refused("export", path="link/out.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(120)
def test_a_separator_that_takes_for_ever_is_refused_and_the_server_lives(town):
    text = f"the cat .\n\n{'a' * 60} !\n\nwhere ?"
    said = town.call("look", lens="passages", prompt=text, options={"separator": "(a+)+$"})
    assert "takes too long to match" in said.text
    assert town.call("look", lens="next-token", prompt="the cat").rows


@pytest.mark.parametrize("name", ["s3://bucket/a.svg", "s3:/bucket/a.svg", "memory::a.json"])
def test_a_url_is_refused_by_name_and_makes_no_folder(town, name):
    before = set(town.work.iterdir())
    said = town.refused("export", path=name)
    assert name in said
    assert "is a URL" in said
    assert not any(":" in path.name for path in town.work.rglob("*"))
    assert set(town.work.iterdir()) <= before | {town.folder}


@pytest.mark.parametrize("name", ["a" * 300 + ".svg", "figure.svg" * 400_000])
def test_a_name_that_is_too_long_is_a_line(town, name):
    assert "is no path" in town.refused("export", path=name)


def test_a_file_of_another_origin_is_not_replaced(town):
    town.folder.mkdir(exist_ok=True)
    mine = town.folder / "mine.json"
    mine.write_text("precious")
    assert "exists" in town.refused("export", path="mine.json")
    assert mine.read_text() == "precious"
    town.call("export", path="own.json")
    assert town.call("export", path="own.json").line("file:").endswith("own.json")
    assert json.loads((town.folder / "own.json").read_text())["provenance"]["model"]


def test_a_model_that_cannot_be_loaded_says_so(town):
    assert "nowhere" in town.refused("open", model="./nowhere")
    (town.work / "empty").mkdir(exist_ok=True)
    assert "empty" in town.refused("open", model="./empty")
    told = town.call("look", lens="next-token")
    assert told.line("model:") == "town", "the model that was open stays"


def test_a_call_that_is_given_up_ends_and_the_next_one_is_answered(town):
    prompts = [f"{'the cat sleeps ' * 20}{word}" for word in ("dog", "cat", "cow")] * 1000
    with pytest.raises(MCPError):
        town.try_("many_prompts", patience=2, lens="ablation", prompts=prompts)
    assert town.call("look", lens="next-token", prompt=ANIMALS).rows[0]["token"] == "·calf"


def test_it_reports_how_far_it_is(town):
    town.progress.clear()
    town.call("open", model="builtin:town")
    assert any("weights" in one or "loading" in one for one in town.progress), town.progress


def test_calls_at_the_same_time_wait_for_one_another(town):
    texts = [f"the {word} sleeps in the" for word in ("cat", "dog", "cow", "hen")]
    waiting = [
        town.portal.start_task_soon(
            town.client.call_tool, "look", {"lens": "next-token", "prompt": text}
        )
        for text in texts
    ]
    for text, one in zip(texts, waiting, strict=True):
        (content,) = one.result(60).content
        assert f"prompt of 6 tokens: <s> {text}\n" in content.text
