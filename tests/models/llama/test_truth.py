"""llama.cpp against transformers, on F32 files of random models: neither knows of the other."""

import os
import signal
from threading import Timer

import pytest
import torch
from tokenizers.pre_tokenizers import Split

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.llama import load
from llmscope.models.llama.load import load_gguf
from llmscope.models.llama.process import SequenceRun
from llmscope.record.compare.rounding import rounding
from llmscope.record.derive.tensors import pattern
from llmscope.scope.scope import Scope
from tests.models import ggufs

pytest.importorskip("llama_cpp_py_sync")

IDS = [3, 4, 5, 14, 15, 16, 7, 8]
FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "stablelm", "starcoder2"),
    *("gpt2", "gemma2", "phi3", "qwen3_moe"),
)
WITH_GELU = ("gemma3_text", "starcoder2", "gpt2", "gemma2")
NEAR = 2e-5
"""Largest difference, relative to the largest number: llama.cpp sums in another order."""
BY_TABLE = 5e-4
"""The same where ggml reads the activation function, GELU, from a table of float16."""


def opened(path, family, **settings):
    module = ggufs.made(family)
    module.set_attn_implementation("eager")
    ggufs.write(path, family, module)
    model = load_gguf(path, str(path), threads=1, cache_type="f32", **settings)
    return Scope(model), module


def apart(tensor, other):
    return float((tensor - other).abs().max() / other.abs().max())


@pytest.fixture
def file(tmp_path, empty_cache):
    return tmp_path / "small.gguf"


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_streams_and_attention_are_those_of_transformers(file, family):
    scope, module = opened(file, family)
    recording = scope.record(IDS)
    near = BY_TABLE if family in WITH_GELU else NEAR
    with torch.no_grad():
        truth = module(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    assert apart(recording.logits, truth.logits[0, -1]) < near
    for layer, stream in enumerate(truth.hidden_states[:-1]):  # the last one is normed
        assert apart(recording.rows("stream", layer), stream[0]) < near
    for layer, weights in enumerate(truth.attentions):
        assert apart(pattern(recording, layer), weights[0]) < near
    mlps = "experts" if family == "qwen3_moe" else "activations"
    for capability in ("readout", "writes", "patterns", mlps):
        assert scope.verdicts(capability).status == "verified"


def test_windows_are_those_that_the_pass_has_and_grow_with_the_prompt(file):
    scope, module = opened(file, "gemma2")
    assert module.config.sliding_window < len(IDS)
    windows = [layer.self_attn.sliding_window for layer in scope.model.model.layers]
    assert windows == [module.config.sliding_window, None, module.config.sliding_window]
    ids = [*IDS, *reversed(IDS), 9, 4]
    scope.record(ids[:-1])
    recording = scope.record(ids)
    assert recording.ran == 1
    with torch.no_grad():
        truth = module(torch.tensor([ids]), output_attentions=True)
    for layer, weights in enumerate(truth.attentions):
        assert apart(pattern(recording, layer), weights[0]) < BY_TABLE


def test_the_choice_of_experts_is_that_of_transformers(file):
    scope, module = opened(file, "qwen3_moe")
    recording, truth = scope.record(IDS), llmscope.wrap(module).record(IDS)
    for layer in range(3):
        assert torch.equal(recording.rows("chosen", layer), truth.rows("chosen", layer))
        assert apart(recording.rows("routed", layer), truth.rows("routed", layer)) < NEAR


@pytest.mark.parametrize(
    "edit",
    [
        *("zero head 1.1", "scale mlp 0 2.5", "zero attention 1", "zero neuron 1.3"),
        *("scale layer 1 0.5 @2..", "steer 0 token id:5 2", "steer 1 token id:9 3 @4"),
    ],
)
def test_an_edit_gives_what_it_gives_in_transformers(file, edit):
    scope, module = opened(file, "llama")
    truth = llmscope.wrap(module)
    ours, theirs = (each.record(IDS, edits=[edit]) for each in (scope, truth))
    assert apart(ours.logits, theirs.logits) < 1e-4
    assert apart(ours.logits, scope.record(IDS).logits) > 1e-3


def test_no_copy_in_another_precision_is_made(file):
    scope, _ = opened(file, "llama")
    measured = rounding(scope.record(IDS), torch.bfloat16)
    assert measured.reason.endswith("llama.cpp, F32, cache f32 computes in no other precision")


def test_a_letter_costs_one_token_and_changes_no_number(file):
    scope, _ = opened(file, "llama")
    scope.record(IDS[:-1])
    recording = scope.record(IDS)
    assert (recording.ran, recording.reused) == (1, len(IDS) - 1)
    whole = scope.record(IDS, fresh=True)
    assert apart(recording.logits, whole.logits) < NEAR
    assert scope.record([*IDS[:3], 9]).ran == 1


def test_every_number_handed_out_leaves_the_logits_as_they_are(file):
    scope, _ = opened(file, "qwen3")
    recording = scope.record(IDS, fresh=True)
    process = scope.model.backend.process
    bare = process.decode([SequenceRun(7, 7, 0, IDS)], [], 0)["logits"][0]
    assert torch.equal(recording.logits, bare)


def test_a_killed_process_is_one_line_and_the_next_letter_starts_it_anew(file):
    scope, _ = opened(file, "llama")
    before = scope.record(IDS)
    process = scope.model.backend.process
    process._worker._process.kill()
    process._worker._process.wait()
    after = scope.record([*IDS, 9])
    assert after.ran == 1
    assert process.starts == 2
    assert apart(after.rows("stream", 1)[:-1], before.rows("stream", 1)) == 0
    whole = scope.record([*IDS, 9], fresh=True)
    assert apart(after.logits, whole.logits) < NEAR
    os.kill(process._worker._process.pid, signal.SIGSTOP)  # so that it is in the middle of a call
    Timer(0.2, process._worker._process.kill).start()
    with pytest.raises(
        ScopeError, match=r"the process of llama\.cpp ended \(it crashed: SIGKILL\)"
    ):
        scope.record([*IDS, 10])
    assert apart(scope.record([*IDS, 9]).logits, whole.logits) < NEAR
    assert scope.record([*IDS, 9, 3]).ran == 1
    assert process.starts == 3


def test_a_process_that_is_started_anew_multiplies_with_weights_as_before(file):
    scope, _ = opened(file, "llama")
    scope.record(IDS)
    before = scope.look("attribution", mode="parts")
    scope.record(IDS, fresh=True)
    process = scope.model.backend.process
    process._worker._process.kill()
    process._worker._process.wait()
    after = scope.look("attribution", mode="parts")
    assert after.verdict.status == before.verdict.status == "verified"
    assert abs(after.values - before.values).max() < NEAR
    assert process.starts == 2


def test_more_prompts_than_the_cache_has_sequences_go_on_from_what_they_share(file):
    scope, _ = opened(file, "llama")
    first = scope.record(IDS)
    edited = [scope.record(IDS, edits=[f"scale mlp 0 {factor}"]) for factor in range(2, 14)]
    assert len({float(each.logits[0]) for each in edited}) == len(edited)
    again = scope.record([*first.prompt.ids, 9])
    assert again.ran == 1
    assert apart(again.logits, scope.record([*IDS, 9], fresh=True).logits) < NEAR


@pytest.mark.parametrize("family", ["qwen2_moe", "mamba", "bloom", "falcon"])
@pytest.mark.few(2)
def test_what_is_not_known_of_an_architecture_is_refused(file, family):
    with pytest.raises(ScopeError, match=r"llama\.cpp|has no blk") as caught:
        opened(file, family)
    assert "without a backend" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"backend": "onnx"}, "there is no such backend"),
        ({"backend": "llama.cpp", "dtype": "float16"}, "does not go with"),
        ({"backend": "llama.cpp", "adapters": ["x"]}, "does not go with"),
        ({"backend": "llama.cpp"}, "is no GGUF file"),
    ],
)
def test_what_does_not_go_with_a_backend_is_refused(options, reason):
    with pytest.raises(ScopeError, match=reason):
        llmscope.load("builtin:town", **options)


