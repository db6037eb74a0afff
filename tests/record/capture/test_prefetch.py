"""What a pass keeps because of what the one before was looked at for: less work, same numbers."""

import pytest
import torch

from llmscope.record.capture.prefetch import ACTIVATIONS, LOGITS, ROWS
from llmscope.record.derive import row_stats, tensors
from tests.families import small_model
from tests.record.capture.test_recording import everything
from tests.record.conftest import prompt_of, recorder_for
from tests.record.interventions.test_edited import scope_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 44]
# A softcap, parallel blocks, a Conv1D; a model that cannot leave logits out; post-norms; alibi.
EACH = ("llama", "gemma2", "gpt_neox", "gpt2", "openai-gpt", "olmo2", "bloom")
EDIT = "steer 0 token id:17 {}"
LATE = "steer 0 token id:17 {} @4.."


class Counted:
    """How many rows each call of a module was given.

    Args:
        look: is called once with the hook on, for a hook changes a model: it is measured anew.
    """

    def __init__(self, module, look=None):
        self.rows, self.look = [], look
        self.hook = module.register_forward_hook(
            lambda _, args, output: self.rows.append(output.numel() // output.shape[-1])
        )

    def __enter__(self):
        if self.look is not None:
            self.look()
            self.rows.clear()
        return self.rows

    def __exit__(self, *_):
        self.hook.remove()


def looked_at(recording, layer=1):
    """Look at what the panes show; the statistics."""
    *_, stats = row_stats.row_stats(recording)
    tensors.activations(recording, layer)
    return stats


def same(one, other, bound=1e-4):
    for name in ("surprisal", "rank", "entropy"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=bound, nan_ok=True)


@pytest.mark.few(4)
@pytest.mark.parametrize("edit", [EDIT, LATE])
@pytest.mark.parametrize("family", EACH)
def test_logits_that_a_pass_keeps_are_those_of_the_last_stream(family, edit):
    scope = scope_for(small_model(family))
    looked_at(scope.record(IDS, edits=[edit.format(1)]))
    recording = scope.record(IDS, edits=[edit.format(2)])
    kept = recording.memo[LOGITS]
    assert len(kept) == recording.ran > 1
    own = tensors.logits(recording, len(IDS) - len(kept), len(IDS))
    largest = own.abs().amax(-1, keepdim=True)
    assert float(((kept.float() - own).abs() / largest).max()) <= 1e-5
    assert torch.equal(recording.logits, kept[-1])
    fresh = scope.record(IDS, edits=[edit.format(2)], fresh=True)
    assert LOGITS not in fresh.memo
    same(looked_at(recording), looked_at(fresh))


@pytest.mark.parametrize(("edit", "rest"), [(EDIT, []), (LATE, [1])])
def test_a_turned_strength_reads_the_unembedding_once(edit, rest):
    scope = scope_for(small_model("llama"))
    unembed = scope.loaded_model.anatomy.readout.unembed
    with Counted(unembed, lambda: looked_at(scope.record(IDS, edits=[edit.format(1)]))) as rows:
        for strength in (2, 3):
            recording = scope.record(IDS, edits=[edit.format(strength)])
            looked_at(recording)
            # After the last token that stands it is read as well, where one stands.
            assert rows == [recording.ran, *rest]
            rows.clear()
    with Counted(unembed, lambda: scope.verdicts("readout")) as rows:
        looked_at(scope.record(IDS, edits=[edit.format(3)], fresh=True))
        assert rows[0] == 1


def test_typing_in_the_middle_reads_it_once_too():
    recorder = recorder_for(small_model("llama"))
    looked_at(recorder.record(prompt_of(IDS)))
    edited = [*IDS[:4], 33, *IDS[5:]]
    with Counted(recorder.model.anatomy.readout.unembed) as rows:
        stats = looked_at(recorder.record(prompt_of(edited)))
    # The rows that ran, and the last one that stands: its next token is another.
    assert rows == [len(IDS) - 4, 1]
    same(stats, looked_at(recorder_for(small_model("llama")).record(prompt_of(edited))))


def test_who_looks_at_no_predictions_pays_for_none():
    scope = scope_for(small_model("llama"))
    with Counted(scope.loaded_model.anatomy.readout.unembed) as rows:
        for strength in (1, 2, 3):
            tensors.activations(scope.record(IDS, edits=[EDIT.format(strength)]), 1)
    assert set(rows[-3:]) == {1}


def test_logits_of_many_tokens_are_not_kept():
    model = small_model("llama", max_position_embeddings=128)
    scope = scope_for(model)
    for count, kept in ((ROWS, ROWS), (ROWS + 1, 0)):
        ids = [(7 * index) % 96 for index in range(count)]
        looked_at(scope.record(ids, edits=[EDIT.format(1)]))
        recording = scope.record(ids, edits=[EDIT.format(2)])
        assert len(recording.memo.get(LOGITS, ())) == kept
        fresh = scope.record(ids, edits=[EDIT.format(2)], fresh=True)
        same(looked_at(recording), looked_at(fresh))


def test_logits_go_once_they_are_reduced_or_another_pass_follows():
    scope = scope_for(small_model("llama"))
    looked_at(scope.record(IDS, edits=[EDIT.format(1)]))
    second = scope.record(IDS, edits=[EDIT.format(2)])
    third = scope.record(IDS, edits=[EDIT.format(3)])
    assert LOGITS not in second.memo
    # What was not looked at last is not foreseen.
    assert LOGITS not in third.memo
    looked_at(third)
    fourth = scope.record(IDS, edits=[EDIT.format(4)])
    assert LOGITS in fourth.memo
    next(row_stats.row_stats(fourth))
    assert LOGITS not in fourth.memo
    for recording in (second, third, fourth):
        logits = recording.logits
        assert logits.untyped_storage().nbytes() == logits.numel() * logits.element_size()
    same(looked_at(second), looked_at(scope.record(IDS, edits=[EDIT.format(2)], fresh=True)))


def test_unedited_logits_go_as_well():
    recorder = recorder_for(small_model("llama"))
    looked_at(recorder.record(prompt_of(IDS)))
    second = recorder.record(prompt_of([*IDS[:4], 33, *IDS[5:]]))
    assert LOGITS in second.memo
    again = recorder.record(prompt_of(second.prompt.ids))
    assert LOGITS in again.memo
    recorder.record(prompt_of(IDS))
    assert LOGITS not in second.memo


@pytest.mark.parametrize("edit", [EDIT, LATE])
@pytest.mark.parametrize("family", [*EACH, "phi3", "opt", "falcon"])
@pytest.mark.few(4)
def test_activations_of_the_layer_in_sight_are_those_that_would_be_derived(family, edit):
    scope = scope_for(small_model(family))
    for layer in (1, 2):
        looked_at(scope.record(IDS, edits=[edit.format(layer)]), layer)
        recording = scope.record(IDS, edits=[edit.format(-layer)])
        segment = recording.parts[-1][0]
        assert segment.memo[ACTIVATIONS][0] == layer
        kept = tensors.activations(recording, layer)
        segment.memo.pop(ACTIVATIONS)
        derived = tensors.activations(recording, layer)
        assert float((kept - derived).abs().max()) <= 1e-6 * float(derived.abs().max())


def test_activations_that_an_edit_changes_are_changed_once():
    scope = scope_for(small_model("llama"))
    edits = ["scale neuron 1.3 4", "steer 0 token id:17 {}"]
    for strength in (1, 2):
        now = [edit.format(strength) for edit in edits]
        recording = scope.record(IDS, edits=now)
        found = looked_at(recording), tensors.activations(recording, 1)
        own = tensors.activations(scope.record(IDS, edits=now, fresh=True), 1)
        assert torch.allclose(found[1], own, rtol=0, atol=1e-6)


def test_a_letter_runs_no_mlp_a_second_time():
    recorder = recorder_for(small_model("llama"))
    looked_at(recorder.record(prompt_of(IDS)))
    longer = recorder.record(prompt_of([*IDS, 7]))
    with Counted(recorder.model.anatomy.layers[1].mlp_input_module) as rows:
        found = tensors.activations(longer, 1)
    assert rows == []
    own = recorder_for(small_model("llama")).record(prompt_of([*IDS, 7]))
    assert torch.allclose(found, tensors.activations(own, 1), rtol=0, atol=1e-5)


def test_a_fresh_pass_foresees_nothing_and_has_the_same_bits():
    recorder = recorder_for(small_model("llama"))
    own = everything(recorder.record(prompt_of(IDS), fresh=True))
    for _ in range(2):
        recording = recorder.record(prompt_of(IDS), fresh=True)
        assert not recording.memo
        assert not recording.parts[0][0].memo
        found = everything(recording)
        assert all((a == b).sum() == (a == a).sum() for a, b in zip(found, own, strict=True))


def test_a_token_after_a_deleted_one_reads_no_logits_but_its_own():
    """The logits after a prompt that was cut back are kept once a figure has shown them."""
    scope = scope_for(small_model("llama"))
    unembed = scope.loaded_model.anatomy.readout.unembed

    def pasted():
        return scope.record(IDS, fresh=True)

    with Counted(unembed, lambda: looked_at(pasted())) as rows:
        looked_at(pasted())
        cut = scope.record(IDS[:-1])
        looked_at(cut)
        rows.clear()
        shown = tensors.logits_after(cut, len(cut) - 1)
        assert rows == [1]
        assert torch.equal(tensors.logits_after(cut, len(cut) - 1), shown)
        again = scope.record([*IDS[:-1], 9])
        found = looked_at(again)
        assert rows == [1, 1]
    assert again.ran == 1
    assert torch.equal(again.earlier[1], shown)
    same(found, looked_at(scope.record([*IDS[:-1], 9], fresh=True)))
