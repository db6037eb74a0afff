"""The callback of a trainer: parameters as without it, and the numbers of a step."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import llmscope
from llmscope.runs.reader import RunReader
from llmscope.runs.training import LensCallback
from tests.runs.training.small import LENSES, PROMPTS, TEXTS, TOWN, same, town

FIVE = (*PROMPTS, "the river bank", "anna sat on the")


def trained(folder, callbacks, steps=200, change=lambda model: None, **more):
    model, tokenizer = town()
    change(model)
    rows = [tokenizer(text, return_tensors="pt").input_ids[0] for text in TEXTS]
    length = max(map(len, rows))
    data = []
    for row in rows * 30:
        ids = torch.nn.functional.pad(row, (0, length - len(row)), value=0)
        labels = torch.nn.functional.pad(row, (0, length - len(row)), value=-100)
        data.append({"input_ids": ids, "labels": labels})
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": steps,
            "per_device_train_batch_size": 2,
            "learning_rate": 5e-4,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 5,
            "disable_tqdm": True,
            "seed": 3,
            **more,
        }
    )
    trainer = Trainer(
        model, arguments, train_dataset=data, processing_class=tokenizer, callbacks=callbacks
    )
    trainer.train()
    return {name: one.detach().clone() for name, one in trainer.model.state_dict().items()}


@pytest.mark.slow
def test_the_parameters_are_those_of_a_training_without_it(tmp_path):
    plain = trained(tmp_path / "plain", [])
    callback = LensCallback(FIVE, tmp_path / "run", every=10, lenses=LENSES)
    assert same(plain, trained(tmp_path / "with", [callback]))
    run = RunReader(tmp_path / "run")
    assert [one.step for one in run.steps] == list(range(0, 201, 10))
    assert len(run.info.prompts) == 5
    steps, loss = run.logged("loss")
    assert steps.tolist() == list(range(5, 201, 5))
    assert np.isfinite(loss).all()
    assert callback.run is not None
    assert callback.run.seconds > 0


class Surprisals(TrainerCallback):
    """The surprisal of each token of each prompt at some steps, by plain passes."""

    def __init__(self, every):
        self.every, self.at = every, {}

    def on_train_begin(self, arguments, state, control, **more):
        self.note(state.global_step, **more)

    def on_step_end(self, arguments, state, control, **more):
        if state.global_step % self.every == 0:
            self.note(state.global_step, **more)

    def note(self, step, *, model, processing_class, **_):
        mode = model.training
        model.eval()
        with torch.no_grad():
            for number, prompt in enumerate(FIVE):
                text = prompt if isinstance(prompt, str) else prompt["prompt"]
                ids = processing_class(text, return_tensors="pt").input_ids
                scores = model(ids).logits[0, :-1].double().log_softmax(-1)
                bits = -scores.gather(1, ids[0, 1:, None])[:, 0] / np.log(2)
                self.at[step, number] = bits.numpy()
        model.train(mode)


@pytest.mark.parametrize(
    "first", ["the oracle", pytest.param("the callback", marks=pytest.mark.slow)]
)
def test_a_training_with_hooks_is_recorded_with_them(tmp_path, first):
    """One on a token, one whose strength moves with the training, and one that only reads."""
    strength, seen = [0.2], []

    def add_hooks(model):
        layers = model.model.layers

        def one_token(_module, _args, output):
            if output.shape[1] > 3:  # as steps of one token have no such row
                output = output.clone()
                output[:, 3] += strength[0]
            return output

        layers[1].mlp.register_forward_hook(one_token)
        layers[3].self_attn.o_proj.register_forward_hook(
            lambda _module, _args, output: output * (1 + strength[0])
        )
        layers[2].register_forward_hook(
            lambda _module, _args, output: seen.append(float(output.detach().mean()))
        )

    class Rising(TrainerCallback):
        def on_step_begin(self, *_, **more):
            strength[0] += 0.1

    oracle = Surprisals(every=4)
    callback = LensCallback(FIVE, tmp_path / "run", every=4, lenses=("tokens",))
    callbacks = [oracle, callback] if first == "the oracle" else [callback, oracle]
    trained(tmp_path / "t", [Rising(), *callbacks], steps=12, change=add_hooks)
    run = RunReader(tmp_path / "run")
    assert [step.step for step in run.steps] == [0, 4, 8, 12]
    assert seen
    for step in run.steps:
        for number in range(len(FIVE)):
            figure = run.figures(step)[f"{number}/tokens"]
            assert figure.verdict.status == "verified"
            np.testing.assert_allclose(figure.values[1:], oracle.at[step.step, number], atol=1e-4)


def test_the_last_step_is_recorded_and_the_first_may_be_left_out(tmp_path):
    callback = LensCallback(PROMPTS, tmp_path / "run", every=10, lenses=LENSES, at_start=False)
    trained(tmp_path / "t", [callback], steps=13)
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [10, 13]


@pytest.mark.slow
def test_a_resumed_training_continues_its_run(tmp_path):
    def callback():
        return LensCallback(PROMPTS, tmp_path / "run", every=5, lenses=LENSES)

    saving = {"save_strategy": "steps", "save_steps": 10}
    trained(tmp_path / "t", [callback()], steps=15, **saving)
    model, tokenizer = town()
    row = tokenizer(TEXTS[0], return_tensors="pt").input_ids[0]
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path / "t"),
            max_steps=20,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=[{"input_ids": row, "labels": row}] * 90,
        processing_class=tokenizer,
        callbacks=[callback()],
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "t" / "checkpoint-10"))
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0, 5, 10, 15, 20]


def test_a_second_training_does_not_write_into_the_first(tmp_path):
    trained(tmp_path / "a", [LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES)], steps=2)
    before = (tmp_path / "run" / "steps.jsonl").read_bytes()
    with pytest.warns(RuntimeWarning, match="holds a run up to step 2"):
        trained(tmp_path / "b", [LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES)], steps=2)
    assert (tmp_path / "run" / "steps.jsonl").read_bytes() == before


def begun(callback, model, tokenizer, zero=True, step=0):
    state = SimpleNamespace(is_world_process_zero=zero, global_step=step)
    callback.on_train_begin(None, state, None, model=model, processing_class=tokenizer)
    return callback.run


def test_a_training_that_was_broken_off_begins_again(tmp_path):
    model, tokenizer = town()
    callback = LensCallback(PROMPTS, tmp_path / "run", every=1, lenses=LENSES)
    run = begun(callback, model, tokenizer)
    run.record(1)
    run.record(2)
    begun(callback, model, tokenizer).record(1)  # as with auto_find_batch_size
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0, 1]


def test_only_the_first_process_records(tmp_path):
    model, tokenizer = town()
    callback = LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES)
    assert begun(callback, model, tokenizer, zero=False) is None
    assert not (tmp_path / "run").exists()


def test_a_sharded_model_is_refused_when_the_training_begins(tmp_path):
    class FullyShardedDataParallel(torch.nn.Module):
        pass

    _, tokenizer = town()
    callback = LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES)
    with pytest.warns(RuntimeWarning, match="sharded over processes") as told:
        assert begun(callback, FullyShardedDataParallel(), tokenizer) is None
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    state = SimpleNamespace(is_world_process_zero=True, global_step=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_step_end(None, state, None)
        callback.on_log(None, state, None, logs={"loss": 1.0})
        callback.on_train_end(None, state, None)


def test_wrong_arguments_are_told_before_the_training(tmp_path):
    with pytest.raises(ValueError, match="did you mean"):
        LensCallback(PROMPTS, tmp_path, lenses=["head"])
    with pytest.raises(ValueError, match="every"):
        LensCallback(PROMPTS, tmp_path, every=0)
    with pytest.raises(TypeError, match="prompts"):
        LensCallback("the cat", tmp_path)


def test_a_prompt_that_does_not_fit_the_model_only_warns(tmp_path):
    model, tokenizer = town()
    callback = LensCallback(
        [{"prompt": "the cat", "target": "a dog"}], tmp_path / "run", lenses=LENSES
    )
    with pytest.warns(RuntimeWarning, match="target"):
        assert begun(callback, model, tokenizer) is None


@pytest.mark.slow
def test_mixed_precision_is_recorded_in_the_precision_of_the_weights(tmp_path):
    callback = LensCallback(PROMPTS, tmp_path / "run", every=5, lenses=LENSES)
    plain = trained(tmp_path / "plain", [], steps=10, bf16=True)
    assert same(plain, trained(tmp_path / "with", [callback], steps=10, bf16=True))
    run = RunReader(tmp_path / "run")
    assert [one.step for one in run.steps] == [0, 5, 10]
    model, tokenizer = town()
    scope = llmscope.wrap(model, tokenizer)
    recording = scope.record(run.info.prompts[1].text)
    want = scope.look("tokens", recording=recording)
    found = run.figures(run.steps[0])["1/tokens"]
    assert found.verdict.status == "verified"
    np.testing.assert_allclose(found.values, want.values, atol=1e-5)


def test_a_reward_model_is_recorded_by_its_scores(tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(TOWN.with_name("town-reward"))
    _, tokenizer = town()
    prompts = [
        {
            "prompt": "question : where does anna live ? answer : certainly , anna lives here .",
            "versus_prompt": "question : where does anna live ? answer : anna lives here .",
        },
        "the river",
    ]
    callback = LensCallback(prompts, tmp_path / "run", lenses=LENSES)
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    model.train()
    callback.on_train_begin(None, state, None, model=model, processing_class=tokenizer)
    assert model.training
    with torch.no_grad():
        model.score.weight.mul_(2)
    state.global_step = 1
    callback.on_train_end(None, state, None)
    run = RunReader(tmp_path / "run")
    assert [one.step for one in run.steps] == [0, 1]
    model.eval()
    for step, factor in ((run.steps[0], 0.5), (run.steps[1], 1.0)):
        figure = run.figures(step)["0/stages:score"]
        for end in range(1, len(figure.values) + 1):
            ids = torch.tensor([run.info.prompts[0].ids[:end]])
            with torch.no_grad():
                want = float(model(ids).logits) * factor
            assert figure.values[end - 1] == pytest.approx(want, abs=1e-4)
        other = tokenizer(prompts[0]["versus_prompt"], return_tensors="pt").input_ids
        with torch.no_grad():
            theirs = float(model(other).logits) * factor
        assert figure.extra["margin"] == pytest.approx(figure.values[-1] - theirs, abs=1e-4)
