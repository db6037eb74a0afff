"""Models whose tokens depend on how long the prompt is, against passes that reuse nothing."""

import copy
import random
import warnings
from functools import cache

import pytest
import torch

import llmscope
from llmscope.edits import parse
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.padded import record_padded
from llmscope.record.capture.restored_buffers import RestoredBuffers
from llmscope.record.change_hooks import Change
from llmscope.record.derive.tensors import logits_after, pattern
from llmscope.record.derive.verify import verify
from llmscope.record.features.active import applied
from llmscope.record.interventions.edited import EditedRecorder
from llmscope.scope.scope import Scope
from tests.families import FAMILIES, GROUPED, small_model
from tests.record.conftest import prompt_of, recorder_for

pytestmark = pytest.mark.usefixtures("hooks_watch")

BORDER = 20
IDS = [(7 * index + index * index) % 96 for index in range(44)]
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0}
STRETCHED = [1.0, 1.7, 2.4, 3.1, 3.8, 4.5]


def longrope(width):
    """Other frequencies beyond the border."""
    return {
        **LONGROPE,
        "short_factor": [1.0] * width,
        "long_factor": STRETCHED[:width],
        "original_max_position_embeddings": BORDER,
    }


MODELS = {
    "phi3": {"original_max_position_embeddings": BORDER, "rope_parameters": longrope(6)},
    "minicpm3": {
        "intermediate_size": 80,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
        "rope_parameters": longrope(4),
    },
    "llama": {
        "max_position_embeddings": BORDER,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    },
    "llama4_text": {
        **GROUPED,
        "head_dim": 16,
        "intermediate_size_mlp": 80,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8,
        "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
        "no_rope_layers": [1, 0, 1],
        "moe_layers": [],
    },
}
DEPENDENT = ["phi3", "minicpm3", "llama"]
"""Those that treat a prefix of a longer prompt otherwise; chunked attention does not."""


@cache
def _model(family, **changes):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setitem(FAMILIES, family, {**MODELS[family], **FAMILIES.get(family, {})})
        return small_model(family, **{**MODELS[family], **changes})


def fresh_model(family):
    """One that has never run: its rotary embedding remembers no other prompt."""
    return copy.deepcopy(_model(family))


def chunked_model(chunk):
    """Llama 4 with chunks of so many tokens."""
    return copy.deepcopy(_model("llama4_text", attention_chunk_size=chunk))


