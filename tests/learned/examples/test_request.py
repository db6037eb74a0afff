"""Units as they are named on the command line."""

import pytest

from llmscope.learned.examples.request import FeatureRequest, by_layer


def test_features():
    assert FeatureRequest.parse("1234") == FeatureRequest("", 1234)
    assert FeatureRequest.parse("5/1234") == FeatureRequest("5", 1234)
    assert FeatureRequest.parse("5.mlp_out/1234") == FeatureRequest("5.mlp_out", 1234)
    assert FeatureRequest.parse("5.z.3/0") == FeatureRequest("5.z.3", 0)
    assert FeatureRequest.parse("all") == FeatureRequest("", None)
    assert str(FeatureRequest.parse("5/all")) == "5/all"
    assert FeatureRequest("5", 1).names("5.mlp_out")
    assert not FeatureRequest("5", 1).names("55.mlp_out")


@pytest.mark.parametrize("text", ["", "x", "5/", "/5", "5.120", "-1", "5//1", "٥/1", "5/1\n"])
def test_features_of_another_form(text):
    with pytest.raises(ValueError, match="LAYER/FEATURE"):
        FeatureRequest.parse(text)


def test_neurons_and_heads():
    assert by_layer(["5.120", "1.3", "5.7", "5.7"]) == {1: (3,), 5: (7, 120)}
    for text in ("5", "5.", "a.b", "5.1.2", "5/1"):
        with pytest.raises(ValueError, match=r"LAYER\.NUMBER"):
            by_layer([text])
