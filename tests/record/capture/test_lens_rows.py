"""The logit lens that rides in the model's own unembedding: one call, and the same numbers."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.record.capture.prefetch import LENS_SCORES
from llmscope.record.derive.tensors import logits_after
from tests.families import small_model
from tests.record.capture.test_prefetch import Counted
from tests.record.interventions.test_edited import scope_for
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 44]
# A softcap, a scale before the softmax, other scales, a bias, a projection before the unembedding.
EACH = thinned(
    ("llama", "gemma2", "cohere", "granite", "gpt2", "gptj", "opt", "olmo2", "mixtral"),
    lambda family: family in ("llama", "gemma2", "gptj", "opt"),
)
PRODUCTS = (
    *(torch.ops.aten.mm.default, torch.ops.aten.addmm.default),
    torch.ops.mkldnn._linear_pointwise.default,
)
MODES = ("top", "target", "kl")


class Products(TorchDispatchMode):
    """Counts the rows of each product with a matrix. A hook would keep the lens out."""

    def __init__(self, module):
        super().__init__()
        self.given, self.rows = module.weight.data_ptr(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if func in PRODUCTS and any(one.data_ptr() == self.given for one in tensors):
            (rows,) = (one for one in tensors if one.dim() > 1 and one.data_ptr() != self.given)
            self.rows.append(rows.numel() // rows.shape[-1])
        return func(*args, **(kwargs or {}))


def looked(scope, ids, mode):
    recording = scope.record(ids, special_tokens=False)
    target = 3 if mode == "target" else None  # of its own, it changes with each letter
    return recording, scope.look("logit-lens", recording=recording, mode=mode, target=target)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", EACH)
@pytest.mark.few(3)
def test_a_letter_reads_the_unembedding_once_and_gives_the_numbers_of_a_fresh_pass(family, mode):
    scope = scope_for(small_model(family))
    looked(scope, IDS[:8], mode)
    for end in (9, 10, 11):
        recording, figure = looked(scope, IDS[:end], mode)
        assert LENS_SCORES not in recording.memo  # reduced, and the memory is free again
        fresh = scope_for(small_model(family))
        whole, expected = looked(fresh, IDS[:end], mode)
        assert recording.ran == 1
        assert whole.ran == end
        np.testing.assert_allclose(figure.values, expected.values, atol=1e-5)
        np.testing.assert_array_equal(figure.extra["ids"], expected.extra["ids"])
        torch.testing.assert_close(recording.logits, whole.logits, rtol=1e-4, atol=1e-5)
    with Products(scope.loaded_model.anatomy.readout.unembed) as products:
        recording = scope.record(IDS, special_tokens=False)
        assert products.rows == [len(scope.loaded_model.anatomy.layers) + 1]
        products.rows.clear()
        target = 3 if mode == "target" else None
        scope.look("logit-lens", recording=recording, mode=mode, target=target)
        lens = [count for count in products.rows if count > 1]
        assert lens == []


def test_without_a_lens_looked_at_before_no_further_rows_run():
    scope = scope_for(small_model("llama"))
    scope.record(IDS[:8], special_tokens=False)
    recording = scope.record(IDS[:9], special_tokens=False)
    assert LENS_SCORES not in recording.memo


def test_scores_that_are_not_looked_at_go_with_the_next_pass():
    scope = scope_for(small_model("llama"))
    looked(scope, IDS[:8], "top")
    first = scope.record(IDS[:9], special_tokens=False)
    assert first.memo[LENS_SCORES][None].shape == (4, scope.loaded_model.anatomy.vocabulary)
    scope.record(IDS[:10], special_tokens=False)
    assert LENS_SCORES not in first.memo


def test_a_hook_of_the_user_on_the_unembedding_sees_the_rows_of_the_model_alone():
    scope = scope_for(small_model("llama"))
    with Counted(
        scope.loaded_model.anatomy.readout.unembed, lambda: looked(scope, IDS[:8], "top")
    ) as c:
        recording = scope.record(IDS[:9], special_tokens=False)
        assert c == [1]
        assert LENS_SCORES not in recording.memo


def learned(scope, last=False):
    """A lens of random matrices, of the streams between the first and the last (or with it)."""
    anatomy, generator = scope.loaded_model.anatomy, torch.Generator().manual_seed(0)
    width, layers = anatomy.width, len(anatomy.layers)
    maps = {
        stream: AffineMap(torch.randn(width, width, generator=generator), adds=True)
        for stream in range(1, layers + last)
    }
    return LearnedLens("tuned", maps, width, layers)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", EACH)
@pytest.mark.few(3)
def test_learned_lenses_ride_too_also_two_at_once(family, mode):
    scope = scope_for(small_model(family))
    lenses = (learned(scope), None, learned(scope).shifted())
    target = 3 if mode == "target" else None

    def all_of(scope, ids):
        recording = scope.record(ids, special_tokens=False)
        return recording, [
            scope.look("logit-lens", recording=recording, mode=mode, target=target, translator=one)
            for one in lenses
        ]

    all_of(scope, IDS[:8])
    for end in (9, 10):
        with Products(scope.loaded_model.anatomy.readout.unembed) as products:
            recording, figures = all_of(scope, IDS[:end])
        layers = len(scope.loaded_model.anatomy.layers)
        assert [count for count in products.rows if count > 1] == [3 * layers + 1]
        assert LENS_SCORES not in recording.memo
        _, expected = all_of(scope_for(small_model(family)), IDS[:end])
        for figure, other in zip(figures, expected, strict=True):
            np.testing.assert_allclose(figure.values, other.values, rtol=1e-4, atol=1e-5)


def test_a_lens_that_maps_the_last_stream_does_not_ride():
    scope = scope_for(small_model("llama"))
    lens = learned(scope, last=True)

    def figure(scope, end):
        recording = scope.record(IDS[:end], special_tokens=False)
        return recording, scope.look("logit-lens", recording=recording, translator=lens)

    figure(scope, 8)
    recording = scope.record(IDS[:9], special_tokens=False)
    assert LENS_SCORES not in recording.memo
    _, expected = figure(scope_for(small_model("llama")), 9)
    np.testing.assert_allclose(figure(scope, 9)[1].values, expected.values, rtol=1e-4, atol=1e-5)


def test_an_edited_letter_has_the_lens_of_the_edited_streams():
    scope = scope_for(small_model("llama"))
    edit = ["steer 0 token id:17 2"]
    for end in (8, 9, 10):
        recording = scope.record(IDS[:end], special_tokens=False, edits=edit)
        figure = scope.look("logit-lens", recording=recording)
    fresh = scope_for(small_model("llama"))
    whole = fresh.record(IDS[:10], special_tokens=False, edits=edit)
    expected = fresh.look("logit-lens", recording=whole)
    np.testing.assert_allclose(figure.values, expected.values, atol=1e-5)


@pytest.mark.few(3)
@pytest.mark.parametrize("lenses", [1, 2])
@pytest.mark.parametrize("family", EACH)
def test_a_letter_taken_back_has_its_logits_to_the_last_bit(family, lenses):
    scope = scope_for(small_model(family))
    given = (None, learned(scope))[:lenses]

    def recorded(end):
        recording = scope.record(IDS[:end], special_tokens=False)
        for one in given:
            scope.look("logit-lens", recording=recording, translator=one)
        return recording

    recorded(8)
    before = {end: recorded(end).logits.float() for end in range(9, 13)}
    for end in (11, 10, 9):  # the logits of one token before are kept, the others computed again
        recording = scope.record(IDS[:end], special_tokens=False)
        assert recording.ran == 0
        assert torch.equal(logits_after(recording, end - 1), before[end])
