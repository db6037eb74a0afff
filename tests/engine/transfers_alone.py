"""What goes to a GPU, comes from it, and waits for it: counted on a stand-in that needs none."""

import asyncio

import numpy as np
import pytest
import torch

from llmscope.engine import Engine
from llmscope.engine.events import Frame, Request
from llmscope.errors import ScopeError
from llmscope.figure import Figure, Focus
from llmscope.lenses import lens, names
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import row_checks, row_stats
from llmscope.record.fetch import to_cpu
from llmscope.scope.scope import Scope
from tests.benchmarks.contenders.screen import wants_of_the_screen
from tests.families import small_model
from tests.far_device import DEVICE, far_device, kinds

FAMILIES = ("llama", "gpt2", "gemma2", "mixtral")
TO_CPU = 1
"""Transfers of one letter with all panes of the overview: all figures and checks wait together."""
WAITS = {"gemma2": 2, "gpt2": 1}
"""Waits besides: one for each kind of mask, to tell what it hides, and one where GPT-2's code in
transformers looks for padding."""
TO_DEVICE = 4
"""The token's id, the one that follows, and which rows need logits."""


def scope_on(device, family):
    model = small_model(family)
    model.to(device)
    return Scope(
        LoadedModel("test", "test", model, None, find(model), torch.device(device), torch.float32)
    )


def ids_of(scope, count):
    return [(7 * at + 3) % scope.loaded_model.anatomy.vocabulary for at in range(count)]


def letter(scope, seen, length=15):
    """Ask the engine for all panes of the overview while a prompt grows, and count the last one."""
    wants = asyncio.run(wants_of_the_screen(scope.info()))
    posted, ids = [], ids_of(scope, length)
    engine = Engine(lambda _: scope, posted.append)
    engine._model.first(lambda *_: None)
    for end in range(length - 3, length + 1):
        seen.clear()
        posted.clear()
        engine._handle(Request(end, "", wants, ids=tuple(ids[:end]), special_tokens=False))
    figures = {
        key: one
        for event in posted
        if isinstance(event, Frame)
        for key, one in event.figures.items()
    }
    return wants, figures


def test_the_stand_in_tells_devices_apart():
    with far_device() as seen:
        far = torch.arange(4.0, device=DEVICE)
        assert far.device == DEVICE
        for mixed in (lambda: far + torch.ones(4), lambda: torch.ones(4) @ far):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        assert not seen
        assert (far + 1).cpu().tolist() == [1, 2, 3, 4]
        assert float(far.sum()) == 6
        assert far[far > 1].cpu().tolist() == [2, 3]
        far[[0, 1]] = torch.zeros(2).to(DEVICE)
        assert far.tolist() == [0, 0, 2, 3]
    counted = kinds(seen)
    assert counted["to cpu"] == 3
    assert counted["item"] == 1
    assert counted["nonzero"] == 1
    assert counted["to device"] == 2  # the indices and the zeros


@pytest.mark.parametrize("family", FAMILIES)
def test_a_letter_waits_for_the_device_a_few_times_only(family):
    with far_device() as seen:
        wants, figures = letter(scope_on(DEVICE, family), seen)
        counted = kinds(seen)
    assert set(figures) == {want.key for want in wants}
    assert {one.verdict.status for one in figures.values()} == {"verified"}
    assert counted["to cpu"] <= TO_CPU, seen
    assert counted["to device"] <= TO_DEVICE, seen
    waits = counted.total() - counted["to cpu"] - counted["to device"]
    assert waits == WAITS.get(family, 0), seen


@pytest.mark.parametrize(
    "given",
    [
        [torch.arange(6.0).reshape(2, 3).T],
        [
            torch.tensor([True, False, True]),
            torch.tensor(5),
            torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            torch.arange(12.0, dtype=torch.float64).reshape(3, 4)[:, ::2],
            torch.zeros(0, 3, dtype=torch.float16),
            torch.tensor([0.1], dtype=torch.float32),
        ],
    ],
    ids=["one", "of all dtypes"],
)
def test_tensors_come_in_one_transfer(given):
    with far_device() as seen:
        far = [one.to(DEVICE) for one in given]
        seen.clear()
        near = torch.ones(2)
        found = to_cpu([*far, near, far[0]])
        assert kinds(seen) == {"to cpu": 1}
    assert found[-2] is near
    for own, one in zip((*given, near, given[0]), found, strict=True):
        assert one.device.type == "cpu"
        assert one.dtype == own.dtype
        assert torch.equal(one, own)


def test_a_failing_pane_takes_no_other_one_down(monkeypatch):
    with far_device() as seen:
        _, whole = letter(scope_on(DEVICE, "llama"), seen)
        chosen = lens("mlp")

        def fail(recording, focus, run):
            raise RuntimeError("no such neuron")

        monkeypatch.setitem(vars(chosen), "compute", fail)
        wants, figures = letter(scope_on(DEVICE, "llama"), seen)
        counted = kinds(seen)
    failed = {want.key for want in wants if want.lens == "mlp"}
    assert failed
    assert set(figures) == set(whole)
    for key, one in figures.items():
        if key in failed:
            assert (one.verdict.status, one.verdict.reason) == (
                "refused",
                "RuntimeError: no such neuron",
            )
        else:
            np.testing.assert_array_equal(one.values, whole[key].values)
    assert counted["to cpu"] <= TO_CPU


def test_a_readout_that_its_check_refuses_is_not_read(monkeypatch):
    """The first figure is begun beside the check, on a readout that turns out to be wrong."""
    compared, readout = row_checks._compared_readout, row_stats.logits
    monkeypatch.setattr(row_checks, "_compared_readout", lambda *given: compared(*given) + 1)
    monkeypatch.setattr(row_stats, "logits", lambda *given: readout(*given) * 0)
    shown = ("tokens", "next-token", "logit-lens", "mlp")

    def figures(scope):
        recording = scope.record(ids_of(scope, 12))
        return {name: list(scope.figures(name, recording, Focus())) for name in shown}

    near = figures(scope_on("cpu", "llama"))
    with far_device():
        far = figures(scope_on(DEVICE, "llama"))
    for name in shown:
        assert all(isinstance(one, Figure) for one in far[name])
        own, other = near[name][-1], far[name][-1]
        assert other.verdict.status == own.verdict.status
        assert other.verdict.status == ("refused" if name == "logit-lens" else "verified")
        np.testing.assert_allclose(other.values, own.values, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_figure_is_that_of_the_cpu(family):
    def figures(scope):
        recording, found = scope.record(ids_of(scope, 12)), {}
        for name in names():
            for mode in lens(name).modes or ("",):
                options = {"mode": mode} if mode else {}
                try:
                    found[name, mode] = scope.look(name, recording=recording, **options)
                except (ScopeError, ValueError) as error:
                    found[name, mode] = str(error)
        return found

    near = figures(scope_on("cpu", family))
    with far_device():
        far = figures(scope_on(DEVICE, family))
    shown = 0
    for key, own in near.items():
        other = far[key]
        if isinstance(own, str):
            assert other == own, key
            continue
        assert (other.verdict.status, other.verdict.reason) == (
            own.verdict.status,
            own.verdict.reason,
        ), key
        np.testing.assert_allclose(other.values, own.values, atol=1e-4, err_msg=str(key))
        shown += own.verdict.status == "verified"
    assert shown > 25
