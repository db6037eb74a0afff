"""The experts lens: its figure against plain transformers, and its refusal where there are none."""

import json

import numpy as np
import pytest
import torch

from llmscope.draw import RenderOptions, paint
from llmscope.export import json_text
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8]


def scope_on(family):
    module = small_model(family)
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    scope = Scope(model)
    scope.record(IDS)
    return scope


def test_probabilities_choice_and_load():
    figure = scope_on("mixtral").look("experts", layer=1)
    with torch.no_grad():
        output = small_model("mixtral")(
            input_ids=torch.tensor([IDS]), output_router_logits=True, use_cache=False
        )
    own = torch.softmax(output.router_logits[1].reshape(len(IDS), 4).double(), -1)
    top = own.topk(2)
    assert [axis.name for axis in figure.axes] == ["position", "expert"]
    assert figure.unit == "probability"
    assert figure.verdict.status == "verified"
    assert figure.values == pytest.approx(own.numpy(), abs=1e-5)
    assert figure.extra["chosen"].tolist() == top.indices.tolist()
    weights = top.values / top.values.sum(-1, keepdim=True)
    assert figure.extra["weights"] == pytest.approx(weights.numpy(), abs=1e-5)
    runs = [sum(expert in row for row in top.indices.tolist()) for expert in range(4)]
    assert figure.extra["load"].tolist() == pytest.approx([count / len(IDS) for count in runs])
    said = json.loads(json_text(figure.to_dict()))
    assert said["extra"]["chosen"] == top.indices.tolist()


def test_scores_that_are_no_probabilities_are_not_called_so():
    figure = scope_on("deepseek_v3").look("experts", layer=2)
    assert figure.unit == "score"
    assert figure.extra["scoring"] == "sigmoid"
    assert np.abs(figure.values.sum(1) - 1).max() > 0.01


@pytest.mark.parametrize(("family", "layer"), [("llama", 1), ("deepseek_v3", 0), ("jamba", 2)])
def test_a_layer_without_experts_is_refused(family, layer):
    figure = scope_on(family).look("experts", layer=layer)
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == "this layer has no experts"


def test_it_is_drawn_with_tokens_down_and_experts_across():
    figure = scope_on("mixtral").look("experts", layer=1)
    painting = paint(figure, 70, 10, RenderOptions(tier="none"), Focus(layer=1, position=3))
    rows = ["".join(segment.text for segment in row) for row in painting.rows]
    assert rows[0].split() == ["position", "0", "1", "2", "3"]
    for row, values in zip(rows[1:], figure.values, strict=False):
        numbers = [cell for cell in row.split()[1:] if cell not in "░▒▓█◂"]
        assert [float(cell) for cell in numbers] == pytest.approx(values.tolist(), abs=0.001)
    assert "▸60" in rows[4]
    label, *load, of, tokens = rows[8].split()  # the row below the seven tokens
    assert (label, of, tokens) == ("load", "of", "tokens")
    assert [float(cell) for cell in load] == pytest.approx(figure.extra["load"], abs=0.005)
