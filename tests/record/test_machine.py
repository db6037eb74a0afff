"""Anything a person may do, in any order: hypothesis looks for the order that breaks it."""

import contextlib
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import llmscope
from llmscope.figure import Focus
from llmscope.support.sandbox import Cancelled
from tests.lenses.asked import figure_at

LETTERS = st.text("ABC", min_size=1, max_size=4)
TOLERANCE = 1e-5


@cache
def scopes():
    """The live one, and one that always starts from nothing."""
    live, reference = llmscope.load("builtin:sort"), llmscope.load("builtin:sort")
    for scope in (live, reference):
        # The model has no BOS of its own; with one, switching special tokens shifts every token.
        scope.tokenizer._tokenizer.post_processor = _bos(scope.tokenizer)
    return live, reference


def _bos(tokenizer):
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(
        single="C $A", special_tokens=[("C", tokenizer.convert_tokens_to_ids("C"))]
    )


class Person(RuleBasedStateMachine):
    """Edits, changes their mind, moves, looks back, switches special tokens, resizes."""

    @initialize(text=LETTERS)
    def open(self, text):
        self.live, self.reference = scopes()
        self.live.recorder.forget()
        self.text, self.special, self.focus, self.rows = text, True, Focus(), 10
        self.old = []
        self.record()

    def record(self):
        self.recording = self.live.record(self.text, special_tokens=self.special)

    @rule(text=LETTERS, data=st.data())
    def insert(self, text, data):
        place = data.draw(st.integers(0, len(self.text)))
        self.text = (self.text[:place] + text + self.text[place:])[:10]
        self.record()

    @rule(data=st.data())
    def delete(self, data):
        start = data.draw(st.integers(0, len(self.text) - 1))
        stop = data.draw(st.integers(start + 1, len(self.text)))
        self.text = self.text[:start] + self.text[stop:] or "A"
        self.record()

    @rule(text=LETTERS, layers=st.integers(0, 3))
    def change_their_mind(self, text, layers):
        asked = iter(range(layers))
        with contextlib.suppress(Cancelled):
            self.live.record(
                (text + self.text)[:10],
                special_tokens=self.special,
                cancelled=lambda: next(asked, None) is None,
            )
        self.record()

    @rule()
    def switch_special_tokens(self):
        self.special = not self.special
        self.record()

    @rule(layer=st.integers(0, 2), head=st.integers(0, 2), position=st.integers(0, 10))
    def move(self, layer, head, position):
        self.focus = Focus(layer=layer, head=head, position=position)

    @rule(rows=st.integers(1, 40))
    def resize(self, rows):
        self.rows = rows

    @rule()
    def keep(self):
        self.old = [*self.old[-3:], (self.recording, self.look(self.recording))]

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def look_back(self, data):
        recording, said = data.draw(st.sampled_from(self.old))
        for one, other in zip(self.look(recording), said, strict=True):
            assert np.array_equal(one, other, equal_nan=True)

    def look(self, recording, scope=None):
        """All figures that do not depend on where the person stands."""
        scope = scope or self.live
        looks = [
            ("tokens", ""),
            ("residual", "stream"),
            ("residual", "cosine"),
            ("mlp", "overview"),
        ]
        return [scope.look(lens, recording=recording, mode=mode).values for lens, mode in looks]

    @invariant()
    def the_screen_is_that_of_a_fresh_run(self):
        if not hasattr(self, "recording"):
            return
        fresh = self.reference.record(self.text, special_tokens=self.special, fresh=True)
        assert self.recording.prompt == fresh.prompt
        assert self.recording.ran + self.recording.reused == len(fresh)
        position = min(self.focus.position, len(fresh) - 1)
        place = {"layer": self.focus.layer, "head": self.focus.head, "position": position}
        for name in ("next-token", "attention", "mlp"):
            one, other = (
                figure_at(scope, name, recording, top_k=self.rows, **place)
                for scope, recording in ((self.live, self.recording), (self.reference, fresh))
            )
            assert one.values.shape == other.values.shape
            # Neurons or tokens that tie may change places; their values may not.
            scale = max(1.0, float(np.nanmax(np.abs(other.values))))
            assert np.nanmax(np.abs(one.values - other.values), initial=0) <= TOLERANCE * scale
        logits = [
            recording.logits if recording.logits is not None else None
            for recording in (self.recording, fresh)
        ]
        if logits[0] is not None:
            assert torch.allclose(*logits, rtol=0, atol=TOLERANCE * float(logits[1].abs().max()))


TestPerson = pytest.mark.slow(Person.TestCase)
TestPerson.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
