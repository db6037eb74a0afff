"""A recording is a value: what follows it changes nothing, and reuse changes no number."""

import pytest

from llmscope.record.derive import row_stats, tensors
from llmscope.record.derive.experts import routing
from llmscope.support.sandbox import Cancelled
from tests.families import CLOSELY, small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.thinned import thinned

A = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30]


def everything(recording):
    """All that a recording can say, as one list of arrays."""
    *_, stats = row_stats.row_stats(recording)
    said = [stats.surprisal, stats.rank, stats.entropy, row_stats.activity(recording)]
    said += [
        row_stats.norms(recording, name) for name in ("stream", "attention_write", "mlp_write")
    ]
    for layer in range(recording.layers):
        said += [tensors.pattern(recording, layer).numpy()]
        if recording.model.anatomy.layers[layer].down is not None:
            said += [tensors.activations(recording, layer).numpy()]
        said += [recording.rows("stream", layer).numpy()]
        if recording.model.anatomy.layers[layer].router is not None:
            found = routing(recording, layer)
            said += [found.scores.numpy(), found.chosen.numpy(), found.weights.numpy()]
    return [*said, tensors.logits_after(recording, len(recording) - 1).numpy()]


def assert_same(found, own):
    for one, other in zip(found, own, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=2e-5, nan_ok=True)


@pytest.mark.parametrize(
    "family",
    thinned(
        [
            *(*CLOSELY, "gpt_neo", "bloom", "falcon", "mpt", "xglm", "deepseek_v3", "gpt_oss"),
            "qwen2_moe",
        ],
        lambda family: family not in ("gpt_neo", "falcon", "mpt", "xglm", "qwen2", "qwen2_moe"),
    ),
)
@pytest.mark.parametrize(
    ("edit", "ran"),
    [
        ([*A, 7], 1),
        ([*A[:-1], 7], 1),
        ([*A[:4], 9, *A[4:]], 7),
        ([9, *A], 11),
        (A[:6], 0),
        (A, 0),
    ],
    ids=["append", "replace last", "insert", "prepend", "cut", "same"],
)
@pytest.mark.few(8)
def test_reuse_runs_only_what_is_new_and_changes_no_number(family, edit, ran):
    model = small_model(family)
    recorder = recorder_for(model)
    first = recorder.record(prompt_of(A))
    before = everything(first)
    second = recorder.record(prompt_of(edit))
    assert (second.ran, second.reused) == (ran, len(edit) - ran)
    assert_same(everything(second), everything(recorder_for(model).record(prompt_of(edit))))
    for one, other in zip(everything(first), before, strict=True):
        assert one == pytest.approx(other, rel=0, abs=0, nan_ok=True)


def test_fresh_recordings_are_the_same_bit_for_bit():
    recorder = recorder_for(small_model("llama"))
    first = everything(recorder.record(prompt_of(A), fresh=True))
    recorder.record(prompt_of([*A[:3], 1, 2]))
    again = recorder.record(prompt_of(A), fresh=True)
    assert again.ran == len(A)
    for one, other in zip(first, everything(again), strict=True):
        assert one == pytest.approx(other, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cancelled_pass_stops_at_the_next_layer_and_spoils_nothing(at):
    model = small_model("llama")
    recorder = recorder_for(model)
    recorder.record(prompt_of(A))
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > at

    with pytest.raises(Cancelled):
        recorder.record(prompt_of([*A[:5], 1, 2, 3]), cancelled=cancelled)
    assert len(asked) == at + 1
    after = recorder.record(prompt_of([*A, 4]))
    assert after.ran == 1
    assert_same(everything(after), everything(recorder_for(model).record(prompt_of([*A, 4]))))


def test_rows_are_shared_and_each_token_passes_each_layer_once():
    model = small_model("gpt2")
    recorder = recorder_for(model)
    recorder.lengths.measure()  # as when the model is examined
    first = recorder.record(prompt_of(A))
    seen = []
    for block in model.transformer.h:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    second = recorder.record(prompt_of([*A, 7]))
    assert seen == [1] * 3
    assert second.parts[0][0] is first.parts[0][0]


def test_what_was_reduced_once_is_not_reduced_again(monkeypatch):
    recorder = recorder_for(small_model("gpt2"))
    *_, _ = row_stats.row_stats(recorder.record(prompt_of(A)))
    rows = []
    real = tensors.logits
    monkeypatch.setattr(row_stats, "logits", lambda r, a, b: rows.append(b - a) or real(r, a, b))
    longer = recorder.record(prompt_of([*A, 7]))
    *_, stats = row_stats.row_stats(longer)
    assert sum(rows) == 0  # the model gave the logits of both rows itself
    compare_with_fresh(stats, [*A, 7])
    edited = [*A[:3], 5, *A[4:]]
    rows.clear()
    *_, stats = row_stats.row_stats(recorder.record(prompt_of(edited)))
    assert (
        sum(rows) == 1
    )  # the last row that stands, whose next token is new: the pass gave the rest
    compare_with_fresh(stats, edited)


def compare_with_fresh(stats, ids):
    *_, fresh = row_stats.row_stats(recorder_for(small_model("gpt2")).record(prompt_of(ids)))
    assert stats.surprisal == pytest.approx(fresh.surprisal, abs=1e-4, nan_ok=True)
    assert stats.entropy == pytest.approx(fresh.entropy, abs=1e-4)
    assert stats.rank == pytest.approx(fresh.rank, nan_ok=True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text"])
def test_appending_to_512_runs_one_token_through_each_layer(family):
    model = small_model(family, max_position_embeddings=600)
    recorder = recorder_for(model)
    ids = [(7 * index) % 96 for index in range(512)]
    recorder.lengths.measure()  # as when the model is examined
    recorder.record(prompt_of(ids))
    seen = []
    for layer in recorder.model.anatomy.layers:
        layer.module.register_forward_hook(
            lambda _, args, kwargs, out: seen.append(
                (out[0] if isinstance(out, tuple) else out).shape
            ),
            with_kwargs=True,
        )
    recording = recorder.record(prompt_of([*ids, 5]))
    assert (recording.ran, recording.reused) == (1, 512)
    assert [shape[-2] for shape in seen] == [1, 1, 1]
