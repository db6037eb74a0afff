"""Whether a dictionary takes centred tensors: as its config tells, or as it reconstructs better."""

import pytest
import torch

from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import Place
from llmscope.record.features.active import applied, reconstruction
from tests.lenses.test_experts import IDS, scope_on

WIDTH = 48
CENTRED = torch.eye(WIDTH) - 1 / WIDTH


def recording(family):
    scope = scope_on(family)
    scope.record(IDS)
    return scope.latest


def dictionary(matrix, place="blocks.1.hook_resid_post", centred=None, bias=None):
    """One that reconstructs `matrix` times its input, plus a bias."""
    reads = Place.parse(place)
    header = DictionaryHeader(
        "", "", reads, reads, WIDTH, WIDTH, 2 * WIDTH, "relu", centred=centred
    )
    return Dictionary(
        header,
        encoder=torch.cat([matrix, -matrix], 1),
        decoder=torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]),
        bias=torch.zeros(WIDTH) if bias is None else bias,
        encoder_bias=torch.zeros(2 * WIDTH),
    )


@pytest.mark.parametrize("place", ["hook_resid_pre", "hook_resid_mid", "hook_mlp_out"])
def test_centred_is_what_reconstructs_better(place):
    """It loses the mean, and so cannot be meant for tensors that have one."""
    assert applied(dictionary(CENTRED, f"blocks.1.{place}"), recording("gpt2")).centred


def test_uncentred_is_what_reconstructs_better():
    """It adds the mean that all tokens of this model have."""
    scope = scope_on("gpt2")
    scope.loaded_model.module.transformer.wpe.weight.data += 3
    scope.record(IDS)
    bias = torch.full((WIDTH,), 3.0)
    assert not applied(dictionary(CENTRED, bias=bias), scope.latest).centred


@pytest.mark.parametrize("told", [True, False])
def test_a_config_that_tells_is_followed(told):
    found = applied(dictionary(torch.eye(WIDTH), centred=told), recording("gpt2"))
    assert found.centred is told
    inputs = found.inputs(recording("gpt2"), range(3))
    assert (float(inputs.mean(-1).abs().max()) < 1e-6) is told


@pytest.mark.parametrize("told", [True, None])
@pytest.mark.parametrize(
    ("family", "place"), [("llama", "blocks.1.hook_resid_post"), ("gpt2", "blocks.1.mlp.hook_in")]
)
def test_where_the_mean_counts_it_is_never_subtracted(family, place, told):
    own = recording(family)
    found = applied(dictionary(CENTRED, place, told), own)
    assert not found.centred or place.endswith("hook_in")
    assert float(found.inputs(own, range(3)).mean(-1).abs().max()) > 1e-3


def test_reconstructions_are_of_what_is_read():
    own = recording("gpt2")
    found = applied(dictionary(CENTRED), own)
    rows = range(1, len(own))
    predicted = reconstruction(found, own, rows)
    assert torch.allclose(predicted, found.outputs(own, rows), atol=1e-5)
