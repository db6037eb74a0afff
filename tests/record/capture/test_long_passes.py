"""Prompts that run in chunks, whose rows are released and restored: each number as in one pass."""

import gc
import random
from itertools import product

import numpy as np
import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.capture import recording as recording_module
from llmscope.record.capture import row_budget
from llmscope.record.capture.recording import LayerRows
from llmscope.record.derive import row_stats
from llmscope.record.derive.verify import verify
from llmscope.support.sandbox import Cancelled
from tests.families import FAMILIES, small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.walk import walk
from tests.thinned import thinned

SOME = ("gpt2", "llama", "gemma2", "mixtral", "bloom", "falcon", "mamba", "falcon_h1")
REST = [pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES if one not in SOME]
NAMES = [one for one in LayerRows.__dataclass_fields__ if one != "entry"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 8 tokens, restored in blocks of 4, and no row is too few to be released."""
    monkeypatch.setattr(recorder_module, "CHUNK", 8)
    monkeypatch.setattr(recorder_module, "BLOCK", 4)
    monkeypatch.setattr(recording_module, "BLOCK", 4)
    monkeypatch.setattr(recorder_module, "SMALL", 1)


def ready(family, limit=1 << 40, spill=None):
    recorder = recorder_for(small_model(family))
    verify(recorder)
    recorder.prepare_reuse()
    recorder.budget.limit, recorder.budget.spill = limit, spill
    return recorder


def some_ids(recorder, count=45):
    chance = random.Random(1)
    context = recorder.model.anatomy.context or count
    vocabulary = recorder.model.anatomy.vocabulary
    return [chance.randrange(3, vocabulary) for _ in range(min(count, context))]


def same(one, other, bound=1e-4):
    assert (one is None) == (other is None)
    if one is not None and one.is_floating_point():
        assert one.shape == other.shape
        scale = other.float().abs().max().clamp(min=1e-3)
        assert float((one.float() - other.float()).abs().max() / scale) <= bound


def plain(model, ids):
    """Streams before each layer and the logits of all tokens, of one pass of transformers alone."""
    streams = []
    layers = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs: streams.append(
                (args[0] if args else kwargs["hidden_states"]).detach()[0].clone()
            ),
            with_kwargs=True,
        )
        for module in model.layers_of_test
    ]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    for hook in layers:
        hook.remove()
    return streams, logits


@pytest.mark.parametrize("limit", [1 << 40, 1], ids=["kept", "released"])
@pytest.mark.parametrize("family", [*SOME, *REST])
@pytest.mark.few(4)
def test_each_row_is_that_of_plain_transformers(family, limit):
    recorder = ready(family, limit)
    ids = some_ids(recorder)
    recording = recorder.record(prompt_of(ids))
    model = recorder.model.module
    model.layers_of_test = [layer.module for layer in recorder.model.anatomy.layers]
    streams, logits = plain(model, ids)
    assert len(recording.parts) == (-(-len(ids) // 8) if recorder.reuses else 1)
    for layer, own in enumerate(streams):
        if own.dim() == 2 and own.shape == recording.rows("stream", layer).shape:
            same(recording.rows("stream", layer), own)
            same(recording.rows("stream", layer, range(17, 22)), own[17:22])
    same(recording.logits, logits[-1])
    *_, stats = row_stats.row_stats(recording)
    chosen = torch.log_softmax(logits.double(), -1)
    own = -chosen[range(len(ids) - 1), ids[1:]].numpy() / np.log(2)
    assert np.abs(stats.surprisal[1:] - own).max() <= 1e-4 * max(1, own.max())


@pytest.mark.slow
@pytest.mark.parametrize("family", [*thinned(SOME, lambda one: one == "gemma2"), *REST])
def test_released_rows_are_those_that_were_kept(family):
    kept, released = ready(family), ready(family, limit=1)
    if not kept.reuses:
        pytest.skip("its prompts run in one pass, and no row is released")
    ids = some_ids(kept)
    one, other = kept.record(prompt_of(ids)), released.record(prompt_of(ids))
    assert any(segment.released for segment, _ in other.parts)
    assert not any(segment.released for segment, _ in one.parts)
    for some in (range(3, 6), range(7, 9), range(len(ids)), range(30, 31)):
        for layer in range(one.layers):
            for name in NAMES:
                same(other.rows(name, layer, some), one.rows(name, layer, some))
            same(
                other.layer_rows(layer, some).mlp_input_module,
                one.layer_rows(layer, some).mlp_input_module,
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "spilled"),
    thinned(
        product(("llama", "gemma2", "gpt2"), (False, True)),
        lambda one: one == ("gemma2", True),
    ),
)
def test_random_edits_of_a_long_text_equal_fresh_passes(family, spilled, tmp_path):
    live = ready(family, limit=1, spill=tmp_path if spilled else None)
    context = live.model.anatomy.context or 60
    ran, reused, cancelled = walk(
        live, recorder_for(small_model(family)), steps=60, longest=min(60, context), seed=3
    )
    assert reused > ran / 2
    assert cancelled
    assert not list(tmp_path.iterdir())  # a file without a name


def test_figures_of_the_last_rows_restore_nothing():
    """What needs all rows, and costs little, was derived before they went."""
    recorder = ready("llama", limit=1)
    recording = recorder.record(prompt_of(some_ids(recorder)))
    restored = []
    recorder.model.restore_rows = lambda *given: restored.append(given)
    list(row_stats.row_stats(recording))
    assert row_stats.first_unfinite(recording) is None
    for name in ("stream", "attention_write", "mlp_write"):
        row_stats.norms(recording, name)
    row_stats.activity(recording)
    row_stats.cosines(recording)
    assert not restored


@pytest.mark.parametrize("values", [row_stats.activity, row_stats.cosines])
def test_what_was_not_derived_in_time_is_derived_from_restored_rows(values, monkeypatch):
    monkeypatch.setattr(row_budget, "BEFORE_RELEASE", [])
    kept, released = ready("llama"), ready("llama", limit=1)
    ids = some_ids(kept)
    one, other = (values(each.record(prompt_of(ids))) for each in (kept, released))
    assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()


def test_rows_on_disk_are_the_same_bits(tmp_path):
    kept, spilled = ready("llama"), ready("llama", limit=1, spill=tmp_path)
    ids = some_ids(kept)
    one, other = kept.record(prompt_of(ids)), spilled.record(prompt_of(ids))
    for layer in range(one.layers):
        for name in NAMES:
            rows = one.rows(name, layer)
            assert rows is None or torch.equal(rows, other.rows(name, layer))


def test_memory_stays_within_the_bound_and_goes_with_the_recordings():
    recorder = ready("llama")
    ids = some_ids(recorder, 60)
    recording = recorder.record(prompt_of(ids))
    size = recorder.budget.bytes
    assert size == sum(
        row_budget.size_of(segment.layers) + segment.final.nbytes for segment, _ in recording.parts
    )
    recorder.forget()
    recorder.budget.limit = size // 2
    recording = recorder.record(prompt_of(ids))
    assert 0 < recorder.budget.bytes <= size // 2
    for start in range(0, 56, 3):
        recording.rows("stream", 1, range(start, start + 4))
        assert recorder.budget.bytes <= size // 2
    del recording
    recorder.forget()
    gc.collect()
    assert recorder.budget.bytes == 0


def test_the_rows_that_are_looked_at_stay():
    recorder = ready("llama")
    ids = some_ids(recorder, 60)
    recording = recorder.record(prompt_of(ids))
    recorder.forget()
    recorder.budget.limit = recorder.budget.bytes * 3 // 4
    del recording
    recording = recorder.record(prompt_of(ids[:40]))
    recording.rows("stream", 1, range(2, 4))
    recording = recorder.record(prompt_of(ids))
    released = [segment.released for segment, _ in recording.parts]
    assert not released[0]
    assert any(released[1:4])
    assert not released[-1]


def test_a_letter_writes_behind_the_keys_that_are_there():
    recorder = ready("llama")
    ids = some_ids(recorder, 40)
    first = recorder.record(prompt_of(ids))
    place = first.past[0][0].data_ptr()
    own = [keys.clone() for keys, _ in first.past]
    letter = recorder.record(prompt_of([*ids, 5]))
    assert letter.past[0][0].data_ptr() == place
    other = recorder.go_on(first, prompt_of([*ids, 9, 4]))  # the room behind is taken
    assert other.past[0][0].data_ptr() != place
    again = recorder.record(prompt_of([*ids, 5, 7]))
    assert again.past[0][0].data_ptr() == place
    cut = recorder.record(prompt_of([*ids, 5]))
    written = cut.past[0][0].clone()
    over = recorder.record(prompt_of([*ids, 5, 8]))  # the other recordings still exist
    assert over.past[0][0].data_ptr() not in (place, other.past[0][0].data_ptr())
    assert torch.equal(cut.past[0][0], written)
    del again, over
    recorder.record(prompt_of([*ids, 5]))
    gc.collect()
    place = recorder.latest.past[0][0].data_ptr()
    last = recorder.record(prompt_of([*ids, 5, 9]))  # and now they don't
    assert last.past[0][0].data_ptr() == place
    for kept, (keys, _) in zip(own, first.past, strict=True):
        assert torch.equal(kept, keys)
    fresh = ready("llama").record(prompt_of([*ids, 5, 9]))
    same(last.past[1][0], fresh.past[1][0])
    same(last.logits, fresh.logits)


def test_a_pass_that_is_given_up_gives_its_room_back():
    recorder = ready("llama")
    ids = some_ids(recorder, 40)
    first = recorder.record(prompt_of(ids))
    place = first.past[0][0].data_ptr()
    asked = iter([False, False])
    with pytest.raises(Cancelled):
        recorder.record(prompt_of([*ids, 5]), cancelled=lambda: next(asked, True))
    letter = recorder.record(prompt_of([*ids, 6]))
    assert letter.past[0][0].data_ptr() == place
    same(letter.logits, ready("llama").record(prompt_of([*ids, 6])).logits)


def test_chunks_that_ended_are_kept_when_the_pass_is_given_up():
    recorder = ready("llama")
    ids = some_ids(recorder, 45)
    parts, layers = [], 3
    asked = iter([False] * (layers * 3 + 1))
    with pytest.raises(Cancelled):
        recorder.record(
            prompt_of(ids),
            cancelled=lambda: next(asked, True),
            part=lambda one, whole: parts.append((len(one), whole)),
        )
    assert parts == [(8, 45), (16, 45), (24, 45)]
    whole = recorder.record(prompt_of(ids))
    assert (whole.reused, whole.ran) == (24, 21)
    same(whole.logits, ready("llama").record(prompt_of(ids)).logits)


def test_each_part_is_a_recording_of_its_own():
    recorder = ready("gemma2")
    ids = some_ids(recorder, 45)
    parts = []
    recorder.record(prompt_of(ids), part=lambda one, _: parts.append(one))
    for one in parts:
        alone = ready("gemma2").record(prompt_of(ids[: len(one)]))
        same(one.logits, alone.logits)
        same(one.rows("stream", 2), alone.rows("stream", 2))


def test_fresh_passes_give_the_same_bits():
    recorder = ready("llama")
    prompt = prompt_of(some_ids(recorder, 45))
    one, other = recorder.record(prompt, fresh=True), recorder.record(prompt, fresh=True)
    assert torch.equal(one.logits, other.logits)
    assert (one.ran, one.reused, one.fresh) == (45, 0, True)


def test_a_model_that_minds_the_length_runs_in_one_pass():
    recorder = ready("llama")
    recorder.lengths.alike = lambda one, other: False
    ids = some_ids(recorder, 45)
    assert len(recorder.record(prompt_of(ids)).parts) == 1


def test_released_rows_of_a_changed_model_are_refused():
    recorder = ready("llama", limit=1)
    from llmscope.record.capture.model_state import state_of

    recording = recorder.record(prompt_of(some_ids(recorder)))
    state_of(recorder.model.module).serial += 1
    with pytest.raises(ScopeError, match="the model has changed"):
        recording.rows("stream", 1)
