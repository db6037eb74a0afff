"""What the package adds, against numbers that llmscope did not make: pytest demo/plugin."""

import os
from pathlib import Path

import numpy as np
import pytest

import llmscope
from llmscope.models.sources.builtin import home
from llmscope.plugins import Package, package_of, registered, take_flaws

LAB = Package("llmscope-lab", "0.1")


@pytest.fixture(scope="module")
def scope():
    os.environ["LAB_MODELS"] = str(home())
    scope = llmscope.load("lab:sort", device="cpu")
    scope.record("CAB")
    return scope


@pytest.mark.parametrize("rank", [2, 3])
def test_the_margin_is_that_of_the_model_itself(scope, rank):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(home() / "sort", dtype=torch.float32)
    with torch.no_grad():
        (logits,) = model(torch.tensor([scope.latest.prompt.ids])).logits.numpy()
    ranked = -np.sort(-logits, axis=-1)
    figure = scope.look("margin", against=rank)
    np.testing.assert_allclose(figure.values, ranked[:, 0] - ranked[:, rank - 1], atol=1e-4)


def test_the_format_has_a_line_for_each_token(scope, tmp_path: Path):
    figure = scope.look("margin")
    file = tmp_path / "margin.tsv"
    figure.save(file)
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    assert [row[1] for row in rows] == [repr(label) for label in figure.axes[0].labels]
    np.testing.assert_allclose([float(row[2]) for row in rows], figure.values, rtol=1e-5)


def test_each_part_is_known_to_be_of_this_package(scope):
    from llmscope.export import formats
    from llmscope.tui.panes import pane_classes

    parts = {"lenses": "margin", "panes": "margin", "formats": "tsv", "sources": "lab"}
    assert "margin" in pane_classes()
    assert "tsv" in formats()
    assert {group: package_of(group, name) for group, name in parts.items()} == dict.fromkeys(
        parts, LAB
    )
    assert {one.kind for one in registered() if one.package == LAB} == {
        *("lens", "pane", "format", "source")
    }
    assert take_flaws() == ()
