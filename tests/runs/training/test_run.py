"""A run of a plain loop: the training as it would have been, and the numbers of `load`."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import llmscope
from llmscope.errors import ScopeError
from llmscope.runs.reader import RunReader
from llmscope.runs.training import Run
from tests.runs.training.small import LENSES, PROMPTS, loop, same, town


def recorded(folder, steps=20, every=10, lenses=LENSES, wrap=lambda model: model, keep=None):
    """Train with a run; return the weights, the run, and the model."""
    model, tokenizer = town()
    model = wrap(model)
    run = Run(folder, llmscope.wrap(model, tokenizer), PROMPTS, lenses=lenses)

    def record(step, loss):
        if step % every == 0:
            run.record(step, **({} if loss is None else {"loss": loss}))
            if keep is not None:
                keep(step, model, tokenizer)

    return loop(model, tokenizer, steps, record), run, model


@pytest.mark.slow
def test_the_training_is_bit_for_bit_what_it_would_have_been(tmp_path):
    model, tokenizer = town()
    plain = loop(model, tokenizer, 200)
    random = torch.get_rng_state()
    with_run, run, trained = recorded(tmp_path / "run", steps=200)
    assert same(plain, with_run)
    assert torch.equal(random, torch.get_rng_state())
    assert trained.training
    assert not any(module._forward_hooks for module in trained.modules())
    assert not run.stopped
    assert [one.step for one in RunReader(tmp_path / "run").steps] == list(range(0, 201, 10))


def lora(model):
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


@pytest.mark.few(1)
@pytest.mark.parametrize("wrap", [lambda model: model, lora], ids=["all weights", "LoRA"])
def test_the_numbers_of_a_step_are_those_of_its_checkpoint(tmp_path, wrap):
    def keep(step, model, tokenizer):
        model.save_pretrained(tmp_path / str(step))
        tokenizer.save_pretrained(tmp_path / str(step))

    recorded(tmp_path / "run", lenses=(*LENSES, "attention"), wrap=wrap, keep=keep)
    run = RunReader(tmp_path / "run")
    assert len(run.steps) == 3
    moved = 0.0
    for one in run.steps:
        found = run.figures(one)
        scope = llmscope.load(str(tmp_path / str(one.step)))
        for at, prompt in enumerate(run.info.prompts):
            recording = scope.record(prompt.text, fresh=True)
            assert recording.prompt.ids == prompt.ids
            for figure in run.info.figures:
                if figure.prompt not in (at, None):
                    continue
                asked = {"mode": figure.mode} if figure.mode else {}
                if figure.lens == "attention":
                    asked["layer"] = "all"
                elif figure.lens in ("next-token", "logit-lens"):
                    asked["target"] = prompt.focus["target"]
                want = scope.look(figure.lens, recording=recording, **asked)
                np.testing.assert_allclose(
                    found[figure.key].values, want.values, atol=1e-5, rtol=1e-5
                )
                assert found[figure.key].verdict.status == want.verdict.status == "verified"
        first = run.figures(run.steps[0])["0/next-token"].extra["target_probability"]
        moved = max(moved, abs(found["0/next-token"].extra["target_probability"] - first))
    assert moved > 1e-3  # there is something to tell apart


def test_prompts_keep_their_targets(tmp_path):
    recorded(tmp_path / "run", steps=0)
    run = RunReader(tmp_path / "run")
    assert [one.target for one in run.info.prompts] == [" paris", None, " anna"]
    keys = [one.key for one in run.info.figures]
    assert keys.count("model/heads:induction") == 1
    assert {"0/logit-lens:target", "1/logit-lens:top", "2/logit-lens:target"} < set(keys)


def by_hand(model, ids):
    with torch.no_grad():
        model.eval()
        return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


@pytest.mark.few(1)
@pytest.mark.parametrize("wrap", [lambda model: model, lora], ids=["all weights", "LoRA"])
def test_what_changed_since_the_start(tmp_path, wrap):
    start, _ = town()
    lenses = ("stages:weights", "stages:rank", "stages:kl-all")
    _, _, model = recorded(tmp_path / "run", lenses=lenses, wrap=wrap)
    run = RunReader(tmp_path / "run")
    first, last = run.figures(run.steps[0]), run.figures(run.steps[-1])
    assert np.nanmax(first["model/stages:weights"].values) == 0
    weights, rank = last["model/stages:weights"], last["model/stages:rank"]
    assert weights.verdict.status == "verified"
    assert weights.axes[1].labels == ("q", "k", "v", "o", "gate", "up", "down")
    merged = model.merge_and_unload() if wrap is lora else model
    for layer, block in enumerate(merged.model.layers):
        now = block.self_attn.v_proj.weight.detach().double()
        before = start.model.layers[layer].self_attn.v_proj.weight.detach().double()
        want = float((now - before).norm() / before.norm())
        np.testing.assert_allclose(weights.values[layer, 2], want, rtol=1e-3)
        sigma = torch.linalg.svdvals(now - before)
        share = sigma / sigma.sum()
        share = share[share > 1e-9]
        want = float((-(share * share.log()).sum()).exp())
        np.testing.assert_allclose(rank.values[layer, 2], want, rtol=0.02)
    ids = run.info.prompts[1].ids
    tuned, base = by_hand(merged, ids), by_hand(start, ids)
    want = (tuned.exp() * (tuned - base)).sum(-1).numpy()
    np.testing.assert_allclose(last["1/stages:kl-all"].values, want, atol=1e-4)
    assert want.max() > 1e-3


def test_parameters_that_do_not_train_are_not_copied(tmp_path):
    model, tokenizer = town()
    model = lora(model)
    scope = llmscope.wrap(model, tokenizer)
    run = Run(tmp_path / "run", scope, PROMPTS, lenses=("stages:weights",))
    live = {id(one) for one in model.parameters() if not one.requires_grad}
    copied = {id(one) for one in run._source._scope.base.module.parameters()}
    assert copied == live


def test_a_warning_that_is_an_error_does_not_end_the_training(tmp_path, capsys):
    model, tokenizer = town()
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=LENSES)
    (tmp_path / "run").write_text("in the way")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.record(0)
    assert run.stopped
    assert "llmscope records nothing more" in capsys.readouterr().err


def test_names_of_scalars_may_be_anything(tmp_path):
    model, tokenizer = town()
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=LENSES)
    run.record(1, step=3.0, self=1.0, **{"loss/x": 2.0})
    run.log_numbers(2, {"step": 5, "huge": 10**400, "text": "x", "loss/x": 1.0})
    assert not run.stopped
    logs = dict(RunReader(tmp_path / "run").logs)
    assert logs == {1: {"step": 3.0, "self": 1.0, "loss/x": 2.0}, 2: {"step": 5.0, "loss/x": 1.0}}


def test_one_head_of_attention_is_one_head(tmp_path):
    model, tokenizer = town()
    lenses = [("attention", {"layer": 1, "head": 2})]
    Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS[:1], lenses=lenses).record(0)
    run = RunReader(tmp_path / "run")
    (figure,) = run.figures(run.steps[0]).values()
    assert [axis.name for axis in figure.axes] == ["query", "key"]
    assert (figure.extra["layer"], figure.extra["head"]) == (1, 2)


def test_parameters_that_are_unfrozen_later_are_refused_and_not_wrong(tmp_path):
    model, tokenizer = town()
    late = model.model.layers[0].mlp.up_proj.weight
    late.requires_grad_(False)
    run = Run(
        tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=("stages:weights",)
    )
    run.record(0)
    late.requires_grad_(True)
    with torch.no_grad():
        late.mul_(1.5)
    with pytest.warns(RuntimeWarning, match="parameters that were frozen at the start"):
        run.record(1)
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0]


@pytest.mark.slow
def test_what_fails_warns_once_and_the_training_goes_on(tmp_path):
    model, tokenizer = town()
    plain = loop(model, tokenizer, 20)
    model, tokenizer = town()
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=LENSES)

    def record(step, loss):
        if step == 10:
            shutil.rmtree(tmp_path / "run" / "shards")
            (tmp_path / "run" / "shards").write_text("in the way")
        if step % 5 == 0:
            run.record(step)

    with pytest.warns(RuntimeWarning, match="llmscope records nothing more") as told:
        found = loop(model, tokenizer, 20, record)
    assert len([one for one in told if "llmscope" in str(one.message)]) == 1
    assert same(plain, found)
    assert "shards" in run.stopped or "File" in run.stopped
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.record(30)
        run.log(30, loss=1.0)


def test_a_model_that_diverged_is_refused_and_not_the_end(tmp_path):
    model, tokenizer = town()
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=LENSES)
    run.record(0)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.record(1, loss=float("nan"))
    if run.stopped:
        assert len(RunReader(tmp_path / "run").steps) == 1
        return
    reader = RunReader(tmp_path / "run")
    found = reader.figures(reader.steps[-1])
    assert found["0/next-token"].verdict.status == "refused"
    assert reader.steps[-1].scalars == {"loss": None}


def test_a_run_is_continued_or_replaced_if_asked_for_and_left_alone_else(tmp_path):
    folder = tmp_path / "run"
    recorded(folder)
    model, tokenizer = town()
    scope = llmscope.wrap(model, tokenizer)
    before = (folder / "steps.jsonl").read_bytes()
    with pytest.raises(ScopeError, match="holds a run up to step 20") as caught:
        Run(folder, scope, PROMPTS, lenses=LENSES)
    assert "resume=True" in caught.value.hint
    assert (folder / "steps.jsonl").read_bytes() == before
    run = Run(folder, scope, PROMPTS, lenses=LENSES, resume=True)
    assert run.last == 20
    run.record(15)
    assert [one.step for one in RunReader(folder).steps] == [0, 10, 15]
    anew = Run(folder, scope, PROMPTS, lenses=LENSES, overwrite=True)
    anew.record(50)
    assert [one.step for one in RunReader(folder).steps] == [50]
    assert len(list((folder / "shards").iterdir())) == 1
    with pytest.raises(ScopeError, match="different prompts"):
        Run(folder, scope, PROMPTS[:1], lenses=LENSES, resume=True)
    with pytest.raises(ScopeError, match="different prompts"):
        Run(
            folder,
            scope,
            PROMPTS,
            lenses=[*LENSES[:3], ("residual:outliers", {"top_k": 3})],
            resume=True,
        )
    other = Run(folder, scope, PROMPTS[:1], lenses=LENSES, overwrite=True)
    other.record(0)
    assert len(RunReader(folder).info.prompts) == 1


def test_a_continued_run_has_lost_the_start_that_stages_compares_with(tmp_path):
    recorded(tmp_path / "run", lenses=("stages:weights",))
    scope = llmscope.wrap(*town())
    with pytest.raises(ScopeError, match="cannot be continued with the lens stages"):
        Run(tmp_path / "run", scope, PROMPTS, lenses=("stages:weights",), resume=True)


def test_the_steps_of_a_stage_count_on(tmp_path):
    folder = tmp_path / "run"
    model, tokenizer = town()
    scope = llmscope.wrap(model, tokenizer)
    for stage, steps in (("sft", (0, 10, 20)), ("dpo", (5, 10))):
        run = Run(folder, scope, PROMPTS, lenses=LENSES, stage=stage)
        for step in steps:
            run.record(step, loss=1.0)
            run.log(step + 1, loss=2.0)
    run = RunReader(folder)
    assert [(one.step, one.name) for one in run.steps] == [
        *((0, "sft 0"), (10, "sft 10"), (20, "sft 20"), (25, "dpo 5"), (30, "dpo 10")),
    ]
    assert run.logged("loss")[0].tolist() == [0, 1, 10, 11, 20, 21, 25, 26, 30, 31]
    resumed = Run(folder, scope, PROMPTS, lenses=LENSES, stage="dpo", resume=True)
    assert resumed.last == 10
    resumed.record(20)
    assert RunReader(folder).steps[-1].step == 40


WRONG = {
    "no list of prompts": (("the cat",), {}, TypeError, "prompts must be a list"),
    "no prompt": (([],), {}, ValueError, "prompts is empty"),
    "an unknown option": (
        ([{"prompt": "a", "taget": "b"}],),
        {},
        ValueError,
        r"'taget', which no lens has \(did you mean target\?\)",
    ),
    "an unknown lens": ((["a"],), {"lenses": ["logit-lense"]}, ValueError, "did you mean"),
    "an unknown mode": ((["a"],), {"lenses": ["heads:x"]}, ValueError, "has no mode 'x'"),
    "no list of lenses": ((["a"],), {"lenses": "heads"}, TypeError, "must be a list"),
    "no lens": ((["a"],), {"lenses": []}, ValueError, "lenses is empty"),
    "another lens's option": (
        (["a"],),
        {"lenses": [("heads", {"translator": "x"})]},
        ValueError,
        "has no option 'translator'",
    ),
    "a layer that does not exist": (
        ([{"prompt": "the cat", "layer": 6}],),
        {"lenses": ["attention"]},
        ValueError,
        "layer 6 is out of range",
    ),
    "an option that no lens of the run has": (
        ([{"prompt": "the cat", "layer": 1}],),
        {"lenses": ["residual"]},
        ValueError,
        "option 'layer', which none of the lenses has",
    ),
    "a token that does not exist": (
        ([{"prompt": "the cat", "position": 40}],),
        {},
        ValueError,
        "position 40 is out of range",
    ),
    "no single token": (([{"prompt": "the", "target": "a dog"}],), {}, ScopeError, "prompts"),
}


@pytest.fixture(scope="module")
def scope():
    return llmscope.wrap(*town())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_told_at_once(tmp_path, scope, name):
    arguments, options, kind, said = WRONG[name]
    with pytest.raises(kind, match=said):
        Run(tmp_path / "run", scope, *arguments, **options)
    assert not Path(tmp_path / "run").exists()


def test_only_a_scope_is_taken(tmp_path):
    with pytest.raises(TypeError, match=r"llmscope.wrap\(model, tokenizer\)"):
        Run(tmp_path / "run", town()[0], PROMPTS)


def test_the_package_is_imported_without_torch():
    import subprocess
    import sys

    code = "import sys, llmscope.runs.training; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def hooked(kind, sizes):
    """A model with code of the user's in its passes, which reads what changes in the training."""
    model, tokenizer = town()
    mlp = model.model.layers[1].mlp
    if kind == "hook":
        mlp.register_forward_hook(lambda _module, _args, out: out * sizes[0])
    elif kind == "forward":
        inner = mlp.forward
        mlp.forward = lambda hidden: inner(hidden) * sizes[0]
    elif kind == "class":

        class Scaled(type(mlp)):
            def forward(self, hidden):
                return super().forward(hidden) * sizes[0]

        mlp.__class__ = Scaled
    return model, tokenizer


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", ["hook", "forward", "class"])
@pytest.mark.parametrize(("before", "after"), [(1.0, 1.0), (1.0, 0.6), (0.5, 0.5)])
def test_the_start_of_a_model_with_code_of_the_users(tmp_path, kind, before, after):
    """What differs from the start is that of plain forwards, or it is refused: never a mixture."""
    sizes = [before]
    model, tokenizer = hooked(kind, sizes)
    lenses = ("tokens", "stages:kl-all", "stages:weights")
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS[1:2], lenses=lenses)

    def figures(step):
        run.record(step)
        reader = RunReader(tmp_path / "run")
        return reader.info.prompts[0].ids, reader.figures(reader.steps[-1])

    ids, found = figures(0)
    start = by_hand(model, ids)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1.3)
    sizes[0] = after
    ids, found = figures(1)
    now = by_hand(model, ids)
    figure = found["0/stages:kl-all"]
    if figure.verdict.status == "verified":
        want = (now.exp() * (now - start)).sum(-1).numpy()
        np.testing.assert_allclose(figure.values, want, atol=1e-5)
    else:
        assert figure.verdict.status == "refused"
        assert "the copy of the start" in figure.verdict.reason
    changes_in_copy = kind == "class" and before != after
    refused = changes_in_copy or (kind != "class" and before != 1.0)
    assert (figure.verdict.status == "refused") == refused
    assert found["0/tokens"].verdict.status == "verified"
    assert np.nanmax(found["model/stages:weights"].values) > 0.1


def test_a_function_patched_after_the_start_is_in_the_copy_too(tmp_path, monkeypatch):
    model, tokenizer = town()
    scope = llmscope.wrap(model, tokenizer)
    run = Run(tmp_path / "run", scope, PROMPTS[1:2], lenses=("stages:kl-all",))
    run.record(0)
    silu = torch.nn.functional.silu
    monkeypatch.setattr(torch.nn.functional, "silu", lambda *args, **more: silu(*args, **more) * 2)
    run.record(1)
    reader = RunReader(tmp_path / "run")
    verdicts = [reader.figures(step)["0/stages:kl-all"].verdict for step in reader.steps]
    assert [verdict.status for verdict in verdicts] == ["verified", "refused"]
    assert "functions" in verdicts[1].reason
