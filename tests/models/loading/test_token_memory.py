"""The memory of tokens, told by a config: what recordings of small models of that kind take."""

from types import SimpleNamespace

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading import token_memory
from llmscope.models.loading.token_memory import (
    SPARE,
    TokenBytes,
    model_memory,
    token_bytes,
    tokens_that_fit,
)
from llmscope.models.sources import Options
from llmscope.record.capture.row_budget import size_of
from tests.families import CLOSELY, FAMILIES, small_model
from tests.models.checkpoints import edit_config

IDS = list(range(3, 13))
WITHOUT_QUERIES = {"gpt_neo", "bloom", "falcon", "mpt", "xglm", "openai-gpt"}
"""Families that compute attention inside its module: their queries are not kept."""
OTHER_MIXERS = {"mamba": 0.67, "mamba2": 0.67, "rwkv": 0.84, "falcon_h1": 1.47}
"""Families whose layers keep other rows: those that a token takes, as a share of what is told."""
WITHOUT_CACHE = ("rwkv", "openai-gpt")
"""Families that keep no keys: one is a recurrence, the other computes every prompt whole."""
SMALLEST = [*CLOSELY, "mixtral", "deepseek_v3", "falcon", "jamba"]


def of_recording(family):
    """Bytes of a token's keys and values, and of its rows, in a recording; whether it has queries.

    Returns them behind the config.
    """
    model = small_model(family)
    with llmscope.wrap(model) as scope:
        recording = scope.record(IDS)
    rows = sum(size_of(segment.layers) for segment, _ in recording.parts)
    held = {}
    pairs = [one for pair in recording.past or () for one in pair]
    for one in (*pairs, *recording.keys, *recording.values):
        if one is not None:  # views of one memory count once
            held[one.untyped_storage().data_ptr(), one.storage_offset()] = one.nbytes
    queries = any(recording.rows("query", layer) is not None for layer in range(recording.layers))
    return model.config, sum(held.values()) / len(IDS), rows / len(IDS), queries


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(one, marks=() if one in SMALLEST else pytest.mark.slow, id=one)
        for one in FAMILIES
    ],
)
@pytest.mark.few(3)
def test_the_bytes_of_a_token_are_those_of_a_recording(family):
    config, cache, rows, queries = of_recording(family)
    told = token_bytes(config.get_text_config(), 4)
    if family not in WITHOUT_CACHE:
        assert told.cache == cache
    if family not in (*OTHER_MIXERS, "falcon"):  # 5.25 calls a function in its attention
        assert queries == (family not in WITHOUT_QUERIES)
    share = OTHER_MIXERS.get(family, 1.03 if queries else 0.755)
    assert rows / told.rows == pytest.approx(share, abs=0.035)


def test_half_precision_takes_half():
    config = small_model("llama").config
    whole, half = token_bytes(config, 4), token_bytes(config, 2)
    assert (half.cache, half.rows, half.final) == (
        whole.cache // 2,
        whole.rows // 2,
        whole.final // 2,
    )


@pytest.mark.fast
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 2, "hidden_size": 0},
        {"num_hidden_layers": "two", "hidden_size": None},
        {"num_hidden_layers": True, "hidden_size": 8},
    ],
)
def test_a_config_without_sizes_tells_nothing(sizes):
    assert token_bytes(SimpleNamespace(**sizes), 2) is None


@pytest.mark.fast
def test_as_many_tokens_fit_as_memory_holds():
    token = TokenBytes(cache=SPARE * 100, rows=10_000, final=300)
    stays = SPARE * 100 + 100 + 300
    assert tokens_that_fit(token, 120_000, 10**9) == 120_000 // (stays + 10_000)
    assert tokens_that_fit(token, 10**9, 10**6) == (10**9 - 10**6) // stays
    assert tokens_that_fit(token, 0, 10**6) == tokens_that_fit(token, -5, 10**6) == 0
    assert tokens_that_fit(token, 10**6, 0) == 10**6 // stays
    for left in range(0, 3_000_000, 997):  # never more than there is, and one more is too many
        count = tokens_that_fit(token, left, 10**6)
        took = [one * stays + min(one * 10_000, 10**6) for one in (count, count + 1)]
        assert took[0] <= left < took[1]


def told(folder, device="cpu", dtype="auto", memory=None):
    return model_memory(
        str(folder),
        device=device,
        dtype=dtype,
        backend="transformers",
        cache_type=None,
        adapters=(),
        memory=memory or RowMemory(),
        options=Options(),
    )


def test_a_model_is_told_before_it_is_loaded(tmp_path, monkeypatch):
    model = small_model("llama")
    model.save_pretrained(tmp_path)
    count = sum(one.numel() for one in model.parameters())
    monkeypatch.setattr(token_memory, "available", lambda device: 10 * count)
    found = told(tmp_path)
    assert (found.device, found.free, found.context) == ("cpu", 10 * count, 64)
    assert found.weights == 4 * count
    assert found.token == token_bytes(model.config, 4)
    assert found.tokens == tokens_that_fit(found.token, 5 * count, RowMemory().limit)
    half = told(tmp_path, dtype="bfloat16")
    assert half.weights == 2 * count
    assert half.token == token_bytes(model.config, 2)
    assert told(tmp_path, memory=RowMemory(0)).tokens > found.tokens


def test_on_a_gpu_it_has_its_own_numbers(tmp_path, monkeypatch):
    model = small_model("llama").bfloat16()
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(token_memory, "choose_device", lambda name: torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    found = told(tmp_path, device="cuda:1")
    assert (found.device, found.free) == ("cuda:1", 10**9)
    assert found.weights == sum(2 * one.numel() for one in model.parameters())
    assert found.token == token_bytes(model.config, 2)


def test_a_config_that_cannot_be_read_tells_no_tokens(tmp_path):
    small_model("llama").save_pretrained(tmp_path)
    edit_config(tmp_path, model_type="of_nobody")
    with pytest.raises(ScopeError):
        llmscope.load(str(tmp_path))
    try:
        found = told(tmp_path)
    except ScopeError:
        return  # refused by the same check as when it is loaded
    assert found.token is found.tokens is None
