"""`snapshot --answer`: what should follow the prompt, and how likely examples make it."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmscope.models.sources.builtin import home
from tests.cli.commands.test_bake import with_tokenizer
from tests.cli.running import failure, record, run

GAIN = ("--lens", "context", "--mode", "gain")


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context"
    path.write_text("CCB")
    return path


def test_the_surprisal_of_an_answer_with_the_example_and_without(context):
    ask = ("builtin:sort", "--context-file", context, "--prompt", "BAC", *GAIN)
    found = record(*ask, "--answer", "AB")
    assert found["focus"]["answer"] == [0, 1]
    (figure,) = found["figures"]
    model = AutoModelForCausalLM.from_pretrained(home() / "sort").eval()
    for bits, ids in zip(figure["values"], ([1, 0, 2], [2, 2, 1, 1, 0, 2]), strict=True):
        with torch.no_grad():
            logs = model(torch.tensor([[*ids, 0, 1]])).logits[0, -3:-1].double().log_softmax(-1)
        both = float(logs[0, 0] + logs[1, 1])
        assert bits == pytest.approx(-both / math.log(2), rel=1e-4, abs=1e-6)
    assert figure["extra"]["answer"] == "AB"
    assert figure["axes"] == [{"name": "examples", "labels": ["0", "1"]}]
    # Without one, the model's own next token.
    (own,) = record(*ask)["figures"]
    assert own["extra"]["answer"] == "A"


def test_special_tokens_come_before_the_prompt_alone(tmp_path):
    folder = with_tokenizer(tmp_path / "model", "llama")
    (tmp_path / "context").write_text("ab")
    ask = (folder, "--context-file", tmp_path / "context", "--prompt", "cd", *GAIN)
    found = record(*ask, "--answer", "ef")
    assert [token["id"] for token in found["tokens"]] == [0, 1, 2, 3, 4]
    (figure,) = found["figures"]
    assert figure["extra"]["answer_ids"] == [5, 6]
    assert figure["extra"]["ends"] == [1, 3]


def test_an_answer_that_changes_the_prompt_is_told(tmp_path):
    folder = with_tokenizer(tmp_path / "model", "llama")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"ab": 20}
    tokenizer["pre_tokenizer"]["pattern"] = {"Regex": "ab|."}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "context").write_text("cd")
    ask = ("snapshot", folder, "--context-file", tmp_path / "context", "--prompt", "ca", *GAIN)
    said = failure(*ask, "--answer", "b", code=2)
    assert "--answer" in said
    assert "cut into other tokens" in " ".join(said.replace("│", " ").split())
    assert "no token" in failure(*ask, "--answer", "", code=2)


def test_an_answer_is_for_the_gain_of_a_text():
    # The model does not exist: it is told before one is looked for.
    ask = ("snapshot", "./nope", "--answer", "A")
    assert "gain" in failure(*ask, "--prompt", "CAB", "--lens", "context", code=2)
    assert "id:NUMBER" in failure(*ask, "--ids", "1,2", *GAIN, code=2)


@pytest.mark.parametrize("kind", ["txt", "svg"])
def test_it_is_drawn(context, tmp_path, kind):
    ask = ("builtin:sort", "--context-file", context, "--prompt", "BAC", *GAIN, "--answer", "AB")
    path = tmp_path / f"gain.{kind}"
    assert run("snapshot", *ask, "--out", path, "--size", "60x16").exit_code == 0
    text = path.read_text()
    assert "examples" in text
    assert "AB" in text
