"""Names of places, as configs give them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.edits import PLACE_KINDS
from llmscope.learned.dictionaries.place import Place

KNOWN = {
    "hook_embed": "0.resid_pre",
    "blocks.0.hook_resid_pre": "0.resid_pre",
    "blocks.7.hook_resid_mid": "7.resid_mid",
    "blocks.7.hook_resid_post": "7.resid_post",
    "blocks.7.hook_attn_out": "7.attn_out",
    "blocks.7.attn.hook_out": "7.attn_out",
    "blocks.7.hook_mlp_out": "7.mlp_out",
    "blocks.7.mlp.hook_out": "7.mlp_out",
    "blocks.7.hook_mlp_in": "7.resid_mid",
    "blocks.7.mlp.hook_in": "7.mlp_in",
    "blocks.7.ln2.hook_normalized": "7.mlp_normed",
    "blocks.7.attn.hook_z": "7.z",
    "blocks.7.mlp.hook_post": "7.mlp_act",
    "model.layers.7": "7.resid_post",
    "model.layers.7.output": "7.resid_post",
    "model.layers.7.input": "7.resid_pre",
    "layers.7": "7.resid_post",
    "transformer.h.7": "7.resid_post",
    "transformer.h.7.attn": "7.attn_out",
    "gpt_neox.layers.7.attention": "7.attn_out",
    "gpt_neox.layers.7.mlp.input": "7.mlp_in",
    "gpt_neox.layers.7.attention.dense.input": "7.z",
    "model.layers.7.self_attn.o_proj.input": "7.z",
    "model.layers.7.self_attn.o_proj": "7.attn_out",
    "model.layers.7.mlp": "7.mlp_out",
    "model.layers.7.mlp.output": "7.mlp_out",
    "model.layers.7.pre_feedforward_layernorm.output": "7.mlp_in",
    "model.layers.7.pre_feedforward_layernorm.input": "7.resid_mid",
    "model.layers.7.post_feedforward_layernorm.output": "7.mlp_out",
}
UNKNOWN = (
    *("", ".", "x", "blocks", "blocks.", "blocks..hook_resid_pre", "blocks.7.x"),
    *("blocks.x.hook_resid_pre", "blocks.-1.hook_resid_pre", "blocks.1.5.hook_resid_pre"),
    *("blocks.²​.hook_resid_pre", "blocks.٣.hook_resid_pre", "blocks.7.hook_resid_pre "),
    *(
        "blocks.7.attn.hook_q",
        "blocks.7.attn.hook_pattern",
        "blocks.7.hook_resid_pre\n",
        "hook_pos_embed",
    ),
    *("model.layers.7.self_attn.input", "model.layers.7.post_feedforward_layernorm.input"),
    *("model.layers.7.mlp.experts", "model.layers.7.input.output", "model.layers.7000000"),
    *("lm_head", "a." * 5000 + "layers.x", "blocks.7." + "x" * 5000),
)
PIECES = sorted({piece for name in KNOWN for piece in name.split(".")} | {"", "x", "99999999"})


@pytest.mark.parametrize(("name", "place"), KNOWN.items())
def test_known_names(name, place):
    assert str(Place.parse(name)) == place


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_names(name):
    with pytest.raises(ValueError, match="no place that can be shown") as caught:
        Place.parse(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_head_belongs_to_the_outputs_of_heads_alone():
    assert Place.parse("blocks.2.attn.hook_z", 3) == Place(2, "z", 3)
    assert Place.parse("model.layers.2.self_attn.o_proj.input", 3) == Place(
        2, "z", 3, "self_attn.o_proj"
    )
    assert Place.parse("blocks.2.hook_resid_pre", 3) == Place(2, "resid_pre")
    assert Place(2, "z", 3).title == "output of head 2.3"


def test_places_are_known_in_the_order_of_the_model():
    assert [Place(2, kind).after for kind in ("resid_pre", "resid_mid", "resid_post")] == [1, 2, 2]
    assert Place(0, "resid_pre").after == -1
    for kind in PLACE_KINDS:
        assert Place(4, kind).title.endswith(" 4")


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=6).map(".".join))
def test_any_name_is_a_place_or_refused(name):
    found, refused = None, ""
    try:
        found = Place.parse(name)
    except ValueError as error:
        refused = str(error)
    assert refused.isprintable()
    assert (found is None) == bool(refused)
    assert found is None or (found.kind in PLACE_KINDS and 0 <= found.layer < 10**7)
