"""Products with the unembedding by oneDNN agree with the module's, and where they are not used."""

import pytest
import torch
from torch import nn

from llmscope.models import unembedding
from llmscope.models.unembedding import fast_rows, unembedded
from llmscope.record.capture.hooks import placed
from tests.families import small_model
from tests.record.interventions.test_edited import scope_for

pytestmark = pytest.mark.skipif(not unembedding._onednn(), reason="this PyTorch has not both")


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


class Counted:
    """The rows of each product that oneDNN computes."""

    def __init__(self, monkeypatch):
        self.rows, real = [], unembedding._by_onednn

        def counted(rows, weight, bias):
            self.rows.append(rows.numel() // rows.shape[-1])
            return real(rows, weight, bias)

        monkeypatch.setattr(unembedding, "_by_onednn", counted)


def matrix(width=48, tokens=301, *, bias=False, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(width, tokens, bias=bias, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 48), (31, 48), (1, 310, 48), (3, 7, 48)])
def test_several_rows_are_those_of_float64(shape, bias, monkeypatch):
    own, counted = matrix(bias=bias), Counted(monkeypatch)
    rows = torch.randn(shape)
    made = unembedded(own, rows)
    assert counted.rows == [rows.numel() // 48]
    expected = nn.functional.linear(
        rows.double(), own.weight.double(), own.bias.double() if bias else None
    )
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(made, unembedded(own, rows))  # the same bits each time


def test_rows_that_are_not_contiguous_and_weights_that_are_a_view(monkeypatch):
    own, counted = matrix(), Counted(monkeypatch)
    own.weight = nn.Parameter(torch.randn(301, 96)[:, ::2], requires_grad=False)
    rows = torch.randn(48, 9).T
    made = unembedded(own, rows)
    assert counted.rows == [9]
    torch.testing.assert_close(made, rows @ own.weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("own", "rows"),
    [
        pytest.param(matrix(), torch.randn(1, 1, 48), id="one row, as the model's own"),
        pytest.param(matrix(dtype=torch.bfloat16), torch.randn(4, 48).bfloat16(), id="bfloat16"),
        pytest.param(matrix(dtype=torch.float64), torch.randn(4, 48).double(), id="float64"),
        pytest.param(matrix().to("meta"), torch.randn(4, 48, device="meta"), id="no weights"),
    ],
)
def test_everything_else_is_the_modules_own_to_the_last_bit(own, rows, monkeypatch):
    counted = Counted(monkeypatch)
    made = unembedded(own, rows)
    assert counted.rows == []
    expected = own(rows)
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype
    assert made.is_meta or torch.equal(made, expected)


def test_gradients_are_those_of_the_module(monkeypatch):
    own, counted, rows = matrix(), Counted(monkeypatch), torch.randn(4, 48)
    rows.requires_grad_()
    with torch.enable_grad(), fast_rows(own):
        own(rows)[:, 7].sum().backward()
    assert counted.rows == []
    assert torch.equal(rows.grad, own.weight[7].expand(4, -1))


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, None])
def test_an_operation_that_fails_or_computes_something_else_is_not_used(error, monkeypatch):
    def fails(rows, weight, bias):
        if error:
            raise error("no such operation")
        return rows @ weight.T + 1e-3

    monkeypatch.setattr(unembedding, "_by_onednn", fails)
    unembedding._onednn.cache_clear()
    try:
        own, rows = matrix(), torch.randn(4, 48)
        assert torch.equal(unembedded(own, rows), own(rows))
    finally:
        unembedding._onednn.cache_clear()


def test_a_module_is_as_before_after_the_context_even_if_its_call_failed():
    own = matrix()
    before = dict(vars(own))
    with pytest.raises(RuntimeError), fast_rows(own):
        own(torch.randn(4, 47))
    assert vars(own) == before


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere", "granite", "opt"])
def test_a_readout_is_that_of_the_model(family, monkeypatch):
    model = small_model(family)
    ids = torch.tensor([[5, 17, 3, 60, 17, 42]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0]
    scope, counted = scope_for(model), Counted(monkeypatch)
    recording = scope.record(ids[0].tolist(), special_tokens=False)
    made = scope.subject.anatomy.readout(recording.rows("stream", recording.layers, range(6)))
    assert 6 in counted.rows
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def test_logits_of_a_pass_with_several_are_computed_so_and_the_model_is_as_before(monkeypatch):
    model = small_model("llama")
    scope = scope_for(model)
    scope.record([5, 17, 3], special_tokens=False)
    counted = Counted(monkeypatch)
    before = dict(vars(scope.subject.anatomy.readout.unembed))
    ids = torch.tensor([[5, 17, 3, 60, 17, 42]])
    expected = model(input_ids=ids).logits
    assert counted.rows == []
    with placed(model):
        made = model(input_ids=ids).logits
    assert counted.rows == [6]
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert vars(scope.subject.anatomy.readout.unembed) == before
