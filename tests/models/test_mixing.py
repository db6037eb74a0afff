"""What mixes the tokens of a layer is told by what it is made of, whatever it is called."""

import pytest

from llmscope.models.anatomy import find
from tests.all_families import small_model

# A mixer that is an attention, and one that mixes nothing; an attention with a name of its own;
# one in a block of its own; recurrences that are called attention; attention beside a state space.
KINDS = {
    "nemotron_h": ["state space", "feed-forward", "attention"],
    "ctrl": ["attention"] * 3,
    "cpmant": ["attention"] * 3,
    "deepseek_v4": ["attention"] * 3,
    "modernbert-decoder": ["attention"] * 3,
    "kimi_linear": ["recurrent", "attention", "recurrent"],
    "minimax": ["attention", "recurrent", "attention"],
    "rwkv": ["recurrent"] * 3,
}
BESIDE = {"zamba": ["", "state space", "state space"], "zamba2": ["", "state space", ""]}


@pytest.mark.parametrize("family", KINDS)
def test_the_kind_of_each_layer(family):
    assert [layer.kind for layer in find(small_model(family)).layers] == KINDS[family]


@pytest.mark.parametrize("family", BESIDE)
def test_what_works_beside_an_attention(family):
    layers = find(small_model(family)).layers
    assert [layer.parallel_kind for layer in layers] == BESIDE[family]
    assert all(layer.kind == "attention" for layer in layers if layer.parallel_kind)
