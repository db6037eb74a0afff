"""Families whose layers are no plain list are opened from a folder, as a user opens them."""

import pytest
import torch

import llmscope
from llmscope.models.anatomy import find
from tests.all_families import small_model
from tests.family_matrix import IDS


# Two attentions a layer and half as many layers as the config says; layers that run several times.
@pytest.mark.parametrize("family", ["longcat_flash", "hrm_text"])
def test_a_saved_model_opens_and_says_what_the_plain_one_says(family, tmp_path):
    model = small_model(family)
    model.save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path), dtype="float32")
    recording = scope.record(IDS)
    with torch.no_grad():
        own = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    assert float((recording.logits - own).abs().max()) <= 1e-5 * float(own.abs().max())


def test_as_many_layers_for_pictures_as_for_text():
    model = small_model("gemma3")
    assert find(model).layers[0].module is model.model.language_model.layers[0]


@pytest.mark.parametrize(("family", "why"), [("blt", "no one width"), ("xlm", "4 lists of 3")])
def test_a_model_without_a_list_of_layers_is_refused_in_one_line(family, why):
    with pytest.raises(llmscope.ScopeError, match=why):
        find(small_model(family))
