"""Models whose tokens read later ones, against hooks by hand."""

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.compare.contrast import paired
from llmscope.scope.scope import Scope
from tests import all_families

A = (5, 17, 3, 60, 17, 42, 8, 91)
B = (5, 17, 3, 60, 17, 33, 8, 91)
TARGET, VERSUS = 7, 30


def scope_of(family):
    model = all_families.small_model(family)
    device = torch.device("cpu")
    return Scope(LoadedModel(family, family, model, None, find(model), device, torch.float32))


def looking_ahead():
    """A Llama whose MLPs add the mean over all tokens of the prompt."""
    scope = scope_of("llama")
    for layer in scope.model.model.layers:

        class Mixing(type(layer.mlp)):
            def forward(self, rows):
                return super().forward(rows) + rows.mean(-2, keepdim=True)

        layer.mlp.__class__ = Mixing
    return scope


def run(model, ids, module=None, change=None):
    """The logits of a plain pass, and what enters a module, which `change` may replace."""
    kept = []

    def enter(_, args, kwargs):
        stream = args[0] if args else kwargs["hidden_states"]
        kept.append(stream.clone())
        if change is None:
            return None
        changed = change(stream.clone())
        return (
            ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})
        )

    handle = None if module is None else module.register_forward_pre_hook(enter, with_kwargs=True)
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    if handle is not None:
        handle.remove()
    return logits, kept


@pytest.mark.parametrize("position", [len(A) - 1, 4, 1])
def test_the_stream_is_patched_as_by_a_hook(position):
    scope = looking_ahead()
    model, layers = scope.model, [layer.module for layer in scope.loaded_model.anatomy.layers]
    figure = scope.look(
        *("patching",),
        recording=scope.record(A),
        mode="stream",
        versus_prompt=B,
        position=position,
        target=TARGET,
        versus=VERSUS,
    )
    assert figure.verdict.status == "verified"

    def answer(ids, *change):
        row = run(model, ids, *change)[0][position]
        return float(row[TARGET] - row[VERSUS])

    own, others = answer(A), answer(B)
    for layer, module in enumerate(layers):
        _, (theirs,) = run(model, B, module)
        for place in range(len(A)):

            def put(stream, at=place, theirs=theirs):
                stream[:, at] = theirs[:, at]
                return stream

            share = (answer(A, module, put) - own) / (others - own)
            assert figure.values[layer, place] == pytest.approx(share, abs=1e-3), (layer, place)


def test_no_token_of_two_prompts_is_taken_for_equal():
    scope = looking_ahead()
    pair = paired(scope.record(A), B, lambda prompt: scope.record(prompt.ids))
    layer = scope.model.model.layers[1]
    (own,), (others,) = (run(scope.model, ids, layer)[1] for ids in (A, B))
    assert float((own - others)[0, 0].abs().max()) > 1e-3
    assert pair.same == 0


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("xlnet", "tokens in the first dimension, and prompts in the second"),
        ("cpmant", "hold 44 rows for 12 tokens"),
        ("prophetnet", "hold 36 rows for 12 tokens"),
    ],
)
def test_layers_whose_rows_are_not_the_tokens_are_changed_by_nothing(family, reason):
    scope = scope_of(family)
    recording = scope.record(A)
    logits, _ = run(scope.model, A)
    assert torch.allclose(recording.logits, logits[-1], atol=1e-4)
    asked = {"versus_prompt": B, "target": TARGET, "versus": VERSUS}
    figure = scope.look("patching", recording=recording, **asked)
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason
    with pytest.raises(ScopeError):
        scope.record(A, edits=["steer 1 logit 7 2 @2"])
