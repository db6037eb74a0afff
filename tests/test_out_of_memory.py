"""Memory that runs out in a pass or a lens: one line, and what ran is freed."""

import gc
import weakref

import pytest
import torch

import llmscope
from llmscope.edits import parse
from llmscope.errors import OutOfMemory
from tests.families import small_model

IDS, OTHER = [5, 17, 3, 60, 17, 42], [9, 33, 71, 4, 12, 42]
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has …"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.fixture
def scope():
    return llmscope.wrap(small_model("llama"))


def fail_with(scope, error, held=()):
    """Let the second layer run out of memory, with a tensor in its frame."""

    def fail(_, args):
        large = args[0].clone()
        for keep in held:
            keep(weakref.ref(large))
        raise error

    return scope.model.model.layers[1].register_forward_pre_hook(fail)


@pytest.mark.few(1)
@pytest.mark.parametrize("error", ERRORS, ids=["device", "cpu", "python"])
def test_a_pass_says_what_would_fit_and_a_later_one_runs(scope, error):
    own = scope.record(IDS).logits
    held = []
    handle = fail_with(scope, error, [held.append])
    with pytest.raises(OutOfMemory, match="out of memory on cpu") as told:
        scope.record(OTHER)
    assert told.value.hint == "a shorter prompt, or a smaller dtype"
    assert "\n" not in told.value.message
    gc.collect()
    assert [one() for one in held] == [None]
    assert scope.latest is None
    handle.remove()
    assert torch.equal(scope.record(IDS).logits, own)


def test_so_does_a_lens(scope):
    recording = scope.record(IDS)
    scope.look("ablation")
    recording.memo.clear()
    with scope.unchanged():  # the hook stands for the device, and is no change of the model
        handle = fail_with(scope, ERRORS[0])
        with pytest.raises(OutOfMemory, match="out of memory on cpu"):
            scope.look("ablation", recording=recording)
        handle.remove()
    assert scope.look("ablation", recording=recording).verdict.status == "verified"


def test_so_does_an_edited_pass_on_the_screen(scope):
    """An edit is not blamed for it."""
    from llmscope.engine import Engine
    from llmscope.engine.events import Refused, Request

    posted = []
    engine = Engine(lambda _: scope, posted.append)
    engine._model.first(lambda *_: None)
    scope.record(IDS)
    fail_with(scope, ERRORS[0])
    engine._handle(Request(7, "", (), ids=tuple(OTHER), edits=(parse("zero mlp 0"),)))
    (refused,) = [one for one in posted if isinstance(one, Refused)]
    assert (refused.serial, refused.reason) == (7, "out of memory on cpu")
    assert not refused.faults
