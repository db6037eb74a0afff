"""The second model of a comparison: what it takes from the first, and what it does not."""

import pytest
from typer import BadParameter

from llmscope.cli.launch import LaunchOptions
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.resume import _onto
from llmscope.cli.options.versus import VersusModelOptions, VersusOptions, versus_loader
from llmscope.errors import ScopeError
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.session.session import StoredSession

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


def test_a_value_of_any_of_the_options_starts_a_comparison():
    assert VersusModelOptions().onto(FIRST) is FIRST
    named = VersusModelOptions(versus_model="pypi:two").onto(FIRST)
    assert named.versus.model == "pypi:two"
    assert VersusModelOptions(versus_dtype="bfloat16").onto(FIRST).versus.model == "pypi:one"
    assert named.other("pypi:three").versus is None


def test_the_copied_command_names_the_second_model_and_a_session_opens_it_again():
    given = VersusModelOptions(versus_model="pypi:two", versus_dtype="bfloat16")
    source = ModelSource.of("pypi:one", given.onto(FIRST))
    assert source.versus_options == {"versus_model": "pypi:two", "versus_dtype": "bfloat16"}
    assert source.flags[-4:] == ("--versus-model", "pypi:two", "--versus-dtype", "bfloat16")
    session = StoredSession("pypi:one", source.flags)
    second = _onto(LaunchOptions(Loader(None)), session, ()).load.versus
    assert (second.model, second.dtype, second.device) == ("pypi:two", "bfloat16", "cpu")


def test_a_session_opens_the_streams_of_another_engine_with_the_ids_of_their_layers(tmp_path):
    file = tmp_path / "streams.safetensors"
    file.touch()
    given = VersusModelOptions(versus_model=str(file), layer_ids="3,7")
    source = ModelSource.of("pypi:one", given.onto(FIRST))
    opened = _onto(LaunchOptions(Loader(None)), StoredSession("pypi:one", source.flags), ()).load
    assert (opened.versus.model, opened.versus.layers) == (str(file), (3, 7))


def test_an_adapter_names_the_same_model_with_another_adapter():
    bare = VersusModelOptions(versus_adapter="base").onto(FIRST).versus
    assert (bare.model, bare.adapters, bare.switched_to) == ("pypi:one", ("a",), "base")
    named = VersusModelOptions(versus_adapter="a").onto(FIRST).versus
    assert (named.adapters, named.switched_to) == (("a",), "a")
    folder = VersusModelOptions(versus_adapter="./b").onto(FIRST).versus
    assert (folder.adapters, folder.switched_to) == (("./b",), None)
    given = VersusModelOptions(versus_adapter="base", versus_dtype="bfloat16")
    assert given.onto(FIRST).versus.dtype == "bfloat16"
    source = ModelSource.of("pypi:one", given.onto(FIRST))
    assert source.versus_options == {"versus_adapter": "base", "versus_dtype": "bfloat16"}
    session = StoredSession("pypi:one", source.flags, ("a",))
    opened = _onto(LaunchOptions(Loader(None)), session, ()).load
    assert (opened.versus.adapters, opened.versus.switched_to) == (("a",), "base")
    with pytest.raises(BadParameter, match="--versus-model or --versus-adapter"):
        VersusModelOptions(versus_adapter="base", versus_model="pypi:two").onto(FIRST)
