"""NaN and infinity in a pass: marked, never a crash and never a wrong number."""

import json

import numpy as np
import pytest
import torch

from llmscope.draw import RenderOptions
from llmscope.export import json_text, render
from llmscope.lenses import lens, names
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model

BAD = 40  # a token that the probe of the verdicts does not hold
IDS = [5, 17, 3, BAD, 17, 42]


@pytest.fixture(scope="module", params=[torch.nan, torch.inf], ids=str)
def scope(request):
    module = small_model("llama", tie_word_embeddings=False)
    with torch.no_grad():
        module.model.embed_tokens.weight[BAD] = request.param
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    return Scope(model)


def test_without_the_bad_token_all_is_verified(scope):
    scope.record([5, 17, 3, 17])
    for name in names():
        figure = scope.look(name)
        assert figure.verdict.status in ("verified", "refused")
    assert scope.look("next-token").verdict.status == "verified"


def test_every_lens_and_mode_says_so_and_draws(scope):
    recording = scope.record(IDS)
    for name in names():
        for mode in lens(name).modes or ("",):
            figure = scope.look(name, recording=recording, mode=mode)
            assert figure.verdict.status in ("partial", "refused"), (name, mode)
            assert figure.verdict.reason
            json.loads(json_text(figure.to_dict()), parse_constant=pytest.fail)
            assert render(figure, "txt", look=RenderOptions(tier="none"))


def test_what_was_recorded_before_it_came_keeps_its_numbers(scope):
    clean = scope.record(IDS[:3], fresh=True)
    before = {name: scope.look(name, recording=clean).values for name in ("tokens", "residual")}
    recording = scope.record(IDS)
    assert recording.reused == 3
    after = {name: scope.look(name, recording=recording) for name in before}
    assert after["tokens"].values[:3] == pytest.approx(before["tokens"], abs=1e-4, nan_ok=True)
    assert after["residual"].values[:, :3] == pytest.approx(before["residual"], rel=1e-4)
    assert "from position 3 on" in after["tokens"].verdict.reason


def test_no_number_is_made_of_what_is_none(scope):
    recording = scope.record(IDS)
    figure = scope.look("tokens", recording=recording)
    unknown = np.isnan(figure.values[4:])
    assert unknown.all()
    assert np.isnan(figure.extra["ranks"][4:]).all()
    assert np.isnan(figure.extra["entropy"][3:]).all()
    following = scope.look("next-token", recording=recording)
    assert following.verdict.status == "refused"
    assert "NaN or infinity" in following.verdict.reason


def test_the_reason_is_what_came_out_and_not_a_guess_at_the_structure(scope):
    scope.record(IDS, fresh=True)
    table = scope.look("walkthrough")
    assert "NaN or infinity" in table.verdict.reason
    for step in range(len(table.axes[0].labels)):
        reason = scope.look("walkthrough", step=step, mode="values").verdict.reason
        assert "NaN or infinity" in reason, (step, reason)
    for mode in ("last", "query"):
        assert "NaN or infinity" in scope.look("context", mode=mode, context=2).verdict.reason
    for name in ("saliency", "attribution"):
        assert "NaN or infinity" in scope.look(name).verdict.reason


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e300])
def test_a_temperature_at_the_edge_makes_no_infinity(temperature):
    parameter = next((model := small_model("llama")).parameters())
    own = Scope(
        LoadedModel("test", "test", model, None, find(model), parameter.device, parameter.dtype)
    )
    own.record(IDS[:3])
    figure = own.look("next-token", temperature=temperature)
    assert figure.verdict.status == "verified"
    wanted = 1.0 if temperature < 1 else 1 / model.config.vocab_size
    assert figure.values[0] == pytest.approx(wanted)
