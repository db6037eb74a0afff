"""A walk on wrapped models: trained, changed by hand and adapted between any two prompts.

After each step every number equals that of the model itself, run once without llmscope; now and
then all of it that of a fresh scope on a copy of the model.
"""

import copy
import re

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.record.capture import model_state
from tests.lenses.asked import options_for
from tests.record.test_change_walk import EDITS, LENSES, Walk, near

ARCHITECTURES = (
    *(("llama", True), ("gpt2", False), ("gemma2", True)),
    *(("mixtral", False), ("opt", False), ("gpt_neox", False)),
)


class WrappedWalk(Walk):
    """One wrapped model, which keeps its modes, and all that may be done to it."""

    def __init__(self, family, seed, adapters=False):
        super().__init__(family, seed, adapters)
        self.scope = llmscope.wrap(self.model)
        self.optimizers = 0

    def optimizer_step(self):
        weights = [one for one in self.model.parameters() if one.requires_grad]
        if not weights:
            return  # the adapters are off
        kind = self.random.choice([torch.optim.SGD, torch.optim.AdamW])
        optimizer = kind(weights, lr=0.02)
        ids = torch.randint(3, 90, (2, 9))
        if self.random.random() < 0.5:
            self.scope.record(self.ids)  # between two steps of a training
        loss = self.model(input_ids=ids, labels=ids).loss
        if self.random.random() < 0.5:
            self.scope.record(self.ids)  # and in the middle of one
        if not loss.requires_grad:
            return  # the adapters in use were merged
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        self.optimizers += 1

    def half_in_training(self):
        self.random.choice(list(self.model.modules())).train()

    CHANGES = (*Walk.CHANGES, optimizer_step, optimizer_step, half_in_training)

    def step(self, *, whole):
        for _ in range(self.random.choice((0, 0, 1, 1, 2))):
            self.random.choice(self.CHANGES + self.ADAPTERS * (self.peft is not None))(self)
        self.edit_prompt()
        modes = [module.training for module in self.model.modules()]
        recording = self.scope.record(self.ids)
        assert [module.training for module in self.model.modules()] == modes
        self.model.eval()
        self.equals_the_model(recording)
        if whole:
            self.equals_a_fresh_scope()
        for module, mode in zip(self.model.modules(), modes, strict=True):
            module.training = mode

    def equals_a_fresh_scope(self):
        edits = self.random.choice(EDITS)
        with llmscope.wrap(copy.deepcopy(self.model)) as fresh:
            try:
                ours = self.scope.record(self.ids, edits=edits)
            except ScopeError as error:  # a hook changes what the edited head writes
                with pytest.raises(ScopeError, match=re.escape(error.message)):
                    fresh.record(self.ids, edits=edits)
                return
            theirs = fresh.record(self.ids, edits=edits)
            for lens in LENSES:
                focus = {"layer": 1, "target": 7}
                one = self.scope.look(lens, recording=ours, **options_for(lens, **focus))
                other = fresh.look(lens, recording=theirs, **options_for(lens, **focus))
                assert one.verdict.status == other.verdict.status, lens
                if one.verdict.status != "refused":
                    near(torch.as_tensor(one.values), torch.as_tensor(other.values))


def test_each_step_of_a_short_walk_equals_a_fresh_run():
    walk = WrappedWalk("llama", seed=5, adapters=True)
    for step in range(12):
        walk.step(whole=step == 11)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "adapters"), ARCHITECTURES)
def test_each_step_of_a_long_walk_equals_a_fresh_run(family, adapters):
    walk = WrappedWalk(family, seed=17, adapters=adapters)
    for step in range(200):
        walk.step(whole=step % 20 == 19)
    assert walk.optimizers > 5


class StillWalk(WrappedWalk):
    """A walk in which only the prompt changes."""

    CHANGES = (Walk.leave_training,)


@pytest.mark.few(1)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_without_the_check_a_walk_fails_and_only_once_the_model_changes(family, monkeypatch):
    walk, still = WrappedWalk(family, seed=17), StillWalk(family, seed=17)
    for one in (walk, still):
        for _ in range(3):
            one.step(whole=False)
    monkeypatch.setattr(
        model_state.ModelState, "check", lambda state, model, **options: state.serial
    )

    def go(walk):
        for _ in range(30):
            walk.step(whole=False)

    go(still)
    with pytest.raises(AssertionError):
        go(walk)
