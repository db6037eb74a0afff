"""Experts that are forced or forbidden, beside routers whose scores are changed by hand."""

from unittest.mock import patch

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.record.derive import tensors
from llmscope.record.derive.experts import routing
from tests.families import small_model
from tests.record.by_hand import A
from tests.record.interventions.test_edited import holds, near, scope_for

EIGHT = {
    "mixtral": {"num_local_experts": 8},
    "gpt_oss": {"num_local_experts": 8},
    "qwen3_moe": {"num_experts": 8, "norm_topk_prob": True},
    "qwen2_moe": {"num_experts": 8, "norm_topk_prob": False},
    "olmoe": {"num_experts": 8, "norm_topk_prob": False},
    "deepseek_v3": {
        "n_routed_experts": 8,
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.7,
    },
}
"""Families with two of eight experts; DeepSeek-V3's in four groups, with a bias and a factor."""
LAYER, K = 1, 2


def mixture_of(model):
    return model.get_submodule(f"model.layers.{LAYER}.mlp")


def router_of(model):
    mixture = mixture_of(model)
    return next(m for name, m in mixture.named_children() if name in ("gate", "router"))


def logits_by_hand(model, weigh):
    """Logits of a plain model in which `weigh` gives weights and experts for a router's logits."""

    def choose(_, __, output):
        logits = output[0]
        weights, chosen = weigh(logits.float(), output)
        return (logits, weights.to(output[1].dtype), chosen, *output[3:])

    hook = router_of(model).register_forward_hook(choose)
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([A]), use_cache=False).logits[0].float()
    finally:
        hook.remove()


def gating(family, model):
    """(logits -> what the choice is made by, logits and experts -> their weights), written out."""
    router = router_of(model)
    if family == "gpt_oss":
        return lambda z: z, lambda z, e: z.gather(-1, e).softmax(-1)
    if family != "deepseek_v3":
        p = torch.nn.functional.softmax
        scaled = EIGHT[family].get("norm_topk_prob", True)

        def weigh(z, e):
            w = p(z, dim=-1).gather(-1, e)
            return w / w.sum(-1, keepdim=True) if scaled else w

        return lambda z: p(z, dim=-1), weigh

    def by(z):
        s = z.sigmoid() + router.e_score_correction_bias
        groups = s.view(len(s), 4, 2)
        best = groups.topk(2, dim=-1).values.sum(-1).topk(2, dim=-1).indices
        inside = torch.zeros(len(s), 4, dtype=torch.bool).scatter_(1, best, True)
        return groups.masked_fill(~inside[..., None], -torch.inf).flatten(1)

    def weigh(z, e):
        w = z.sigmoid().gather(-1, e)
        return 1.7 * w / (w.sum(-1, keepdim=True) + 1e-20)

    return by, weigh


def made(family):
    return small_model(family, **EIGHT[family])


def choices_of(family, edits):
    """The experts by hand: -inf for a forbidden one, and a large score for a forced one."""
    model = made(family)
    by, weigh = gating(family, model)

    def choose(logits, output):
        scores = by(logits).clone()
        assert torch.equal(scores.topk(K).indices.sort(-1).values, output[2].sort(-1).values)
        near(weigh(logits, output[2]), output[1].float())
        for action, expert, rows in edits:
            scores[rows, expert] = 1e9 if action == "force" else -torch.inf
        chosen = scores.topk(K).indices
        return weigh(logits, chosen), chosen

    return logits_by_hand(model, choose)


@pytest.mark.parametrize("family", EIGHT)
@pytest.mark.few(3)
def test_forced_and_forbidden_experts_are_those_of_a_router_changed_by_hand(family):
    scope = scope_for(made(family))
    base = scope.record(A)
    chosen = routing(base, LAYER).chosen
    last, first = chosen[-1].tolist(), int(chosen[4, 0])
    other = next(expert for expert in range(8) if expert not in last)
    every = slice(None)
    for edits in (
        [("force", other, slice(12, 13))],
        [("forbid", last[0], slice(12, 13))],
        [("forbid", first, every)],
        [("force", other, every)],
        [("forbid", last[1], slice(9, 13)), ("force", other, slice(11, 13))],
    ):
        words = [
            f"{action} expert {LAYER}.{expert}"
            + ("" if rows == every else f" @{rows.start}..{rows.stop - 1}")
            for action, expert, rows in edits
        ]
        recording = holds(scope, choices_of(family, edits), *words)
        computed = routing(recording, LAYER)
        for action, expert, rows in edits:
            ran = (computed.chosen[rows] == expert).any(-1)
            assert bool(ran.all()) if action == "force" else not bool(ran.any())
        figure = scope.look("experts", recording=recording)
        assert figure.verdict.status == "verified"
        assert scope.look("neurons", recording=recording, layer=LAYER).verdict.status == "verified"


def test_an_expert_that_is_chosen_anyway_changes_nothing():
    scope = scope_for(made("mixtral"))
    base = scope.record(A)
    expert = int(routing(base, LAYER).chosen[-1, 0])
    recording = scope.record(A, edits=[f"force expert {LAYER}.{expert} @-1"])
    near(tensors.logits(recording, 0, 13), tensors.logits(base, 0, 13))


def test_typing_on_reuses_rows_and_sweeps_make_the_choice():
    scope, fresh = scope_for(made("mixtral")), scope_for(made("mixtral"))
    edits = [f"forbid expert {LAYER}.3 @4..", f"force expert {LAYER}.5 @6.."]
    scope.record(A[:10], edits=edits)
    longer = scope.record(A, edits=edits)
    assert longer.reused == 10
    again = fresh.record(A, edits=edits, fresh=True)
    near(tensors.logits(longer, 4, 13), tensors.logits(again, 4, 13))
    table = scope.look("ablation", recording=longer, target=7)
    alone = scope.record(A, edits=[*edits, "zero head 0.2"])
    ids = torch.tensor([7])
    moved = float(
        (tensors.logits_after(alone, 12)[ids] - tensors.logits_after(longer, 12)[ids]).item()
    )
    assert min(abs(table.values[0, 2] - moved), abs(table.values[0, 2] + moved)) < 1e-4


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        (["force expert 1.9"], "there is no expert 9 in layer 1"),
        (["force expert 7.1"], "there is no layer 7"),
        ([f"force expert 1.{e} @-1" for e in range(3)], "too many are named"),
        ([f"forbid expert 1.{e} @-1" for e in range(7)], "was chosen still"),
        (["force expert 1.2 @-1", "forbid expert 1.2"], "another edit says otherwise"),
    ],
)
def test_what_no_router_can_do_is_refused(edits, reason):
    scope = scope_for(made("mixtral"))
    with pytest.raises(ScopeError, match=reason):
        scope.record(A, edits=edits)
    assert mixture_of(scope.model).forward.__func__ is type(mixture_of(scope.model)).forward


def test_a_layer_without_experts_and_a_router_without_a_top_k_are_refused():
    with pytest.raises(ScopeError, match="it has no experts"):
        scope_for(small_model("llama")).record(A, edits=["force expert 1.2"])
    scope = scope_for(made("mixtral"))
    scope.record(A)
    router = type(router_of(scope.model))
    forward = router.forward

    def sorting(self, hidden):
        logits, _, _ = forward(self, hidden)
        weights, chosen = logits.float().softmax(-1).sort(-1, descending=True)
        return logits, weights[:, :K], chosen[:, :K]

    refused = pytest.raises(ScopeError, match="this router chooses in another way")
    with patch.object(router, "forward", sorting), refused:
        scope.record(A, edits=["forbid expert 1.2", "force expert 1.3"])
