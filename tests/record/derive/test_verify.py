"""Verdicts: they hold on what is right, and break on what is wrong."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import llmscope
from llmscope.models.anatomy import find
from llmscope.record.derive.verify import CAPABILITIES, WRITES, pattern_verdict_at, verify
from tests.families import CLOSELY, FAMILIES, refused, small_model
from tests.lenses.asked import figure_at
from tests.record.conftest import prompt_of, recorder_for
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("hooks_watch")

DTYPES = [torch.float32, torch.bfloat16]
BREAKABLE = [capability for capability in CAPABILITIES if capability != "experts"]
"""Wrong beliefs about experts need another layer that has some: see `test_experts`."""


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.few(24)
def test_what_is_verified_and_what_is_refused(family, dtype):
    verdicts = verify(recorder_for(small_model(family).to(dtype)))
    for capability in CAPABILITIES:
        for layer in range(3):
            verdict = verdicts(capability, layer)
            expected = "refused" if layer in refused(family, capability) else "verified"
            assert verdict.status == expected, (capability, layer, verdict)
            assert (expected == "refused") == bool(verdict.reason)


def test_at_least_40_families_show_tokens_streams_and_readout():
    whole = [f for f in FAMILIES if not refused(f, "writes") and not refused(f, "readout")]
    assert len(FAMILIES) == 47
    assert len(whole) >= 40


def broken(model, capability, at):
    """The anatomy of the model with one wrong belief in one layer, or in its readout."""
    anatomy = find(model)
    layers = list(anatomy.layers)
    layer, other = layers[at], layers[at - 1]
    if capability == "readout":
        readout = anatomy.readout
        if isinstance(readout.norm, nn.Identity):  # it has no norm to leave out
            return {"readout": replace(readout, unembed=Reversed(readout.unembed))}
        return {"readout": replace(readout, norm=nn.Identity())}
    if capability == "writes":
        wrong = {"scales": {name: 2.0 * layer.scale(name) for name in WRITES}}
    elif capability == "patterns":
        wrong = {"attention_out": Reversed(layer.attention_out)}
    else:
        wrong = {"down": other.down, "mlp_write": other.mlp_write}
    layers[at] = replace(layer, **wrong)
    return {"layers": tuple(layers)}


class Reversed(nn.Module):
    """A projection that is believed to write its numbers in the other order."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    @property
    def weight(self):
        return self.module.weight

    def forward(self, rows):
        return self.module(rows).flip(-1)


@pytest.mark.parametrize("capability", BREAKABLE)
@pytest.mark.parametrize(
    ("family", "dtype"),
    thinned(
        [(family, dtype) for dtype in DTYPES for family in FAMILIES],
        lambda case: case[1] == torch.float32 or case[0] in CLOSELY,
    ),
    ids=str,
)
@pytest.mark.few(33)
def test_a_wrong_belief_is_refused_where_it_is_wrong(family, capability, dtype):
    right = [layer for layer in (2, 1) if layer not in refused(family, capability)]
    if not right:
        return  # it is refused already
    model = small_model(family).to(dtype)
    verdict = verify(recorder_for(model, **broken(model, capability, right[0])))(
        capability, right[0]
    )
    assert verdict.status == "refused"
    assert verdict.reason


def test_attention_that_cannot_be_routed_is_watched(monkeypatch):
    model = small_model("llama")
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    assert verify(recorder_for(model))("patterns").status == "verified"


def test_attention_that_gives_no_pattern_is_refused_with_the_reason(monkeypatch):
    model = small_model("bloom")
    attention = type(model.transformer.h[0].self_attention)
    forward = attention.forward
    monkeypatch.setattr(
        attention, "forward", lambda self, *args, **kwargs: forward(self, *args, **kwargs)[:1] * 2
    )
    verdict = verify(recorder_for(model))("patterns")
    assert verdict.status == "refused"
    assert "does not give its pattern" in verdict.reason


def test_a_model_that_makes_nan_is_refused_not_shown():
    model = small_model("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.fill_(torch.nan)
    verdicts = verify(recorder_for(model))
    assert verdicts("readout").status == "refused"
    assert "NaN" in verdicts("readout").reason
    assert verdicts("activations", 1).status == "refused"
    assert verdicts("activations", 0).status == "verified"


def believed(recording, **wrong):
    """The recording with another belief in its windows, and nothing of what its masks said."""
    parts = []
    for segment, count in recording.parts:
        layers = tuple(replace(rows, visible_from=None) for rows in segment.layers)
        parts.append((replace(segment, layers=layers, memo={}), count))
    settings = tuple(replace(one, **wrong) for one in recording.settings)
    return replace(recording, settings=settings, parts=tuple(parts))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wrong", [{"window": None}, {"window": 21}, {"scale": 0.3}])
def test_a_prompt_longer_than_the_probe_is_held_against_the_model_itself(dtype, wrong):
    """A window that the probe is too short for: believed at first, found out where it matters."""
    model = small_model("mistral", sliding_window=20, max_position_embeddings=64).to(dtype)
    recorder = recorder_for(model)
    long = recorder.record(prompt_of([(7 * i) % 96 for i in range(40)]))
    assert pattern_verdict_at(long, 1, 39).status == "verified"
    other = believed(long, **wrong)
    if "window" in wrong:
        assert pattern_verdict_at(other, 1, 19).status == "verified"  # it does not reach so far
    verdict = pattern_verdict_at(other, 1, 39)
    assert verdict.status == "refused"
    assert verdict.reason.startswith("at token 39 it differs")
    assert verdict.discrepancy > 1e-5


def test_what_a_person_looks_at_is_checked_where_they_look(tmp_path):
    small_model("mistral", sliding_window=20).save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path))
    ids = [(7 * i) % 96 for i in range(40)]
    recording = scope.record(ids)
    assert scope.look("attention", layer=1).verdict.status == "verified"
    other = believed(recording, window=30)
    for focus in ({"span": (0, 20), "position": 10}, {}, {"position": 10}):
        figure = figure_at(scope, "attention", other, layer=1, **focus)
        assert figure.verdict.status == ("verified" if "span" in focus else "refused")
        assert bool(figure.axes) == ("span" in focus)
