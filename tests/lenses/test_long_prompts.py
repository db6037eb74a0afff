"""Every lens on a prompt whose rows were released, against the same with all rows kept."""

import numpy as np
import pytest

import llmscope
from llmscope.lenses import lens, names
from llmscope.record.capture import recorder as recorder_module
from llmscope.record.capture import recording as recording_module
from tests.families import small_model
from tests.lenses.asked import options_for
from tests.thinned import thinned

IDS = [(7 * at * at + 3 * at + 5) % 90 + 3 for at in range(40)]
FURTHER = {
    "contrast": {"versus_prompt": [*IDS[:30], 11, *IDS[31:]]},
    "patching": {"versus_prompt": [*IDS[:30], 11, *IDS[31:]]},
    "context": {"context": 30},
}
LEFT_OUT = ("stages", "features", "probe", "model-diff")
"""They need what this model does not have: a base, a dictionary, a direction, another model."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(recorder_module, "CHUNK", 8)
    monkeypatch.setattr(recorder_module, "BLOCK", 4)
    monkeypatch.setattr(recording_module, "BLOCK", 4)
    monkeypatch.setattr(recorder_module, "SMALL", 1)


def scope_of(family, limit):
    scope = llmscope.wrap(small_model(family))
    scope.recorder.prepare_reuse()
    scope.recorder.budget.limit = limit
    return scope


def alike(one, other, where):
    assert one.verdict.status == other.verdict.status, where
    if one.verdict.status == "refused":
        return
    assert [axis.labels for axis in one.axes] == [axis.labels for axis in other.axes], where
    scale = max(1.0, float(np.nanmax(np.abs(other.values), initial=0.0)))
    both = np.asarray(one.values), np.asarray(other.values)
    assert np.array_equal(np.isnan(both[0]), np.isnan(both[1])), where
    assert np.nanmax(np.abs(both[0] - both[1]), initial=0.0) <= 1e-4 * scale, where


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", thinned(("llama", "gemma2", "gpt2", "mixtral"), lambda one: one == "llama")
)
def test_every_lens_reads_released_rows(family):
    kept, released = scope_of(family, 1 << 40), scope_of(family, 1)
    looked, whole = 0, kept.record(IDS)
    for name in names():
        if name in LEFT_OUT or (name == "experts" and family != "mixtral"):
            continue
        for mode in lens(name).modes or ("",):
            if (name, mode) == ("logit-lens", "lenses"):
                continue  # compares learned lenses
            for position in (5, len(IDS) - 1):
                focus = {"mode": mode, "layer": 1, "position": position, **FURTHER.get(name, {})}
                focus = options_for(name, **focus)
                released.forget()
                recording = released.record(IDS)
                expected = kept.look(name, recording=whole, **focus)
                found = released.look(name, recording=recording, **focus)
                assert any(segment.released for segment, _ in recording.parts)
                alike(found, expected, (name, mode, position))
                looked += expected.verdict.status != "refused"
    assert looked > 40


@pytest.mark.few(1)
@pytest.mark.parametrize("edit", ["zero head 1.0", "zero mlp 0"])
def test_edits_of_a_long_prompt_read_released_rows(edit):
    kept, released = scope_of("llama", 1 << 40), scope_of("llama", 1)
    one, other = (scope.record(IDS, edits=[edit]) for scope in (kept, released))
    for layer in range(4):
        rows = [recording.rows("stream", layer) for recording in (one, other)]
        assert float((rows[0] - rows[1]).abs().max()) <= 1e-4 * float(rows[0].abs().max())
    for name in ("logit-lens", "residual", "tokens", "mlp"):
        figures = [
            scope.look(name, recording=made) for scope, made in ((kept, one), (released, other))
        ]
        alike(figures[1], figures[0], name)