def test_a_damaged_file_is_refused_before_llama_sees_it(file):
    ggufs.write(file, "llama", ggufs.made("llama"))
    file.write_bytes(file.read_bytes()[:-64])
    with pytest.raises(ScopeError, match="is damaged"):
        llmscope.load(file, backend="llama.cpp")


def test_gradients_are_refused_in_one_sentence(file):
    scope, _ = opened(file, "llama")
    scope.record(IDS)
    assert "llama.cpp computes no gradients" in scope.look("saliency").verdict.reason


def test_texts_get_llamas_own_tokens_where_those_of_transformers_differ(file, monkeypatch):
    def split_wrongly(tokenizer, texts, values):
        tokenizer.backend_tokenizer.pre_tokenizer = Split("b", behavior="isolated")
        return []

    monkeypatch.setattr(load, "split_as_named", split_wrongly)
    model = opened(file, "llama")[0].loaded_model
    (notice,) = model.notices
    assert notice.endswith("than llama.cpp: its own are taken")
    texts = ["ab b", "a b ab", "", "<s>ab</s>", "cab"]
    for special in (False, True):
        for text, ids in zip(
            texts, model.module.backend.process.call("tokenize", texts, special), strict=True
        ):
            encoded = model.tokens.encode(text, special)
            assert list(encoded.ids) == ids
            assert model.tokens.decode(ids) == text
    assert model.tokens.encode("ab b").spans == ((0, 2), (2, 4))
    assert model.tokens.encode("ab").ids != tuple(model.tokens.tokenizer("ab").input_ids)
