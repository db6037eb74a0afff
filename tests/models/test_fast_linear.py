"""Linear layers by oneDNN agree with the module's own, and where oneDNN is not used."""

from weakref import ref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from llmscope.models import fast_linear
from llmscope.models.fast_linear import FastLinears, fast_rows, linear
from llmscope.record.capture.hooks import placed
from llmscope.record.derive.tensors import logits_after
from tests.families import small_model
from tests.record.interventions.test_edited import scope_for

pytestmark = pytest.mark.skipif(not fast_linear._onednn(), reason="this PyTorch has not both")


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


class Counted:
    """The rows of each product that oneDNN computes."""

    def __init__(self, monkeypatch):
        fast_linear._onednn()  # its own products are not counted
        self.rows, real = [], fast_linear._by_onednn

        def counted(rows, weight, bias):
            self.rows.append(rows.numel() // rows.shape[-1])
            return real(rows, weight, bias)

        monkeypatch.setattr(fast_linear, "_by_onednn", counted)


def matrix(width=48, tokens=301, *, bias=False, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(width, tokens, bias=bias, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 48), (2, 48), (31, 48), (1, 310, 48), (3, 7, 48)])
def test_rows_are_those_of_float64(shape, bias, monkeypatch):
    own, counted = matrix(bias=bias), Counted(monkeypatch)
    rows = torch.randn(shape)
    made = linear(own, rows)
    assert counted.rows == [rows.numel() // 48]
    expected = nn.functional.linear(
        rows.double(), own.weight.double(), own.bias.double() if bias else None
    )
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(made, linear(own, rows))  # the same bits each time


def test_rows_that_are_not_contiguous_and_weights_that_are_a_view(monkeypatch):
    own, counted = matrix(), Counted(monkeypatch)
    own.weight = nn.Parameter(torch.randn(301, 96)[:, ::2], requires_grad=False)
    rows = torch.randn(48, 9).T
    made = linear(own, rows)
    assert counted.rows == [9]
    torch.testing.assert_close(made, rows @ own.weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("own", "rows"),
    [
        pytest.param(matrix(dtype=torch.bfloat16), torch.randn(4, 48).bfloat16(), id="bfloat16"),
        pytest.param(matrix(dtype=torch.float64), torch.randn(4, 48).double(), id="float64"),
        pytest.param(matrix().to("meta"), torch.randn(4, 48, device="meta"), id="no weights"),
    ],
)
def test_everything_else_is_the_modules_own_to_the_last_bit(own, rows, monkeypatch):
    counted = Counted(monkeypatch)
    made = linear(own, rows)
    assert counted.rows == []
    expected = own(rows)
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype
    assert made.is_meta or torch.equal(made, expected)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_or_bias_that_is_computed_at_each_call_counts(name):
    own = matrix(bias=True)
    before, rows = linear(own, torch.ones(4, 48)), torch.ones(4, 48)
    parametrize.register_parametrization(own, name, Doubled())
    assert torch.equal(linear(own, rows), nn.functional.linear(rows, own.weight, own.bias))
    assert not torch.allclose(linear(own, rows), before)


class Doubled(nn.Module):
    """A parametrization: the tensor that the module has is twice the one it was given."""

    def forward(self, own):
        return 2 * own


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

    monkeypatch.setattr(fast_linear, "_by_onednn", fails)
    fast_linear._onednn.cache_clear()
    try:
        own, rows = matrix(), torch.randn(4, 48)
        assert torch.equal(linear(own, rows), own(rows))
    finally:
        fast_linear._onednn.cache_clear()


def test_one_row_of_an_unembedding_stays_with_the_module(monkeypatch):
    own, counted, rows = matrix(), Counted(monkeypatch), torch.randn(1, 1, 48)
    expected = own(rows)
    with fast_rows(own):
        assert torch.equal(own(rows), expected)
        assert counted.rows == []
        own(torch.randn(1, 2, 48))
    assert counted.rows == [2]


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
    made = scope.loaded_model.anatomy.readout(recording.rows("stream", recording.layers, range(6)))
    assert 6 in counted.rows
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


def test_logits_of_a_pass_with_several_are_computed_so_and_the_model_is_as_before(monkeypatch):
    model = small_model("llama")
    scope = scope_for(model)
    scope.record([5, 17, 3], special_tokens=False)
    counted = Counted(monkeypatch)
    before = dict(vars(scope.loaded_model.anatomy.readout.unembed))
    ids = torch.tensor([[5, 17, 3, 60, 17, 42]])
    expected = model(input_ids=ids).logits
    assert counted.rows == []
    with placed(model):
        made = model(input_ids=ids).logits
    assert counted.rows == [6]
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert vars(scope.loaded_model.anatomy.readout.unembed) == before


def test_all_linear_layers_of_a_pass_on_top_of_earlier_rows_and_none_of_another(monkeypatch):
    model = small_model("llama")
    scope = scope_for(model)
    scope.record([5, 17, 3, 60], special_tokens=False)
    linears = sum(type(module) is nn.Linear for module in model.modules())
    before = [dict(vars(module)) for module in model.modules()]
    counted = Counted(monkeypatch)
    made = scope.record([5, 17, 3, 60, 17], special_tokens=False)
    assert counted.rows == [1] * linears
    assert [vars(module) for module in model.modules()] == before
    counted.rows.clear()
    fresh = scope.record([5, 17, 3, 60, 17], special_tokens=False, fresh=True)
    assert counted.rows == []
    ids = torch.tensor([[5, 17, 3, 60, 17]])
    expected = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
    assert torch.equal(fresh.logits, expected)
    torch.testing.assert_close(made.logits, expected, rtol=1e-4, atol=1e-5)


def test_a_pass_that_fails_leaves_all_layers_as_before():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)).requires_grad_(False)
    before = [dict(vars(module)) for module in model]
    with pytest.raises(RuntimeError), FastLinears(model).placed():
        model(torch.randn(2, 4))
    assert [vars(module) for module in model] == before


