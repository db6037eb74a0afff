"""Edits of long prompts run in parts, and their rows are released and restored as unedited ones."""

from itertools import pairwise

import pytest
import torch

from llmscope.edits.own import own_edit
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.capture import recording as recording_module
from llmscope.support.sandbox import Cancelled
from tests.families import small_model
from tests.record import walk_edited
from tests.record.interventions.test_edited import scope_for
from tests.record.walk_edited import kept_of
from tests.thinned import thinned

SOME = ("gpt2", "llama", "gemma2", "mixtral", "bloom")
LENGTH = 44
EDITS = (
    "scale layer 1 0.5 @3..",
    "zero mlp 0 @10..20",
    "zero attention 2",
    "zero head 1.2 @-3..",
    "steer 0 token id:5 0.5",
    "freeze norm 1.mlp @5..30",
    "scale layer 2 -1 @..9",
)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 8 tokens, restored in blocks of 4, and no row is too few to be released."""
    monkeypatch.setattr(recorder_module, "CHUNK", 8)
    monkeypatch.setattr(recorder_module, "BLOCK", 4)
    monkeypatch.setattr(recording_module, "BLOCK", 4)
    monkeypatch.setattr(recorder_module, "SMALL", 1)


def pair(family, limit=1):
    """A scope that keeps rows of `limit` bytes, and one that keeps all."""
    kept, bounded = scope_for(small_model(family)), scope_for(small_model(family))
    bounded.recorder.budget.limit = limit
    return kept, bounded


def ids_of(scope, count=LENGTH):
    return [(7 * at + 3) % scope.loaded_model.anatomy.vocabulary for at in range(count)]


def released(recording):
    return sum(count for segment, count in recording.parts if segment.released)


@pytest.mark.slow
@pytest.mark.parametrize("family", thinned(SOME, lambda one: one == "llama"))
def test_rows_of_each_edit_are_those_of_one_pass(family, monkeypatch, small_parts):
    kept, bounded = pair(family)
    ids = ids_of(kept)
    for edit in (*EDITS, *pairwise(EDITS)):
        edits = (edit,) if isinstance(edit, str) else edit
        monkeypatch.setattr(recorder_module, "CHUNK", 1 << 20)
        own = kept.record(ids, edits=edits)
        assert len({id(one) for one, _ in own.parts}) <= 2
        monkeypatch.setattr(recorder_module, "CHUNK", 8)
        made = bounded.record(ids, edits=edits)
        assert released(made) > LENGTH - 9
        assert (made.ran, made.reused) == (own.ran, own.reused)
        for one, other in zip(kept_of(made), kept_of(own), strict=True):
            assert one.shape == other.shape
            assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max().clamp(1e-3))


def test_rows_of_an_edited_pass_count(small_parts):
    _, scope = pair("llama", limit=1 << 40)
    ids, budget = ids_of(scope), scope.recorder.budget
    base = scope.record(ids)
    before = budget.bytes
    made = scope.record(ids, edits=("scale layer 0 0.5",))
    assert budget.bytes >= 2 * before
    budget.limit = before // 2
    made = scope.record(ids, edits=("scale layer 0 0.25",))
    assert budget.bytes <= before // 2
    assert released(made) > 0
    del base, made
    scope.forget()
    assert budget.bytes == 0


def test_a_function_of_the_callers_own_is_given_all_rows(small_parts):
    kept, bounded = pair("llama")
    ids, seen = ids_of(kept), []

    def centred(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows - rows.mean(0)  # of all rows: in parts the mean would be another

    own = bounded.record(ids, edits=(own_edit("stream 1", centred),))
    assert seen == [LENGTH]
    stream = own.rows("stream", 2)
    assert float(stream.mean(0).abs().max()) <= 1e-5 * float(stream.abs().max())
    assert seen == [LENGTH]  # restored from what it returned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "how"),
    [
        *(("llama", how) for how in ("kept", "on disk", "released")),
        *(("gpt2", "released"), ("gemma2", "on disk"), ("gemma2", "released"), ("bloom", "kept")),
    ],
)
def test_a_walk_of_prompts_and_edits(family, how, small_parts, monkeypatch, tmp_path):
    reference, live = pair(family, limit=1 << 40 if how == "kept" else 1)
    live.recorder.budget.spill = tmp_path if how == "on disk" else None
    if how == "released":  # what is computed again is rounded in another way
        monkeypatch.setattr(walk_edited, "same_bits", near_bits)
    counts = walk_edited.walk(live, reference, tmp_path, steps=60, seed=3)
    assert counts["edited"] > 10


def near_bits(recording, before):
    walk_edited.close(kept_of(recording), before)


def test_a_letter_after_an_edit_copies_no_keys(small_parts):
    _, scope = pair("llama", limit=1 << 40)
    ids = ids_of(scope, LENGTH + 6)
    edits = ("scale layer 1 0.5 @3..",)
    places = set()
    for length in range(LENGTH, LENGTH + 6):
        made = scope.record(ids[:length], edits=edits)
        places.add(made.past[2][0].data_ptr())
    assert len(places) == 1


@pytest.mark.slow
def test_a_cancelled_edit_keeps_nothing_and_spoils_nothing(small_parts):
    kept, bounded = pair("llama")
    ids, calls = ids_of(kept), []
    bounded.record(ids)

    def soon():
        calls.append(1)
        return len(calls) > 8

    with pytest.raises(Cancelled):
        bounded.record(ids, edits=(EDITS[0],), cancelled=soon)
    own, made = (scope.record(ids, edits=(EDITS[0],)) for scope in (kept, bounded))
    for one, other in zip(kept_of(made), kept_of(own), strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max().clamp(1e-3))
