"""The lens `model-diff` on the streams that another engine wrote."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.hidden_states import read_hidden_states
from tests.families import small_model
from tests.lenses.model_diff.test_model_diff import IDS, kl, plain


@pytest.fixture
def engines(tmp_path: Path) -> tuple[llmscope.Scope, torch.nn.Module, Path]:
    """A model, another one with an MLP changed by hand in layer 1, and that one's streams."""
    a = small_model("llama")
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    path = tmp_path / "request.safetensors"
    streams = torch.stack(plain(b)[1], dim=1).float()
    save_file({"token_ids": torch.tensor(IDS), "hidden_states": streams}, path)
    return llmscope.wrap(a), b, path


def test_the_first_layer_where_engines_part_is_found(
    engines: tuple[llmscope.Scope, torch.nn.Module, Path],
) -> None:
    scope, b, path = engines
    scope.compare(read_hidden_states(path, (0, 1, 2, 3)))
    scope.record(IDS)
    found = scope.look("model-diff", mode="difference")
    x, y = plain(scope.model)[1], plain(b)[1]
    expected = [((p - q).norm(dim=-1) / p.norm(dim=-1)).numpy() for p, q in zip(x, y, strict=True)]
    assert found.values == pytest.approx(np.stack(expected), rel=1e-3, abs=1e-6)
    assert found.axes[0].labels == ("embed", "0", "1", "2")
    assert found.extra["parting"] == "1"
    assert found.extra["model_b"] == "request.safetensors"
    read = scope.look("model-diff", mode="kl")
    assert read.values == pytest.approx(kl(plain(scope.model)[0], plain(b)[0]), rel=1e-3, abs=1e-6)
    assert scope.look("model-diff", mode="lens").values[-1] == pytest.approx(read.values)
    alike = scope.look("model-diff", mode="streams", position=3).values[0]
    cosines = [float(torch.cosine_similarity(p[3], q[3], dim=0)) for p, q in zip(x, y, strict=True)]
    assert alike == pytest.approx(cosines, abs=1e-5)


def test_what_a_file_does_not_hold_is_refused(
    engines: tuple[llmscope.Scope, torch.nn.Module, Path],
) -> None:
    scope, _, path = engines
    scope.compare(read_hidden_states(path, (0, 1, 2, 3)))
    scope.record(IDS)
    for mode in ("next", "parts", "log-ratio"):
        assert "turn to difference" in scope.look("model-diff", mode=mode).verdict.reason
    scope.record((*IDS[:4], 1))
    assert "another prompt" in scope.look("model-diff").verdict.reason
    with pytest.raises(ScopeError, match="layer id 4"):
        scope.compare(read_hidden_states(path, (0, 1, 2, 4)))
