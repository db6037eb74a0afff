"""Two models from the command line: options, errors, and the numbers of plain transformers."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from llmscope.models.loading import memory
from tests.cli.running import failure, record, run
from tests.models.loading.test_adapters import LLAMA, make_adapter, make_base

PIRATE = ("builtin:town", "--versus-model", "builtin:town-pirate")
PROMPT = ("--prompt", "the baker sells bread")
DIFF = ("--lens", "model-diff")


def plain_kl(*models):
    """KL(A ‖ B) after each token, with transformers alone, in float64."""
    from llmscope import load

    scopes = [load(one) for one in models]
    ids = scopes[0].encode(PROMPT[1]).ids
    p, q = (
        torch.log_softmax(scope.model(torch.tensor([ids])).logits[0].double(), -1)
        for scope in scopes
    )
    return (p.exp() * (p - q)).sum(-1).detach().numpy()


def test_the_numbers_are_those_of_transformers():
    found = record(*PIRATE, *PROMPT, *DIFF)
    (figure,) = found["figures"]
    wanted = plain_kl("builtin:town", "builtin:town-pirate")
    assert wanted.max() > 0.01
    np.testing.assert_allclose(figure["values"], wanted, rtol=1e-4, atol=1e-6)
    assert (found["model"]["spec"], found["model_b"]["spec"]) == (PIRATE[0], PIRATE[2])
    assert found["provenance"]["model_b"]["spec"] == PIRATE[2]
    assert found["provenance"]["model_b"]["weights"] != found["provenance"]["model"]["weights"]
    assert "--versus-model builtin:town-pirate" in found["provenance"]["command"]


def test_a_lens_shows_a_minus_b():
    (a,) = record("builtin:town", *PROMPT, "--lens", "residual")["figures"]
    (b,) = record("builtin:town-pirate", *PROMPT, "--lens", "residual")["figures"]
    (apart,) = record(*PIRATE, *PROMPT, "--lens", "residual", "--change")["figures"]
    ours, theirs = (np.array(one["values"]) for one in (a, b))
    np.testing.assert_allclose(apart["values"], ours - theirs, rtol=1e-4, atol=1e-5)


def test_the_same_model_twice_in_two_dtypes():
    found = record("builtin:town", "--versus-dtype", "bfloat16", *PROMPT, *DIFF)
    assert (found["model"]["dtype"], found["model_b"]["dtype"]) == ("float32", "bfloat16")
    assert 0 < max(found["figures"][0]["values"]) < 0.1


def test_a_model_against_itself_shares_all_and_differs_in_nothing():
    result = run("snapshot", "builtin:town", "--versus-model", "builtin:town", *PROMPT, *DIFF)
    assert max(json.loads(result.stdout)["figures"][0]["values"]) == 0
    assert "which are in memory once" in result.stderr


def test_what_is_wrong_with_b_names_b():
    said = failure("snapshot", "builtin:town", "--versus-model", "./nowhere", *PROMPT, *DIFF)
    assert "model B: there is no ./nowhere" in said
    said = failure("snapshot", "builtin:town", "--versus-model", "builtin:sort", *PROMPT, *DIFF)
    assert "do not read the same tokens: token 0 is ‹<pad>› in A and ‹A› in B" in said
    said = failure("snapshot", "builtin:town", "--versus-revision", "v1", *PROMPT, *DIFF)
    assert "builtin:town has no revisions" in said


def test_what_does_not_fit_is_refused_with_the_sizes(monkeypatch):
    monkeypatch.setattr(memory, "fits", lambda *_: False)
    said = failure("snapshot", *PIRATE, *PROMPT, *DIFF)
    assert "model B: builtin:town-pirate does not fit in the memory of cpu: its weights" in said
    assert "llmscope compare A B --prompts FILE" in said


def test_without_a_second_model_it_is_said_how_to_give_one():
    (figure,) = record("builtin:town", *PROMPT, *DIFF)["figures"]
    assert figure["verdict"]["status"] == "refused"
    assert "--versus-model OTHER" in figure["verdict"]["reason"]
    said = failure("snapshot", "builtin:town", *PROMPT, "--lens", "tokens", "--change", code=2)
    assert "--versus-model" in said


def test_an_adapter_is_compared_with_the_base_and_with_another(tmp_path):
    base = str(make_base(tmp_path / "base"))
    poet = str(make_adapter(tmp_path / "poet", base, LLAMA["lora"]))
    other = str(make_adapter(tmp_path / "other", base, LLAMA["lora"], seed=1))
    ids = "3,17,42,8"

    def row(*words):
        figure = record(base, "--ids", ids, "--lens", "model-diff", "--mode", "kl", *words)
        return np.array(figure["figures"][0]["values"], dtype=np.float64)

    def probabilities(adapter):
        model = AutoModelForCausalLM.from_pretrained(base)
        model = model if adapter is None else PeftModel.from_pretrained(model, adapter)
        with torch.no_grad():
            return model.eval()(torch.tensor([[3, 17, 42, 8]])).logits[0].double().log_softmax(-1)

    p = probabilities(poet)
    on = ("--adapter", poet, "--versus-adapter")
    for name, q in (("base", probabilities(None)), (other, probabilities(other))):
        expected = (p.exp() * (p - q)).sum(-1).numpy()
        assert row(*on, name) == pytest.approx(expected, rel=1e-3, abs=1e-6), name
    assert row(*on, "poet") == pytest.approx(0, abs=1e-9)
    asked = ("snapshot", base, "--ids", ids, *DIFF)
    assert "no adapter is on" in failure(*asked, "--versus-adapter", "base")
    assert "no adapter 'prose'; there are 'poet'" in failure(
        *asked, "--adapter", poet, "--versus-adapter", "prose"
    )


def test_a_batch_compares_too(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the baker sells bread\nthe old mill\n")
    result = run(
        *("snapshot", *PIRATE, "--prompts", prompts, "--out", tmp_path / "out", *DIFF),
    )
    assert result.exit_code == 0, result.stderr
    assert "2 prompts, 0 failed" in result.stderr


@pytest.mark.parametrize("mode", ["next", "log-ratio", "lens", "streams", "difference", "parts"])
@pytest.mark.few(1)
def test_every_mode_is_a_picture(mode):
    result = run("snapshot", *PIRATE, *PROMPT, *DIFF, "--mode", mode, "--format", "txt")
    assert result.exit_code == 0, result.stderr
    assert "Two models" in result.stdout
    assert "refused" not in result.stdout


def test_a_snapshot_of_another_engines_streams_takes_the_prompt_of_the_file(tmp_path):
    """Without a prompt it is the file's; the streams are those of plain transformers."""
    from safetensors.torch import save_file

    from llmscope import load

    scope = load("builtin:town")
    ids = scope.encode(PROMPT[1]).ids
    seen = []
    layers = scope.base.anatomy.layers
    handle = layers[-1].module.register_forward_hook(
        lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        states = scope.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    handle.remove()
    streams = torch.stack([*states[:-1], seen[0].reshape(states[0].shape)], dim=2)[0]
    path = tmp_path / "request.safetensors"
    save_file({"token_ids": torch.tensor(ids), "hidden_states": streams.contiguous()}, path)
    asked = ("builtin:town", "--versus-model", str(path), *DIFF)
    listed = ",".join(map(str, range(len(layers) + 1)))
    found = record(*asked, "--layer-ids", listed, "--mode", "difference")
    (figure,) = found["figures"]
    assert [one["id"] for one in found["tokens"]] == list(ids)
    assert np.max(figure["values"]) < 1e-5
    assert "no layer parts by more than rounding" in figure["extra"]["caption"][0]
    assert "holds" in failure("snapshot", *asked, "--layer-ids", "0,2")


def test_layers_belong_to_a_file_of_streams(tmp_path):
    named = ("--versus-model", str(tmp_path / "no.safetensors"), *PROMPT, *DIFF)
    file = ("snapshot", "builtin:town", *named)
    assert "is a file of streams" in failure(*file, "--versus-dtype", "bfloat16", code=2)
    assert "ids such as" in failure(*file, "--layer-ids", "x", code=2)
    assert "there is no file" in failure(*file)
    alone = ("snapshot", "builtin:town", *PROMPT, *DIFF, "--layer-ids", "1")
    assert "--versus-model FILE" in failure(*alone, code=2)