def test_hooks_run_and_a_forward_of_its_own_stays(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False)
    seen = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output) or output * 2)
    model[1].forward = own = lambda rows: rows + 1
    counted = Counted(monkeypatch)
    with FastLinears(model).placed():
        made = model(torch.randn(3, 4))
    assert counted.rows == [3]
    assert len(seen) == 1
    assert torch.equal(made, seen[0] * 2 + 1)
    assert model[1].forward is own


@pytest.mark.parametrize("kind", [{"dtype": torch.bfloat16}, {"device": "meta"}], ids=str)
def test_layers_that_onednn_would_not_compute_keep_their_own_forward(kind):
    model = nn.Sequential(nn.Linear(4, 4, **kind)).requires_grad_(False)
    with FastLinears(model).placed():
        assert "forward" not in vars(model[0])


def test_a_layer_that_the_model_drops_is_freed_and_its_successor_is_used():
    model = nn.Sequential(nn.Linear(4, 4)).requires_grad_(False)
    linears, dropped = FastLinears(model), ref(model[0])
    model[0] = nn.Linear(4, 4).requires_grad_(False)
    assert dropped() is None
    rows = torch.randn(2, 4)
    with linears.placed():
        assert torch.equal(model(rows), model[0](rows))


def test_weights_that_are_replaced_are_those_of_the_next_pass():
    model = nn.Sequential(nn.Linear(4, 4, bias=False)).requires_grad_(False)
    linears, rows = FastLinears(model), torch.randn(2, 4)
    for weight in (nn.Parameter(torch.eye(4), requires_grad=False), torch.eye(4, dtype=float)):
        model[0].weight = nn.Parameter(weight.data, requires_grad=False)
        with linears.placed():
            assert torch.equal(model(rows.to(weight.dtype)), rows.to(weight.dtype))


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt", "mixtral", "phi", "gptj"])
def test_a_letter_taken_back_and_typed_again_has_the_same_bits(family):
    scope, ids = scope_for(small_model(family)), [5, 17, 3, 60, 17, 42]
    first = scope.record(ids[:4], special_tokens=False)
    made = [scope.record(ids[: 4 + more], special_tokens=False) for more in (1, 2)]
    back = scope.record(ids[:5], special_tokens=False)
    assert back.ran == 0
    assert torch.equal(logits_after(back, 4), made[0].logits)
    scope.record(ids[:4], special_tokens=False)
    again = scope.record(ids[:5], special_tokens=False)
    assert again.ran == 1
    assert torch.equal(again.logits, made[0].logits)
    start = scope.record(ids[:4], special_tokens=False)
    assert start.ran == 0
    assert torch.equal(logits_after(start, 3), first.logits)
