"""Fitted Jacobians against models whose Jacobian is known, differences, and one another."""

import math
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens.corpus import CorpusRules, corpus
from llmscope.jobs.fit_lens.estimators import Estimator
from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit, fit_jacobian
from llmscope.jobs.fit_lens.jacobian import batch_for, jacobian_rows
from llmscope.jobs.fit_lens.merge import merge_lenses
from llmscope.jobs.fit_lens.running_mean import RunningMean
from llmscope.learned.lenses.reader import read_lens
from llmscope.learned.lenses.writer import write_lens
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.family_matrix import scope_of
from tests.learned.texts import TEXTS
from tests.lenses.test_experts import IDS, scope_on
from tests.runs.training.small import town as loaded_town

RULES = CorpusRules(skip=2, length=20, held_out=0)
pytestmark = pytest.mark.xdist_group("fits")
CPU = torch.device("cpu")


class Mixing(nn.Module):
    """A linear layer on the tokens: each adds a matrix times itself, or the mean up to it."""

    def __init__(self, weight, mixes):
        super().__init__()
        self.weight, self.mixes = weight, mixes

    def forward(self, hidden_states, **_):
        return hidden_states + averaged(hidden_states, self.mixes) @ self.weight.T


def averaged(rows, mixes):
    count = torch.arange(1, rows.shape[-2] + 1, dtype=rows.dtype)
    return rows.cumsum(-2) / count[:, None] if mixes else rows


def linear_scope(mixes):
    """A model whose layers are linear, and their matrices."""
    model, generator = small_model("llama"), torch.Generator().manual_seed(3)
    weights = [torch.randn(48, 48, generator=generator) / 10 for _ in range(3)]
    for at, weight in enumerate(weights):
        model.model.layers[at] = Mixing(weight, mixes)
    return Scope(LoadedModel("test", "test", model, None, find(model), CPU, torch.float32)), weights


def rows_of(scope, ids, places, streams, cotangents, batch=7):
    with scope.unchanged():
        return jacobian_rows(scope.recorder, ids, places, streams, cotangents, batch)


def test_of_layers_that_keep_tokens_apart_it_is_the_product_of_their_matrices():
    scope, weights = linear_scope(mixes=False)
    found = rows_of(scope, IDS, range(2, len(IDS) - 1), [1, 2], torch.eye(48))
    eye = torch.eye(48)
    last = eye + weights[2]
    assert torch.allclose(found[2], last, atol=1e-5)
    assert torch.allclose(found[1], last @ (eye + weights[1]), atol=1e-5)
    assert not torch.allclose(found[1], found[2], atol=1e-2)


def test_effects_on_later_tokens_are_summed_and_sources_averaged():
    scope, weights = linear_scope(mixes=True)
    places, count = range(2, len(IDS) - 1), len(IDS)
    found = rows_of(scope, IDS, places, [1, 2], torch.eye(48))
    whole = torch.eye(count * 48)
    means = averaged(torch.eye(count), True)  # [token, token]
    for stream in (2, 1):
        layer = torch.eye(count * 48) + torch.kron(means, weights[stream])
        whole = whole @ layer
        blocks = whole.view(count, 48, count, 48)  # [t', out, t, in]
        expected = sum(
            blocks[later, :, source, :] for source in places for later in places if later >= source
        ) / len(places)
        assert torch.allclose(found[stream], expected, atol=1e-5)


