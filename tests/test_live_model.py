"""A model that changes under the scope, two scopes, training mode, inference mode, pickling."""

import copy
import io
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.random_state import seeded
from llmscope.scope.scope import Scope
from tests import all_families
from tests.families import small_model
from tests.lenses.asked import options_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = (3, 4, 5, 6, 3, 4, 5)
OTHER = (3, 9, 5, 6, 3, 9, 5)


def loaded_model_of(model, name="llama"):
    return LoadedModel(name, name, model, None, find(model), torch.device("cpu"), torch.float32)


def scope_of(family="llama", **changes):
    return Scope(loaded_model_of(small_model(family, **changes), family))


def own_logits(scope, ids):
    with torch.no_grad():
        return scope.model(torch.tensor([ids])).logits[0, -1]


def zero(scope):
    with torch.no_grad():
        scope.model.model.layers[1].mlp.down_proj.weight.zero_()


class TestAModelThatChanges:
    def test_the_same_prompt_runs_again(self):
        scope = scope_of()
        before = scope.record(IDS)
        zero(scope)
        after = scope.record(IDS)
        assert (after.ran, after.reused) == (len(IDS), 0)
        assert torch.allclose(after.logits, own_logits(scope, IDS), atol=1e-5)
        assert not torch.allclose(after.logits, before.logits, atol=1e-2)

    def test_one_token_more_mixes_no_old_keys_with_new_weights(self):
        scope = scope_of()
        scope.record(IDS)
        zero(scope)
        after = scope.record((*IDS, 8))
        assert torch.allclose(after.logits, own_logits(scope, (*IDS, 8)), atol=1e-5)

    def test_the_change_is_told_once_and_named(self):
        scope = scope_of()
        assert scope.record(IDS).prompt.notices == ()
        zero(scope)
        (notice,) = scope.record(IDS).prompt.notices
        assert "the model changed since the last pass (weights)" in notice
        assert scope.record(IDS).prompt.notices == ()

    def test_frequencies_that_each_pass_chooses_by_its_length_are_no_change(self):
        rope = {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 20,
        }
        rope |= {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
        scope = scope_of("phi3", rope_parameters=rope, original_max_position_embeddings=20)
        before = scope.record(IDS)
        for count in (7, 30, 7):  # of both sides of the border
            own_logits(scope, [7] * count)
            after = scope.record(IDS)
            assert (after.ran, after.reused, after.prompt.notices) == (0, len(IDS), ())
            assert scope.look("next-token", recording=before).verdict.status == "verified"
            assert torch.allclose(after.logits, own_logits(scope, IDS), atol=1e-5)
        scope.model.model.rotary_emb.original_inv_freq.mul_(2)
        changed = scope.record(IDS)
        assert (changed.ran, changed.reused) == (len(IDS), 0)
        assert torch.allclose(changed.logits, own_logits(scope, IDS), atol=1e-5)

    def test_the_change_is_told_though_the_verdicts_were_asked_for_first(self):
        scope = scope_of()
        scope.record(IDS)
        zero(scope)
        scope.verdicts("writes")
        assert scope.record(IDS).prompt.notices

    @pytest.mark.parametrize("name", ["next-token", "ablation", "attention", "stages"])
    def test_a_look_at_what_was_recorded_before_is_refused(self, name):
        scope = scope_of()
        recording = scope.record(IDS)
        scope.look("ablation", target=7)
        kept = str(recording.memo)
        zero(scope)
        for figure in (scope.look(name), scope.look(name, recording=recording)):
            assert figure.verdict.status == "refused"
            assert "the model changed since this was recorded" in figure.verdict.reason
        assert str(recording.memo) == kept

    def test_a_sweep_stops_where_the_model_changes_between_two_of_its_figures(self):
        from llmscope.figure import Focus

        scope = scope_of()
        recording = scope.record(IDS)
        figures = scope.figures("ablation", recording, Focus(target=7))
        assert next(figures).verdict.status != "refused"
        zero(scope)
        (last,) = figures
        assert "the model changed" in last.verdict.reason

    def test_neither_a_base_nor_prompt_b_nor_what_was_put_aside_is_used_again(self):
        scope = scope_of()
        edits = ["patch stream 1 from B", "zero head 2.0"]
        scope.record(IDS, edits=edits, versus_prompt=OTHER)
        aside = scope.record((*IDS, 8))
        scope.model.model.layers[0].self_attn.o_proj.weight.data += 0.1
        recording = scope.record(IDS, edits=edits, versus_prompt=OTHER, aside=[aside])
        fresh = Scope(loaded_model_of(copy.deepcopy(scope.model)))
        expected = fresh.record(IDS, edits=edits, versus_prompt=OTHER)
        assert torch.allclose(recording.logits, expected.logits, atol=1e-5)
        assert recording.base.ran == len(IDS)

    def test_verdicts_are_measured_anew(self):
        scope = scope_of()
        scope.record(IDS)
        assert scope.verdicts("activations", 1).status == "verified"
        layer = scope.model.model.layers[1]
        layer.mlp.register_forward_hook(lambda module, args, output: output + 1)
        assert scope.verdicts("activations", 1).status == "refused"
        scope.record(IDS)
        assert scope.look("neurons", layer=1).verdict.status == "refused"

    def test_modules_that_come_are_found(self):
        peft = pytest.importorskip("peft")
        scope = scope_of()
        scope.record(IDS)
        config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        tuned = peft.get_peft_model(scope.model, config)
        tuned.eval()
        for change in (tuned.base_model.merge_adapter, tuned.base_model.unmerge_adapter, None):
            recording = scope.record((*IDS, 8))
            assert torch.allclose(recording.logits, own_logits(scope, (*IDS, 8)), atol=1e-4)
            assert scope.look("attention", layer=1).verdict.status == "verified"
            assert scope.look("neurons", layer=1).verdict.status == "verified"
            if change is not None:
                change()
                assert scope.look("attention", layer=1).verdict.status == "refused"

    def test_what_was_measured_once_for_all_prompts_is_measured_anew(self):
        scope = scope_of()
        scope.record(IDS)
        before = scope.look("heads").values
        with torch.no_grad():
            scope.model.model.layers[1].self_attn.q_proj.weight.mul_(3)
        scope.record(IDS)
        after = scope.look("heads").values
        fresh = Scope(loaded_model_of(copy.deepcopy(scope.model)))
        fresh.record(IDS)
        assert not np.allclose(before, after, atol=1e-3, equal_nan=True)
        assert np.allclose(after, fresh.look("heads").values, atol=1e-5, equal_nan=True)

    def test_the_weights_that_an_adapter_shares_are_watched_too(self, tmp_path):
        peft = pytest.importorskip("peft")
        from llmscope.models.loading.load import with_adapter

        scope = scope_of()
        config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        peft.get_peft_model(small_model("llama"), config).save_pretrained(str(tmp_path / "one"))
        scope.add(with_adapter(scope.base, tmp_path / "one", "one"))
        scope.use("one")
        scope.record(IDS)
        with torch.no_grad():
            scope.base.module.model.layers[0].mlp.up_proj.weight.mul_(1.5)
        recording = scope.record((*IDS, 8))
        assert torch.allclose(recording.logits, own_logits(scope, (*IDS, 8)), atol=1e-5)
        assert recording.prompt.notices

    def test_fresh_reads_every_value(self):
        scope = scope_of()
        scope.record(IDS, fresh=True)
        scope.model.model.layers[1].mlp.down_proj.weight.data[1, 1] += 5
        assert "weights" in scope.record(IDS, fresh=True).prompt.notices[0]

    def test_a_model_that_moves_to_another_dtype_is_followed(self):
        scope = scope_of()
        scope.record(IDS)
        scope.model.to(torch.float64)
        assert scope.record(IDS).logits.dtype == torch.float64
        assert scope.loaded_model.dtype == torch.float64


class TestTwoScopes:
    def test_a_recording_of_another_scope_is_refused_and_keeps_nothing(self):
        one, two = scope_of(), scope_of(seed=1)
        recording = one.record(IDS)
        two.record(IDS)
        kept = str(recording.memo)
        for name in ("ablation", "patching", "contrast", "stages", "next-token"):
            with pytest.raises(ScopeError, match="another scope"):
                two.look(name, recording=recording, **options_for(name, versus_prompt=OTHER))
        with pytest.raises(ScopeError, match="another scope"):
            two.look("next-token", recording=recording, versus_prompt=OTHER, change=True)
        with pytest.raises(ScopeError, match="another scope"):
            two.record(OTHER, aside=[recording])
        assert str(recording.memo) == kept

    def test_one_model_in_two_scopes_is_one_model(self):
        one = scope_of()
        two = Scope(one.loaded_model)
        recording = one.record(IDS)
        assert two.look("ablation", recording=recording, target=7).verdict.status != "refused"
        zero(two)
        two.record(IDS)
        assert "the model changed" in one.look("next-token").verdict.reason
        assert torch.allclose(one.record(IDS).logits, own_logits(one, IDS), atol=1e-5)


class TestTrainingMode:
    @pytest.mark.parametrize("family", ["gpt2", "opt"])
    def test_dropout_is_refused_by_a_reason_that_says_what_to_do(self, family):
        scope = scope_of(family)
        recording = scope.record(IDS)
        scope.model.train()
        for ask in (lambda: scope.record(IDS), lambda: scope.verdicts("writes")):
            with pytest.raises(ScopeError, match="training mode, and two passes") as refused:
                ask()
            assert "model.eval()" in refused.value.hint
        for name in ("saliency", "ablation", "next-token"):
            assert scope.look(name, recording=recording).verdict.status == "refused"
        scope.model.eval()
        assert torch.allclose(scope.record(IDS).logits, own_logits(scope, IDS), atol=1e-5)

    def test_functional_dropout_in_one_part_is_refused(self):
        scope = scope_of("llama", attention_dropout=0.3)
        scope.record(IDS)
        scope.model.model.layers[1].self_attn.train()
        with pytest.raises(ScopeError, match="training mode"):
            scope.record(IDS)

    def test_training_mode_that_changes_nothing_is_recorded(self):
        scope = scope_of("llama")
        scope.model.train()
        assert torch.allclose(scope.record(IDS).logits, own_logits(scope, IDS), atol=1e-5)
        assert scope.look("attention", layer=1).verdict.status == "verified"

    def test_a_hook_that_adds_noise_is_refused(self):
        scope = scope_of()
        scope.record(IDS)
        scope.model.model.layers[0].mlp.register_forward_hook(
            lambda module, args, output: output + torch.randn_like(output)
        )
        with pytest.raises(ScopeError, match="random"):
            scope.record(IDS)


DRAWS = {
    "torch": lambda rows: torch.nn.functional.dropout(rows, 0.2, training=True),
    "Python": lambda rows: rows * random.uniform(0.5, 1.5),
    "NumPy": lambda rows: rows * float(np.random.uniform(0.5, 1.5)),
}


class TestRandomNumbers:
    """Models whose forward draws random numbers though it is in evaluation mode."""

    def test_a_random_hash_is_refused(self):
        scope = Scope(loaded_model_of(all_families.small_model("reformer", hash_seed=None)))
        with pytest.raises(ScopeError, match="draws random numbers") as refused:
            scope.record(IDS)
        assert "hash_seed" in refused.value.hint

    def test_a_hash_with_a_seed_is_recorded(self):
        scope = Scope(loaded_model_of(all_families.small_model("reformer", hash_seed=3)))
        ids = [(5 * at + 3) % 90 for at in range(48)]
        own = scope.model(input_ids=torch.tensor([ids])).logits[0, -1]
        assert torch.allclose(scope.record(ids).logits, own, atol=1e-5)

    LONG = tuple((5 * at + 3) % 90 for at in range(210))

    def drawing(self, draw, when):
        """A model whose MLP draws random numbers where its input is of some form."""
        model = small_model("llama", max_position_embeddings=512)
        mlp = model.model.layers[1].mlp
        own = type(mlp)

        class Drawing(own):
            def forward(self, rows):
                written = super().forward(rows)
                return draw(written) if when(rows) else written

        mlp.__class__ = Drawing
        return Scope(loaded_model_of(model))

    @pytest.mark.parametrize("source", DRAWS)
    def test_numbers_drawn_in_long_prompts_alone_are_unverified(self, source):
        scope = self.drawing(DRAWS[source], lambda rows: rows.shape[-2] > 200)
        for lens in ("next-token", "logit-lens", "ablation", "residual"):
            scope.record(IDS)
            assert (
                scope.look(lens, **options_for(lens, layer=1, target=7)).verdict.status
                == "verified"
            )
            scope.record(self.LONG)
            verdict = scope.look(lens, **options_for(lens, layer=1, target=7)).verdict
            assert verdict.status == "unverified", lens
            assert "drew random numbers" in verdict.reason
        scope.record(IDS, fresh=True)
        assert scope.look("next-token").verdict.status == "verified"

    @pytest.mark.parametrize("source", DRAWS)
    def test_numbers_drawn_in_the_passes_of_a_lens_alone_were_not_compared(self, source):
        scope = self.drawing(DRAWS[source], lambda rows: rows.dim() == 3 and len(rows) > 1)
        scope.record(IDS)
        verdict = scope.look("ablation", target=7).verdict
        assert verdict.status == "unverified"
        assert "drew random numbers" in verdict.reason
        assert "not compared" in verdict.reason

    @pytest.mark.parametrize("source", DRAWS)
    def test_numbers_drawn_for_nothing_in_long_prompts_are_no_reason(self, source):
        draw = DRAWS[source]
        scope = self.drawing(lambda rows: (draw(rows), rows)[1], lambda rows: rows.shape[-2] > 200)
        scope.record(self.LONG)
        assert scope.look("next-token").verdict.status == "verified"
        assert scope.look("ablation", target=7).verdict.status == "verified"

    def test_the_generators_of_the_user_go_on_where_they_were(self):
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        own = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        with seeded(torch.device("cpu"), 1):
            drawn = random.random(), np.random.random(), float(torch.rand(()))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == own[:2]
        assert torch.equal(torch.get_rng_state(), own[2])
        with seeded(torch.device("cpu"), 1):
            assert drawn == (random.random(), np.random.random(), float(torch.rand(())))

    def test_numbers_drawn_for_nothing_are_no_reason(self):
        """BigBird initializes another attention in its first short pass, then loads its weights."""
        scopes = [Scope(loaded_model_of(all_families.small_model("big_bird"))) for _ in range(2)]
        before = torch.get_rng_state()
        own = own_logits(scopes[0], IDS)
        assert not torch.equal(before, torch.get_rng_state())
        assert torch.allclose(scopes[1].record(IDS).logits, own, atol=1e-5)


class TestInferenceMode:
    LENSES = ("next-token", "saliency", "attribution", "ablation", "attention", "walkthrough")

    def test_what_is_made_within_equals_what_is_made_outside(self):
        outside = scope_of()
        outside.record(IDS)
        within = Scope(loaded_model_of(copy.deepcopy(outside.model)))
        with torch.inference_mode():
            recording = within.record(IDS)
            figures = {
                name: within.look(name, **options_for(name, layer=1, target=7))
                for name in self.LENSES
            }
            edited = within.record(IDS, edits=["zero head 1.1"])
            going_on = within.record((*IDS, 8))
        assert not recording.logits.is_inference()
        assert torch.equal(recording.logits, outside.record(IDS, fresh=True).logits)
        for name, figure in figures.items():
            outside.record(IDS, fresh=True)
            other = outside.look(name, **options_for(name, layer=1, target=7))
            assert figure.verdict.status == other.verdict.status, name
            assert np.allclose(figure.values, other.values, atol=1e-6, equal_nan=True), name
        again = outside.record(IDS, edits=["zero head 1.1"])
        assert torch.allclose(edited.logits, again.logits, atol=1e-6)
        assert torch.allclose(going_on.logits, outside.record((*IDS, 8)).logits, atol=1e-5)
        assert within.look("saliency", recording=going_on, target=7).verdict.status != "refused"

    def test_weights_that_were_made_within_take_no_gradients_and_say_so(self):
        with torch.inference_mode():
            model = small_model("llama")
        assert next(model.parameters()).is_inference()
        scope = Scope(loaded_model_of(model))
        recording = scope.record(IDS)
        assert torch.allclose(recording.logits, own_logits(scope, IDS), atol=1e-5)
        for name in ("saliency", "attribution"):
            verdict = scope.look(name, target=7).verdict
            assert verdict.status == "refused"
            assert "inference_mode" in verdict.reason
        assert scope.look("ablation", target=7).verdict.status != "refused"

    def test_the_mode_of_the_caller_stays(self):
        scope = scope_of()
        with torch.inference_mode():
            recording = scope.record(IDS)
            from llmscope.figure import Focus

            for _ in scope.figures("ablation", recording, Focus(target=7)):
                assert torch.is_inference_mode_enabled()
        assert not torch.is_inference_mode_enabled()


class TestPickling:
    @pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
    def test_what_belongs_to_a_live_model_says_what_to_do_instead(self, copied):
        scope = scope_of()
        for one in (scope.record(IDS), scope, scope.loaded_model):
            with pytest.raises(TypeError, match=r"figure\.save"):
                copied(one)

    def test_the_model_itself_and_figures_can_be(self):
        scope = scope_of()
        scope.record(IDS)
        figure = scope.look("next-token")
        buffer = io.BytesIO()
        torch.save(scope.model, buffer)
        buffer.seek(0)
        again = torch.load(buffer, weights_only=False)
        assert isinstance(again, nn.Module)
        assert torch.equal(again(torch.tensor([IDS])).logits[0, -1], own_logits(scope, IDS))
        assert np.array_equal(pickle.loads(pickle.dumps(figure)).values, figure.values)
        assert copy.deepcopy(scope.model) is not scope.model
