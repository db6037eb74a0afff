"""A walk: somebody edits the prompt and changes the live model, in any order.

After each step every number equals that of the model itself, run once without llmscope, and now
and then all of it that of a fresh scope on a copy of the model.
"""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.lenses.asked import options_for

LENSES = ("logit-lens", "attention", "ablation", "attribution", "saliency", "next-token")
EDITS = ([], [], ["zero head 1.1"], ["scale mlp 1 0.5", "zero attention 2"])


def scope_of(model):
    device, dtype = torch.device("cpu"), torch.float32
    return Scope(LoadedModel("test", "test", model, None, find(model), device, dtype))


def with_adapters(model):
    """A model with two LoRA adapters in it, and what switches them."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    tuned = peft.get_peft_model(model, config, adapter_name="one")
    tuned.add_adapter("two", config)
    return tuned.base_model.model.eval(), tuned.base_model


class Walk:
    """One scope, its model, and all that may be done to it."""

    def __init__(self, family, seed, adapters=False):
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        self.model, self.peft = small_model(family), None
        if adapters:
            self.model, self.peft = with_adapters(self.model)
        self.scope = scope_of(self.model)
        self.first = {name: one.clone() for name, one in self.model.state_dict().items()}
        self.handles = []
        self.ids = [3, 4, 5, 6, 7]
        self.steady = True

    def weight(self):
        layer = self.random.choice(self.scope.loaded_model.anatomy.layers).module
        weights = [one for one in layer.parameters() if one.dim() > 1]
        return self.random.choice(weights)

    def in_place(self):
        with torch.no_grad():
            self.weight().mul_(1.1)

    def one_value_in_place(self):
        with torch.no_grad():
            self.weight().view(-1)[7].add_(3.0)

    def through_data(self):
        weight = self.weight()
        weight.data += 0.05 * torch.randn_like(weight)

    def new_parameter(self):
        modules = [one for one in self.model.modules() if isinstance(one, nn.Linear)]
        modules = modules or [self.scope.loaded_model.anatomy.layers[0].down]
        module = self.random.choice(modules)
        module.weight = nn.Parameter(module.weight.detach() * 0.9)

    def loaded(self):
        self.model.load_state_dict(self.first)

    def hook(self):
        layer = self.random.choice(self.scope.loaded_model.anatomy.layers)
        module = self.random.choice([layer.mlp_write, layer.attention_write])

        def change(_, args, output):
            if isinstance(output, tuple):
                return (output[0] * 1.2, *output[1:])
            return output * 1.2

        self.handles.append(module.register_forward_hook(change))

    def hook_before(self):
        layer = self.random.choice(self.scope.loaded_model.anatomy.layers)
        module = layer.down or layer.experts  # of a mixture of experts
        self.handles.append(
            module.register_forward_pre_hook(lambda _, args: (args[0] * 0.8, *args[1:]))
        )

    def unhook(self):
        if self.handles:
            self.handles.pop(self.random.randrange(len(self.handles))).remove()

    def train(self):
        self.model.train()

    def leave_training(self):
        self.model.eval()

    def attention(self):
        if not self.model._supports_sdpa:
            return  # it has one function only
        now = self.model.config._attn_implementation
        self.model.set_attn_implementation("sdpa" if now == "eager" else "eager")

    def epsilon(self):
        norm = self.scope.loaded_model.anatomy.readout.norm
        name = next(name for name in ("variance_epsilon", "eps") if hasattr(norm, name))
        setattr(norm, name, self.random.choice([1e-6, 1e-2, 0.3]))

    def merge(self):
        if self.peft is not None:
            self.peft.merge_adapter()

    def unmerge(self):
        if self.peft is not None:
            self.peft.unmerge_adapter()

    def switch(self):
        if self.peft is not None:
            self.peft.unmerge_adapter()
            self.peft.set_adapter(self.random.choice(["one", "two"]))

    def off(self):
        if self.peft is not None:
            self.peft.disable_adapter_layers()

    def on(self):
        if self.peft is not None:
            self.peft.enable_adapter_layers()

    def edit_prompt(self):
        at = self.random.randrange(len(self.ids) + 1)
        token = self.random.randrange(3, 90)
        choice = self.random.random()
        if choice < 0.5:
            self.ids.append(token)
        elif choice < 0.8 and len(self.ids) > 3:
            del self.ids[at - 2 :]
        elif at < len(self.ids):
            self.ids[at] = token
        self.ids = self.ids[:24] or [token]

    CHANGES = (
        *(in_place, one_value_in_place, through_data, new_parameter, loaded, hook, hook_before),
        *(unhook, unhook, train, leave_training, attention, epsilon),
    )
    ADAPTERS = (merge, unmerge, switch, off, on)

    def step(self, *, whole):
        for _ in range(self.random.choice((0, 0, 1, 1, 2))):
            self.random.choice(self.CHANGES + self.ADAPTERS * (self.peft is not None))(self)
        self.edit_prompt()
        if self.random_in_training():
            with pytest.raises(ScopeError, match="training mode"):
                self.scope.record(self.ids)
            self.model.eval()
        recording = self.scope.record(self.ids)
        self.equals_the_model(recording)
        if whole:
            self.equals_a_fresh_scope()
        return recording

    def random_in_training(self):
        with torch.no_grad():
            batch = torch.tensor([self.ids])
            return not torch.equal(self.model(batch).logits, self.model(batch).logits)

    def equals_the_model(self, recording):
        assert recording.prompt.ids == tuple(self.ids)
        with torch.no_grad():
            own = self.model(torch.tensor([self.ids]), output_hidden_states=True)
        near(self.scope.look("next-token", temperature=1.0).values, fresh_next(own.logits[0, -1]))
        for layer in range(3):
            near(recording.rows("stream", layer), own.hidden_states[layer][0])

    def equals_a_fresh_scope(self):
        fresh = scope_of(copy.deepcopy(self.model))
        edits = self.random.choice(EDITS)
        ours, theirs = (one.record(self.ids, edits=edits) for one in (self.scope, fresh))
        for lens in LENSES:
            focus = {"layer": 1, "target": 7}
            one, other = (
                scope.look(lens, recording=made, **options_for(lens, **focus))
                for scope, made in ((self.scope, ours), (fresh, theirs))
            )
            assert one.verdict.status == other.verdict.status, lens
            if one.verdict.status != "refused":
                near(torch.as_tensor(one.values), torch.as_tensor(other.values))


def fresh_next(logits):
    return logits.softmax(-1).topk(10).values


def near(one, other):
    one, other = (torch.tensor(np.asarray(value)).double() for value in (one, other))
    one, other = one.nan_to_num(), other.nan_to_num()
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= 2e-5 * max(float(other.abs().max()), 1.0)


@pytest.mark.few(1)
@pytest.mark.parametrize(("family", "adapters"), [("llama", True), ("gpt2", False)])
def test_each_step_of_a_short_walk_equals_a_fresh_run(family, adapters):
    walk = Walk(family, seed=3, adapters=adapters)
    for step in range(9):
        walk.step(whole=step == 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    # GPT-2 and Gemma 2 take a longer walk through all these changes in test_wrapped_walk.py.
    ("family", "adapters"),
    [("llama", True), ("qwen3_moe", False), ("bloom", False)],
)
def test_each_step_of_a_long_walk_equals_a_fresh_run(family, adapters):
    walk = Walk(family, seed=11, adapters=adapters)
    for step in range(120):
        walk.step(whole=step % 20 == 19)
