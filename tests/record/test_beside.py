"""Prompt B is run at the cost of what changed in it, and nothing else is any the wiser."""

import pytest
import torch

from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.record.interventions.test_edited import scope_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

A = [3, 5, 7, 11, 13, 17]
B = [3, 5, 8, 11, 13, 17, 19]
KL = {"mode": "kl"}


class Counted:
    """A scope, and how many rows each of its layers has run since one asked."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.rows = [0] * len(scope.loaded_model.anatomy.layers)
        for index, layer in enumerate(scope.loaded_model.anatomy.layers):
            layer.module.register_forward_hook(
                lambda _, args, kwargs, out, index=index: self.seen(index, out), with_kwargs=True
            )
        scope.prepare_reuse()  # measured first, with the hooks: the probe is no pass of ours
        self.rows = [0] * len(self.rows)

    def seen(self, index, out):
        self.rows[index] += (out[0] if isinstance(out, tuple) else out).shape[-2]

    def of(self, a, b, *edits, fresh=False):
        """What it takes to hold A against B."""
        self.rows = [0] * len(self.rows)
        self.scope.record(a, edits=edits, versus_prompt=b if edits else None, fresh=fresh)
        self.figure = self.scope.look("contrast", versus_prompt=tuple(b), **KL)
        assert len(set(self.rows)) == 1 or edits
        return self.rows[0]


def counted(family="llama"):
    return Counted(scope_for(small_model(family)))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_a_change_runs_what_changed_and_nothing_of_the_other_prompt(family):
    here = counted(family)
    assert here.of(A, B) == len(A) + len(B) - 2  # what both begin with is run once
    assert here.of(A, B) == 0
    assert here.of(A, [*B, 23]) == 1
    assert here.of([*A, 29], [*B, 23]) == 1
    assert here.of([*A, 29], B) == 0  # cut back
    assert here.of([*A, 29], [*B[:4], 2, *B[5:]]) == 3
    assert here.of([1, *A], [*B[:4], 2, *B[5:]]) == len(A) + 1


def test_a_prompt_that_was_kept_as_b_is_not_run_again():
    here = counted()
    assert here.of(A, A) == len(A)
    assert not here.figure.values.any()
    assert here.of([*A[:3], 2, *A[4:]], A) == 3  # A's new tokens: B is what A was
    assert here.of([1], A) == 1
    assert here.of(A, A) == len(A)  # A has forgotten it, B need not tell
    assert here.scope.latest.reused == 0


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "bloom", "jamba", "mamba"])
@pytest.mark.few(2)
def test_numbers_are_those_of_passes_from_nothing(family):
    model = small_model(family)
    live = scope_for(model)
    for b in (A, B, [*B, 23], [*B[:4], 2, *B[5:]], B[:5], [*A, 1]):
        live.record(A)
        fresh = scope_for(model)
        fresh.record(A, fresh=True)
        for mode in ("kl", "cosine", "centred"):
            asked = {"mode": mode, "versus_prompt": tuple(b)}
            one, other = (scope.look("contrast", **asked) for scope in (live, fresh))
            assert one.values == pytest.approx(other.values, abs=2e-4, nan_ok=True)


def test_a_never_goes_on_from_b():
    here = counted()
    here.of(A, B)
    here.rows = [0] * len(here.rows)
    here.scope.record(B)
    assert here.rows[0] == len(B) - 2  # all but what A itself had
    assert here.scope.latest.parts[-1][1] == len(B) - 2


def test_edits_patch_from_what_was_typed_as_b():
    model = small_model("llama")
    typed = scope_for(model)
    for b in ([*B[:3], 1, 1, 1], [*B[:4], 2, 2], B[:6]):
        typed.record(A, edits=["patch stream 1 from B"], versus_prompt=b)
    pasted = scope_for(model)
    pasted.record(A, edits=["patch stream 1 from B"], versus_prompt=B[:6], fresh=True)
    one, other = (scope.latest.rows("stream", 3) for scope in (typed, pasted))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert (typed.latest.base.rows("stream", 3) - one).abs().max() > 1e-3


def test_an_edited_prompt_is_held_against_unedited_rows():
    here = counted()
    here.of(A, A, "zero mlp 0")
    assert here.figure.values.max() > 1e-4
    plain = scope_for(small_model("llama"))
    plain.record(A)
    edited = here.scope.latest
    other = here.scope._instrumented.edited.other(edited.prompt)
    assert torch.allclose(other.final_rows(0, 6), plain.latest.final_rows(0, 6), atol=1e-5)
    assert not other.changes


def test_a_fresh_one_shares_nothing_with_what_was_kept():
    here = counted()
    here.of(A, B)
    first = here.figure.values.copy()
    here.of(A, [*B, 1])
    assert here.of(A, B, fresh=True) == len(A) + len(B)
    again = here.figure.values
    assert here.of([*A, 4], [*B, 4]) == 2
    assert here.of(A, B, fresh=True) >= len(A)
    assert (here.figure.values == again)[~torch.tensor(again).isnan().numpy()].all()
    assert again == pytest.approx(first, abs=1e-5, nan_ok=True)