@pytest.mark.few(3)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mixtral", "mamba", "falcon_h1"])
def test_it_is_the_difference_that_a_step_of_all_sources_makes(family):
    """Steps at all sources at once: their effects add up, and attention is causal."""
    experts = family == "mixtral"  # whose products take no doubles
    scope, model = scope_on(family), small_model(family)
    model = model if experts else model.double()
    places = range(1, len(IDS) - 1)
    generator = torch.Generator().manual_seed(5)
    direction, cotangent = torch.randn(2, 48, generator=generator, dtype=torch.float64)
    if experts:
        direction, cotangent = direction.float(), cotangent.float()
    found = rows_of(scope, IDS, places, [1, 2], cotangent.float()[None], batch=1)
    anatomy = find(model)

    def last(stream, size):
        def step(_, args, kwargs):
            rows = (args[0] if args else kwargs["hidden_states"]).clone()
            rows[:, list(places)] += size * direction
            return (
                ((rows, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": rows})
            )

        kept = []
        hooks = [
            anatomy.layers[stream].module.register_forward_pre_hook(step, with_kwargs=True),
            anatomy.layers[-1].module.register_forward_hook(
                lambda _, __, out: kept.append(out if isinstance(out, torch.Tensor) else out[0])
            ),
        ]
        with torch.no_grad():
            model(input_ids=torch.tensor([IDS]), use_cache=False)
        for hook in hooks:
            hook.remove()
        return kept[0].reshape(len(IDS), -1)[list(places)].sum(0) @ cotangent

    for stream in (1, 2):
        size = 1e-2 if experts else 2e-3  # norms compute in float32 whatever the model is
        expected = (last(stream, size) - last(stream, -size)) / (2 * size * len(places))
        assert float(found[stream][0].to(direction) @ direction) == pytest.approx(
            float(expected), rel=2e-3, abs=2e-3
        )


def test_the_batch_of_copies_changes_nothing():
    scope = scope_on("llama")
    places = range(2, len(IDS) - 1)
    one, more = (rows_of(scope, IDS, places, [1, 2], torch.eye(48), batch) for batch in (1, 20))
    for stream in (1, 2):
        assert torch.allclose(one[stream], more[stream], atol=1e-6)


def test_nothing_is_left_on_the_model():
    model = small_model("llama").train()
    for at, one in enumerate(model.parameters()):
        one.requires_grad_(at % 2 == 0)
    before = [(one.requires_grad, one.grad) for one in model.parameters()]
    scope = llmscope.wrap(model)
    rows_of(scope, IDS, range(2, 6), [1, 2], torch.eye(48))
    assert [(one.requires_grad, one.grad) for one in model.parameters()] == before
    assert model.training
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


# The mean over prompts, its error, and what interrupts it


@pytest.fixture(scope="module")
def town():
    with llmscope.load("builtin:town") as scope:
        yield scope


def jacobians(town, texts):
    """The Jacobian of layer 1 for each of some prompts. [prompt, width, width]"""
    prompts = list(corpus(town, texts, RULES))
    found = [rows_of(town, one.ids, one.places, [2], torch.eye(96), 32)[2] for one in prompts]
    return torch.stack(found)


@pytest.fixture(scope="module")
def each(town):
    return jacobians(town, TEXTS)


def estimate(each, chosen, estimator):
    """The running mean over some prompts, from their exact Jacobians."""
    running = RunningMean.of([2], 96)
    for number in chosen:
        turn = running.prompts
        products = estimator.cotangents(turn, 96) @ each[number]
        rows = estimator.rows(turn, 96)
        running.add({2: estimator.estimate(turn, products)}, rows, number)
    return running


ESTIMATORS = {
    "exact": Estimator("exact", 96),
    "rows": Estimator("rows", 48),
    "rademacher": Estimator("rademacher", 48),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_are_off_by_what_the_standard_error_says(each, name):
    """Root mean square over draws with replacement, for which the mean of all is the truth."""
    truth, ratios = each.mean(0), {}
    for count in (6, 24):
        off, said = [], []
        for seed in range(24):
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randint(len(each), (count,), generator=generator).tolist()
            running = estimate(each, chosen, replace(ESTIMATORS[name], seed=seed))
            mean = running.mean(2)
            off.append(float((mean - truth).norm() / truth.norm()) ** 2)
            said.append((running.error(2) * float(mean.norm() / truth.norm())) ** 2)
        ratios[count] = sum(off) / len(off)
        assert 0.75 < math.sqrt(sum(off) / sum(said)) < 1.33
    # Four times the prompts, half the error.
    assert math.sqrt(ratios[6] / ratios[24]) == pytest.approx(2, rel=0.2)


@pytest.mark.slow
def test_at_equal_backwards_all_rows_of_fewer_prompts_are_the_most_exact(each):
    truth, found = each.mean(0), {}
    for name, backwards, count in (("exact", 96, 4), ("rows", 24, 16), ("rademacher", 24, 16)):
        off = []
        for seed in range(16):
            order = torch.randperm(len(each), generator=torch.Generator().manual_seed(seed))
            estimator = Estimator(name, backwards, seed)
            mean = estimate(each, order[:count].tolist(), estimator).mean(2)
            off.append(float((mean - truth).norm() / truth.norm()))
        found[name] = sum(off) / len(off)
    assert found["exact"] < 1.1 * found["rows"]
    assert 2 * found["exact"] < found["rademacher"]


FEW = TEXTS[:9]


def fit_of(town, **more):
    return fit_jacobian(town, FEW, JacobianFit(RULES, **more))


@pytest.mark.slow
def test_the_lens_is_the_mean_over_prompts_that_count_alike(town):
    lens = fit_of(town)
    assert lens.about["n_prompts"] == 9
    assert torch.allclose(lens.maps[2].weight, jacobians(town, FEW).mean(0), atol=1e-6)
    assert sorted(lens.maps) == [1, 2, 3, 4, 5]
    assert lens.held_out is None


class Interrupted(Exception):
    """Ends a fit."""


@pytest.mark.slow
def test_a_fit_goes_on_where_it_was_interrupted_to_the_same_bits(town, tmp_path, monkeypatch):
    monkeypatch.setattr("llmscope.jobs.state.SAVED_EVERY", 0.0)
    monkeypatch.setattr("llmscope.jobs.state.SAVING_SHARE", 0.0)
    whole, done = fit_of(town), []

    def stop(state):
        done.append(state.prompts)
        if state.prompts == 5:
            raise Interrupted

    path = tmp_path / "sums"
    fit = JacobianFit(RULES, checkpoint=path)
    with pytest.raises(Interrupted):
        fit_jacobian(town, FEW, fit, stop)
    again = fit_jacobian(town, FEW, fit, lambda state: done.append(state.prompts))
    assert done == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    for stream, own in whole.maps.items():
        assert torch.equal(again.maps[stream].weight, own.weight)
    assert again.about == whole.about
    with pytest.raises(
        ScopeError,
        match=r"was begun with other options \(skip_first_positions: \d+ there, \d+ here",
    ):
        fit_jacobian(town, FEW, replace(fit, rules=replace(RULES, skip=3)))


@pytest.mark.slow
def test_shards_merge_to_the_whole(town):
    whole = fit_of(town)
    shards = [
        fit_jacobian(town, FEW, JacobianFit(replace(RULES, shard=at, shards=3))) for at in range(3)
    ]
    found = merge_lenses(shards)
    assert [one.about["n_prompts"] for one in shards] == [3, 3, 3]
    assert found.about["n_prompts"] == 9
    for stream, own in whole.maps.items():
        assert torch.allclose(found.maps[stream].weight, own.weight, atol=1e-6)
    for layer, error in found.about["standard_error"].items():
        assert error == pytest.approx(whole.about["standard_error"][layer], rel=0.3)
    with pytest.raises(ScopeError, match="two of them are shard 0/3"):
        merge_lenses([shards[0], shards[0]])
    other = fit_jacobian(town, TEXTS[:3], JacobianFit(replace(RULES, skip=3, shard=1, shards=3)))
    with pytest.raises(ScopeError, match="is of another skip_first_positions"):
        merge_lenses([shards[0], other])


def test_other_prompts_than_those_of_a_checkpoint_are_refused(town, tmp_path):
    fit = JacobianFit(replace(RULES, held_out=4), checkpoint=tmp_path / "sums")
    fit_jacobian(town, FEW[:5], fit)
    with pytest.raises(ScopeError, match="not those that the checkpoint was made of"):
        fit_jacobian(town, ["anna has a cat and the cat is white .", *FEW[1:]], fit)


def test_backwards_beyond_the_rows_are_refused(town):
    with pytest.raises(ScopeError, match="there are 96 rows, and 144 backwards"):
        fit_of(town, estimator="rows", backwards=144)
    with pytest.raises(ScopeError, match="exact takes all rows"):
        fit_of(town, backwards=3)


@pytest.mark.parametrize("family", ["cpmant", "hrm_text", "xlnet"])
def test_streams_of_another_form_are_refused(family):
    """Soft prompts, layers that run twice, other shapes: no Jacobian of them is fitted."""
    scope = scope_of(family)
    width = scope.loaded_model.anatomy.width
    with pytest.raises(ScopeError, match=r"runs more than once|one stream for each token"):
        rows_of(scope, IDS, range(1, len(IDS) - 1), [1], torch.eye(width), 2)


def test_every_shard_gets_prompts_whatever_is_held_out(town):
    counts = []
    for at in range(3):
        rules = replace(RULES, held_out=3, shard=at, shards=3)
        prompts = list(corpus(town, TEXTS[:30], rules))
        counts.append(sum(not one.held_out for one in prompts))
    assert sum(counts) == 20
    assert max(counts) - min(counts) <= 1
    with pytest.raises(ScopeError, match="every prompt that counts is held out"):
        fit_jacobian(town, FEW, JacobianFit(replace(RULES, held_out=1)))


def test_shards_hold_the_same_prompts_out(town):
    held = []
    for at in range(3):
        rules = replace(RULES, held_out=4, shard=at, shards=3)
        prompts = list(corpus(town, FEW, rules))
        held.append([one.number for one in prompts if one.held_out])
        assert not {one.number for one in prompts if not one.held_out} & {0, 4, 8}
    assert held == [[0, 4, 8]] * 3


def test_it_stops_where_the_error_is_small_enough(town):
    lens = fit_of(town, error=0.35)
    assert 2 <= lens.about["n_prompts"] < 9
    assert max(lens.about["standard_error"].values()) <= 0.35
    fewer = fit_of(town, prompts=lens.about["n_prompts"] - 1)
    errors = fewer.about["standard_error"]
    assert errors is None or max(errors.values()) > 0.35


def test_what_does_not_count_is_told(town):
    with pytest.raises(ScopeError, match="no prompt is long enough: each needs 18 tokens or more"):
        fit_jacobian(town, ["anna has a cat ."], JacobianFit())
    with pytest.raises(ScopeError, match="leaves none"):
        fit_jacobian(town, TEXTS, JacobianFit(replace(RULES, skip=30)))
    with pytest.raises(ScopeError, match="do not give every row"):
        fit_of(town, estimator="rows", backwards=2)


@pytest.mark.slow
@pytest.mark.endurance
def test_a_killed_command_goes_on(tmp_path):
    """`kill -9` in the middle of a fit; the same command again gives what one run gives."""
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 2))
    words = [
        *(sys.executable, "-c"),
        "import sys, llmscope.jobs.state as m; m.SAVED_EVERY = m.SAVING_SHARE = 0.0;"
        "from llmscope.cli.app import app; app(sys.argv[1:])",
        *("fit", "jacobian", "builtin:town", "--prompts", str(tmp_path / "texts.txt")),
        *("--skip", "2", "--held-out", "0", "--float32", "--out"),
    ]
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    subprocess.run([*words, str(whole)], check=True, capture_output=True)
    partial, kills = tmp_path / "killed.safetensors.partial", 0
    for _ in range(3):
        program = subprocess.Popen([*words, str(killed)], stdout=subprocess.DEVNULL)
        before = partial.read_bytes() if partial.exists() else b""
        while program.poll() is None:
            if partial.exists() and partial.read_bytes() != before:
                time.sleep(0.3)
                program.kill()
                kills += program.wait() < 0
            time.sleep(0.01)
    assert kills
    subprocess.run([*words, str(killed)], check=True, capture_output=True)
    assert not partial.exists()
    one, other = (read_lens(str(path)) for path in (whole, killed))
    for stream, own in one.maps.items():
        assert torch.equal(own.weight, other.maps[stream].weight)


def test_what_is_fitted_is_what_is_written(town, tmp_path):
    lens = town.fit_lens(FEW, skip=2, length=24, held_out=4)
    assert lens.held_out is not None
    for name in ("lens.pt", "lens.safetensors"):
        write_lens(lens, tmp_path / name, "float32")
        found = read_lens(str(tmp_path / name))
        assert found.held_out == lens.held_out
        assert found.about["standard_error"] == lens.about["standard_error"]
    town.record("anna has a cat . the cat says")
    whole = town.look("logit-lens", translator=lens)
    again = town.look("logit-lens", translator=str(tmp_path / "lens.pt"))
    assert (whole.values == again.values).all()


def test_arguments_of_fit_lens_are_checked(town):
    with pytest.raises(TypeError, match="prompts must be a list of texts"):
        town.fit_lens("one text")
    with pytest.raises(ValueError, match="kind must be jacobian or tuned"):
        town.fit_lens(TEXTS, "other")
    with pytest.raises(TypeError, match=r"prompts\[0\]"):
        town.fit_lens([3])


def test_a_batch_fits_the_room():
    recorder = scope_on("llama").recorder
    assert batch_for(recorder, 10_000, 48) == 1
    assert batch_for(recorder, 1, 48) == 48


def test_a_checkpoint_of_the_model_in_another_state_is_refused(tmp_path):
    model, tokenizer = loaded_town()
    factors = [1.0]
    model.model.layers[1].mlp.register_forward_hook(lambda _m, _a, out: out * factors[0])
    scope = llmscope.wrap(model, tokenizer)
    fit = JacobianFit(RULES, "rademacher", 4, checkpoint=tmp_path / "sums")
    whole = fit_jacobian(scope, FEW[:5], replace(fit, checkpoint=None))
    fit_jacobian(scope, FEW[:3], fit)
    factors[0] = 2.0
    with pytest.raises(ScopeError, match="with the model in another state"):
        fit_jacobian(scope, FEW[:5], fit)
    factors[0] = 1.0
    again = fit_jacobian(scope, FEW[:5], fit)
    for stream, own in whole.maps.items():
        assert torch.equal(again.maps[stream].weight, own.weight)


@pytest.mark.parametrize("kind", ["jacobian", "tuned"])
def test_streams_that_are_not_read_as_the_model_reads_them_are_refused(kind):
    """A hook on the final norm of long prompts: the probe is too short to show it."""
    model, tokenizer = loaded_town()

    def hook(_module, _args, output):
        return output * 1.5 if output.dim() == 3 and output.shape[1] > 14 else None

    model.model.norm.register_forward_hook(hook)
    scope = llmscope.wrap(model, tokenizer)
    with pytest.raises(ScopeError, match=r"of 20 tokens cannot be read, with a hook on model.norm"):
        scope.fit_lens([TEXTS[0] * 4] * 4, kind, skip=2, length=20, held_out=2)


def test_a_lens_of_a_file_is_not_verified_on_a_model_with_a_hook(town, tmp_path):
    path = tmp_path / "lens.safetensors"
    write_lens(fit_jacobian(town, FEW, JacobianFit(replace(RULES, held_out=2))), path)
    model, tokenizer = loaded_town()
    model.model.layers[1].register_forward_hook(lambda _m, _a, out: out * 1.5)
    scope = llmscope.wrap(model, tokenizer)
    scope.record(TEXTS[0])
    verdict = scope.look("logit-lens", translator=str(path)).verdict
    assert verdict.status == "partial"
    assert "measured without a hook on model.layers.1" in verdict.reason