@torch.no_grad()
def truth(family, ids):
    """Logits after each token, from a model that has run nothing else. [row, token]"""
    return fresh_model(family)(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def near(found, own, limit=1e-5):
    assert float((found - own).abs().max()) <= limit * float(own.abs().max())


def examined(family):
    recorder = recorder_for(fresh_model(family))
    return recorder, verify(recorder)


def slow(family):
    return pytest.param(family, marks=pytest.mark.slow)


@pytest.mark.parametrize("family", ["phi3", slow("minicpm3"), slow("llama"), slow("llama4_text")])
def test_typing_across_the_border_and_back_equals_fresh_runs(family):
    recorder, _ = examined(family)
    choice, length = random.Random(0), 14
    ids, aside = list(IDS), []
    for step in range(20):
        length = min(max(length + choice.choice([-6, -2, -1, 1, 1, 1, 2, 7]), 2), 40)
        if choice.random() < 0.3:
            ids[choice.randrange(length)] = choice.randrange(96)
        recording = recorder.record(prompt_of(ids[:length]), aside=aside[-3:])
        aside.append(recording)
        own = truth(family, ids[:length])
        near(logits_after(recording, length - 1), own[-1])
        near(logits_after(recording, 0), own[0])
        if step % 5 == 0:
            other = recorder_for(fresh_model(family)).record(prompt_of(ids[:length]), fresh=True)
            for layer in range(3):
                near(pattern(recording, layer), pattern(other, layer))
    assert any(recording.reused for recording in aside)


@pytest.mark.parametrize("family", DEPENDENT)
def test_what_is_kept_on_one_side_is_reused_there(family):
    recorder, _ = examined(family)
    assert recorder.lengths.alike(5, BORDER)
    assert recorder.lengths.alike(BORDER, BORDER + 1) is False
    recorder.record(prompt_of(IDS[: BORDER - 1]))
    assert recorder.record(prompt_of(IDS[:BORDER])).ran == 1
    assert recorder.record(prompt_of(IDS[: BORDER + 1])).ran == BORDER + 1
    if family != "llama":  # beyond the border each length has its own rotation
        assert recorder.record(prompt_of(IDS[: BORDER + 2])).ran == 1


@pytest.mark.parametrize("family", ["phi3", slow("llama")])
def test_edited_passes_and_prompt_b_across_the_border(family):
    recorder, verdicts = examined(family)
    edited = EditedRecorder(recorder, verdicts, applied)
    edits = [parse("zero mlp 1")]
    for length in (BORDER - 1, BORDER, BORDER + 1, BORDER + 2, BORDER):
        base = recorder.record(prompt_of(IDS[:length]))
        found = edited.record(base, edits)
        alone, known = examined(family)
        whole = EditedRecorder(alone, known, applied).record(
            alone.record(prompt_of(IDS[:length]), fresh=True), edits, fresh=True
        )
        near(found.logits, whole.logits)
        other = edited.other(prompt_of([*IDS[: length + 1], 5]))
        near(other.logits, truth(family, [*IDS[: length + 1], 5])[-1])


@pytest.mark.parametrize("family", DEPENDENT)
def test_a_sweep_that_ends_before_the_border_is_of_the_whole_prompt(family):
    recorder, verdicts = examined(family)
    edited = EditedRecorder(recorder, verdicts, applied)
    recording = recorder.record(prompt_of(IDS[: BORDER + 6]))
    run = Passes(recorder, edited, verdicts=verdicts)
    place = BORDER - 4
    job = (Change("mlp_write", 1, range(5, place), factor=1.0),)
    (found,) = run.sweep(recording, 0, [job], place)
    near(found, recording.final_rows(place, place + 1)[0])


@pytest.mark.parametrize("family", DEPENDENT)
def test_a_long_prompt_gives_its_neighbours_in_a_batch_nothing(family):
    recorder, _ = examined(family)
    prompts = [prompt_of(IDS[:length]) for length in (BORDER + 8, 9, BORDER, BORDER + 1, 9)]
    for prompt, padded in zip(prompts, record_padded(recorder, prompts), strict=True):
        assert padded.prompt is prompt
        near(padded.logits, truth(family, list(prompt.ids))[-1])


@pytest.mark.parametrize("family", ["phi3", slow("minicpm3")])
def test_the_text_written_across_the_border_is_that_of_whole_passes(family):
    module = fresh_model(family)
    parameter = next(module.parameters())
    from llmscope.models.anatomy import find

    model = LoadedModel("t", "t", module, None, find(module), parameter.device, parameter.dtype)
    scope, ids = Scope(model), list(IDS[: BORDER - 3])
    written = []
    for _ in range(7):
        recording = scope.record(ids, written=written)
        written.append(int(recording.logits.argmax()))
        assert written[-1] == int(truth(family, [*ids, *written[:-1]])[-1].argmax())


def test_a_model_that_gives_no_answer_by_position_is_asked_by_running_a_token_again():
    """Its forward takes no positions, as that of code which came with a model may not."""
    model = fresh_model("phi3")
    forward = model.forward
    model.forward = lambda input_ids, cache=None, use_cache=None, logits_to_keep=0: forward(
        input_ids=input_ids, cache=cache, use_cache=use_cache, logits_to_keep=logits_to_keep
    )
    recorder = recorder_for(model)
    verify(recorder)
    assert recorder.lengths.alike(BORDER, BORDER + 1) is None
    for length in (18, 19, 20, 21, 22, 20, 25, 24, 18):
        recording = recorder.record(prompt_of(IDS[:length]))
        near(logits_after(recording, length - 1), truth("phi3", IDS[:length])[-1])
        if length in (19, 22):
            assert (recording.ran, recording.reused) == (1, length - 1)
    prompts = [prompt_of(IDS[:length]) for length in (30, 9, 28, 20)]
    for prompt, padded in zip(prompts, record_padded(recorder, prompts), strict=True):
        near(padded.logits, truth("phi3", list(prompt.ids))[-1])


def test_a_pass_leaves_nothing_in_the_rotary_embedding():
    model = fresh_model("llama")
    rotary, state = model.model.rotary_emb, RestoredBuffers(model)
    before = rotary.inv_freq.clone()
    with state.restored():
        model(input_ids=torch.tensor([IDS]))
        assert not torch.equal(rotary.inv_freq, before)
    assert torch.equal(rotary.inv_freq, before)
    assert rotary.max_seq_len_cached == BORDER


def test_what_differs_with_a_cache_is_run_whole_and_told(tmp_path):
    model = small_model("gpt2")
    model.save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path))
    scope.model.transformer.h[1].register_forward_hook(
        lambda module, args, output: 1.1 * output if args[0].shape[1] < 10 else output
    )
    first = scope.record(IDS[:14])
    second = scope.record(IDS[:15])
    assert (first.ran, second.ran) == (14, 15)
    assert any("with a KV cache" in notice for notice in second.prompt.notices)
