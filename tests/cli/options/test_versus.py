"""The second model of a comparison: what it takes from the first, and what it does not."""

import pytest

from llmscope.cli.options.loading import Loader
from llmscope.cli.options.versus import VersusOptions, versus_loader
from llmscope.errors import ScopeError

FIRST = Loader(
    *("pypi:one", "cpu", "float32"), trust_remote_code=True, adapters=("a",), translator="jacobian"
)


def test_the_same_model_is_loaded_another_way():
    second = versus_loader(FIRST, None, VersusOptions(versus_dtype="bfloat16"))
    assert (second.model, second.dtype, second.device) == ("pypi:one", "bfloat16", "cpu")
    assert second.adapters == ("a",)
    unnamed = versus_loader(Loader(None), None, VersusOptions(versus_device="cuda:1"))
    assert (unnamed.model, unnamed.device, unnamed.dtype) == (None, "cuda:1", "auto")


def test_another_model_has_no_adapters_of_the_first():
    second = versus_loader(FIRST, "pypi:two", VersusOptions())
    assert (second.model, second.dtype, second.adapters) == ("pypi:two", "float32", ())
    assert second.translator is None
    assert second.trust_remote_code


def test_a_revision_is_of_the_second_model():
    options = VersusOptions(versus_revision="0.2")
    assert versus_loader(FIRST, None, options).model == "pypi:one==0.2"
    assert versus_loader(FIRST, "pypi:two==0.1", options).model == "pypi:two==0.2"
    assert versus_loader(Loader("gpt2"), None, options).model == "gpt2@0.2"
    with pytest.raises(ScopeError, match="builtin:town has no revisions"):
        versus_loader(Loader(None), None, options)


def test_which_options_name_a_second_model():
    assert not VersusOptions().given
    assert VersusOptions(versus_dtype="float16").given
    assert VersusOptions(versus_revision="v1").given
