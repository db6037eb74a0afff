"""Where no readout was found that gives the model's logits, its own logits are shown."""

import numpy as np
import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.all_families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]


def scope_of(model):
    return Scope(LoadedModel("", "small", model, None, find(model), model.device, model.dtype))


@pytest.fixture(scope="module", params=["bigbird_pegasus", "gemma3n_text"])
def both(request):
    """A scope, and the logits of a plain model. [position, token]"""
    with torch.no_grad():
        plain = small_model(request.param)(input_ids=torch.tensor([IDS]), use_cache=False)
    return scope_of(small_model(request.param)), plain.logits[0]


@pytest.mark.parametrize("position", [-1, 4, 0])
def test_the_next_token_is_what_the_model_itself_says(both, position):
    scope, logits = both
    assert scope.verdicts("readout").status == "refused"
    scope.record(IDS)
    figure = scope.look("next-token", position=position, top_k=97)
    assert figure.verdict.status == "verified"
    own = torch.softmax(logits[position], -1)[torch.tensor(figure.extra["ids"].copy())]
    assert figure.values == pytest.approx(own.numpy(), abs=1e-5)


def test_each_tokens_surprisal_is_the_models_own(both):
    scope, logits = both
    scope.record(IDS[:9])
    scope.look("tokens")
    scope.record(IDS)
    figure = scope.look("tokens")
    assert figure.verdict.status == "verified"
    logprobs = torch.log_softmax(logits, -1) / np.log(2)
    own = [-float(logprobs[row, token]) for row, token in enumerate(IDS[1:])]
    assert np.isnan(figure.values[0])
    assert figure.values[1:] == pytest.approx(own, abs=1e-4)


def test_what_needs_the_readout_stays_refused(both):
    scope, _ = both
    scope.record(IDS)
    assert scope.look("logit-lens").verdict.status == "refused"
