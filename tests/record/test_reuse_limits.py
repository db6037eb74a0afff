"""Prompts and models of which earlier rows must not be reused, or not all of what was kept."""

import functools

import numpy as np
import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.padded import why_single
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.all_families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]


def scope_of(family, **changes):
    model = small_model(family, **changes)
    return Scope(LoadedModel("", family, model, None, find(model), model.device, model.dtype))


def gap(scope, ids):
    """Return how far the logits of a typed prompt are from those of a plain pass."""
    with torch.no_grad():
        own = scope.model(torch.tensor([ids])).logits[0, -1]
    return float((scope.recorder.latest.logits - own).abs().max() / own.abs().max())


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
def test_a_prefix_with_the_padding_token_runs_again_where_positions_count_it(family):
    scope = scope_of(family)
    pad = scope.model.config.pad_token_id
    ids = [5, 17, 3, pad, 17, 42, 8, 8, 91]
    scope.verdicts("readout")
    reused = []
    for length in range(2, len(ids) + 1):
        recording = scope.record(ids[:length])
        assert gap(scope, ids[:length]) < 1e-5
        reused.append(recording.reused)
    assert reused == [0, 2, *[0] * 6]


def test_elsewhere_the_padding_token_is_one_like_any_other():
    scope = scope_of("llama", pad_token_id=3)
    for length in range(2, len(IDS) + 1):
        recording = scope.record(IDS[:length])
        assert gap(scope, IDS[:length]) < 1e-5
    assert recording.reused == len(IDS) - 1


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"is_causal": False}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("bert", {"is_decoder": True, "is_causal": False}),
    ],
)
def test_nothing_is_reused_where_earlier_tokens_see_later_ones(family, changes):
    scope = scope_of(family, **changes)
    for layer in scope.model.modules():
        if hasattr(layer, "is_causal") and "is_causal" in changes:
            layer.is_causal = False
    scope.record(IDS)
    recording = scope.record([*IDS[:-1], 9])
    assert gap(scope, [*IDS[:-1], 9]) < 1e-5
    assert recording.reused == 0


def test_a_bias_of_keys_stays_where_a_later_part_of_the_prompt_has_none():
    scope = scope_of("doge", keep_window_size=14, sliding_window=None)
    ids = [*IDS, 11, 23, 35, 47, 59, 71, 83]
    scope.record(ids[:14])
    before = scope.look("attention", layer=0, mode="all", span=(0, 14))
    assert before.verdict.status == "verified"
    scope.record(ids)
    after = scope.look("attention", layer=0, mode="all", span=(0, 14))
    assert after.verdict.status == "verified"
    np.testing.assert_allclose(after.values[..., :14], before.values, atol=1e-6)
    assert scope.look("attention", layer=0).verdict.status == "refused"


def test_an_mlp_that_runs_in_chunks_is_refused():
    scope = scope_of("bert", chunk_size_feed_forward=4)
    scope.record([*IDS, 11, 23, 35])
    assert scope.verdicts("writes", 0).status == "refused"
    assert gap(scope, [*IDS, 11, 23, 35]) < 1e-5


def test_layers_that_share_keys_run_every_row_behind_a_wrapper_too():
    model = small_model("gemma4_text", num_kv_shared_layers=1)
    forward = model.forward
    model.forward = functools.wraps(forward)(lambda *args, **kwargs: forward(*args, **kwargs))
    scope = Scope(LoadedModel("", "", model, None, find(model), model.device, model.dtype))
    scope.record(IDS)
    assert gap(scope, IDS) < 1e-5
    assert scope.verdicts("patterns", 0).status == "verified"


def test_an_unembedding_of_another_width_than_the_stream_is_told():
    scope = scope_of("electra", embedding_size=24)
    scope.record(IDS)
    assert scope.look("attribution").verdict.status == "refused"
    with pytest.raises(ScopeError, match="no scale that can be held still"):
        scope.record(IDS, edits=["freeze norm final"])
    with pytest.raises(ScopeError, match="the unembedding reads 24 dimensions"):
        scope.record(IDS, edits=["steer 1 token id:7 4"])


@pytest.mark.parametrize(("family", "single"), [("deepseek_v32", True), ("llama", False)])
def test_prompts_run_one_by_one_where_an_indexer_chooses_keys(family, single):
    why = why_single(scope_of(family), PromptJob(("next-token",), Focus()))
    assert ("depend on more than keys and values" in why) == single
    assert bool(why) == single


def test_a_failed_measurement_of_padding_is_made_again(monkeypatch):
    scope = scope_of("llama", pad_token_id=3)
    recorder, failures = scope.recorder, [torch.OutOfMemoryError("full")]
    measure = recorder._counts_padding

    def fail_once():
        if failures:
            raise failures.pop()
        return measure()

    monkeypatch.setattr(recorder, "_counts_padding", fail_once)
    with pytest.raises(torch.OutOfMemoryError):
        scope.prepare_reuse()
    assert recorder._padding_counts is None
    scope.prepare_reuse()
    assert recorder._padding_counts is False
