"""Memory that runs out while a model loads: what is needed, what there is, what would fit."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmscope.errors import ScopeError
from llmscope.models.loading import load, memory
from llmscope.models.loading.load import load_model
from tests.families import small_model


@pytest.fixture
def folder(tmp_path):
    small_model("gpt2").save_pretrained(tmp_path)
    return tmp_path


def failing(monkeypatch, owner, name, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(owner, name, fail)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["device", "python", "cpu"])
def test_a_model_that_does_not_fit_says_what_would(folder, monkeypatch, error):
    count = sum(p.numel() for p in small_model("gpt2").parameters())
    failing(monkeypatch, PreTrainedModel, "to", error)
    monkeypatch.setattr(memory, "available", lambda device: 3 * count)
    monkeypatch.setattr(memory, "GIB", 1)  # the model is small: count in bytes
    with pytest.raises(ScopeError) as told:
        load_model(str(folder))
    assert f"take {4 * count}.0 GiB, and {3 * count}.0 GiB are free" in told.value.message
    assert told.value.hint == f'dtype="bfloat16", which takes {2 * count}.0 GiB'


def test_where_half_the_numbers_do_not_fit_either(folder, monkeypatch):
    failing(monkeypatch, PreTrainedModel, "to", MemoryError())
    monkeypatch.setattr(memory, "available", lambda device: 10_000_000_000 if device.type else 0)
    monkeypatch.setattr(memory, "_parameters", lambda folder: (70_000_000_000, 2))
    with pytest.raises(ScopeError) as told:
        load_model(str(folder), dtype="bfloat16")
    assert told.value.hint.startswith('device="spread"')
    assert told.value.hint.endswith("a model of at most 4.5 billion parameters")


def test_what_else_goes_wrong_is_not_called_memory():
    assert not memory.ran_out(RuntimeError("shape mismatch"))
    assert not memory.ran_out(ValueError("out of memory"))


def test_what_would_be_killed_is_not_begun(folder, monkeypatch):
    """Weights in bfloat16 that become float32 on a CPU need memory of their own."""
    small_model("gpt2").bfloat16().save_pretrained(folder)
    count = sum(p.numel() for p in small_model("gpt2").parameters())
    monkeypatch.setattr(memory, "available", lambda device: 3 * count)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(free=count // 2))
    monkeypatch.setattr(memory, "GIB", 1)
    failing(monkeypatch, AutoModelForCausalLM, "from_pretrained", AssertionError("it was begun"))
    with pytest.raises(ScopeError) as told:
        load_model(str(folder), dtype="float32")
    assert f"take {4 * count}.0 GiB" in told.value.message
    assert told.value.hint.startswith('dtype="bfloat16"')
    monkeypatch.undo()
    assert load_model(str(folder), dtype="float32").dtype == torch.float32


def test_weights_that_stay_as_they_are_take_no_memory_of_their_own(folder, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 0)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(free=0))
    assert load_model(str(folder), dtype="float32").dtype == torch.float32


def test_what_had_arrived_on_the_device_leaves_it(folder, monkeypatch):
    moves, freed = [], []

    def move(model, place):
        moves.append(str(place))
        if len(moves) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model

    monkeypatch.setattr(PreTrainedModel, "to", move)
    monkeypatch.setattr(load, "choose_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(list(moves)))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 10))
    with pytest.raises(ScopeError) as told:
        load_model(str(folder), device="cuda:0")
    assert moves == ["cuda:0", "cpu"]
    assert freed == [moves]
    assert "memory of cuda:0" in told.value.message
    assert told.value.hint == 'device="cpu"'
