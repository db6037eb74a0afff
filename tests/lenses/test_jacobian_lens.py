"""The logit lens through learned maps, against plain transformers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import llmscope
from llmscope.learned.lenses.held_out import HeldOut, HeldOutReadings
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.writer import write_lens
from tests.families import small_model
from tests.lenses.asked import options_for
from tests.lenses.test_experts import IDS, scope_on

STREAMS = 4
ROOT = Path(__file__).parents[2]


def lens_of(*weights, kind="jacobian", **more):
    """A lens with a matrix after each of the first layers of a small model."""
    maps = {at + 1: AffineMap(weight) for at, weight in enumerate(weights)}
    return LearnedLens(kind, maps, 48, 3, {}, **more)


def matrices(count=2):
    generator = torch.Generator().manual_seed(7)
    return [torch.eye(48) + torch.randn(48, 48, generator=generator) / 10 for _ in range(count)]


def readouts(family, own=None):
    """The logits after each layer, its stream mapped by `own`. [stream, row, token]"""
    model = small_model(family)
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([IDS]), output_hidden_states=True)
        rows = []
        for stream, hidden in enumerate(whole.hidden_states[:-1]):
            mapped = hidden[0] @ own[stream - 1].T if own and 0 < stream <= len(own) else hidden[0]
            rows.append(model.lm_head(model.model.norm(mapped)))
        return torch.stack([*rows, whole.logits[0]])


@pytest.mark.few(8)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mixtral", "falcon_h1", "opt"])
@pytest.mark.parametrize("mode", ["top", "target", "kl"])
def test_the_identity_is_the_logit_lens_to_the_bit(family, mode):
    scope = scope_on(family)
    same = lens_of(torch.eye(48), torch.eye(48))
    asked = options_for("logit-lens", mode=mode, target=7)
    plain = scope.look("logit-lens", **asked)
    through = scope.look("logit-lens", **asked, translator=same)
    np.testing.assert_array_equal(plain.values, through.values)
    np.testing.assert_array_equal(plain.extra["ids"], through.extra["ids"])


def test_the_identity_is_the_logit_lens_to_the_bit_in_half_precision():
    from llmscope.models.anatomy import find
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

    model = small_model("llama").bfloat16()
    scope = Scope(
        LoadedModel("t", "t", model, None, find(model), torch.device("cpu"), torch.bfloat16)
    )
    scope.record(IDS)
    same = lens_of(torch.eye(48).half(), torch.eye(48).half())
    plain, through = (scope.look("logit-lens", translator=one) for one in (None, same))
    np.testing.assert_array_equal(plain.values, through.values)


def test_each_cell_is_the_readout_of_its_mapped_stream():
    own = matrices()
    figure = scope_on("llama").look("logit-lens", translator=lens_of(*own))
    best = readouts("llama", own).softmax(-1).max(-1)
    assert figure.values == pytest.approx(best.values.numpy(), abs=1e-5)
    assert figure.extra["ids"].tolist() == best.indices.tolist()
    assert figure.title == "Jacobian lens · top token after each layer"
    assert figure.extra["unmapped"] == (0, 3)
    assert figure.axes[0].labels == ("embed", "0", "1", "2")


def test_target_rank_and_divergence():
    own, scope = matrices(), scope_on("llama")
    logits = readouts("llama", own).double()
    target = scope.look("logit-lens", mode="target", target=7, translator=lens_of(*own))
    aimed = logits[..., 7]
    assert target.values == pytest.approx(logits.softmax(-1)[..., 7].numpy(), abs=1e-6)
    ranks = (logits > aimed[..., None]).sum(-1) + 1
    assert target.extra["ranks"].tolist() == ranks.tolist()
    p, q = logits[-1].log_softmax(-1), logits.log_softmax(-1)
    kl = scope.look("logit-lens", mode="kl", translator=lens_of(*own))
    assert kl.values == pytest.approx((p.exp() * (p - q)).sum(-1).numpy(), abs=1e-5)
    assert kl.values[-1] == pytest.approx(0, abs=1e-6)
    assert kl.unit == "nats"


@pytest.mark.parametrize("layer", [0, 2])
def test_the_candidates_of_a_cell(layer):
    own, scope = matrices(), scope_on("llama")
    figure = scope.look(
        "logit-lens", mode="layer", layer=layer, position=3, translator=lens_of(*own), top_k=5
    )
    best = readouts("llama", own)[layer + 1, 3].softmax(-1).topk(5)
    assert figure.values == pytest.approx(best.values.numpy(), abs=1e-5)
    assert figure.extra["ids"].tolist() == best.indices.tolist()


def test_lenses_side_by_side_are_those_read_alone():
    scope, first = scope_on("llama"), lens_of(*matrices())
    second = LearnedLens(
        "tuned", {at: AffineMap(one, adds=True) for at, one in enumerate(matrices(3))}, 48, 3
    )
    both = scope.look(
        "logit-lens", mode="lenses", position=4, translator=first, second_translator=second
    )
    assert both.axes[1].labels == ("logit", "Jacobian", "Tuned")
    for column, one in enumerate((None, first, second)):
        alone = scope.look("logit-lens", translator=one)
        assert both.values[:, column] == pytest.approx(alone.values[:, 4], abs=1e-6)
        assert both.extra["ids"][:, column].tolist() == alone.extra["ids"][:, 4].tolist()


def readings(*better):
    """Figures of a lens that beats the others at these streams."""
    gain = tuple((1.0, 0.1) if at in better else (0.1, 0.1) for at in range(STREAMS))
    return HeldOutReadings((0.5,) * STREAMS, (1.0,) * STREAMS, gain)


def test_the_verdict_tells_where_the_lens_is_no_better():
    none = lens_of(*matrices())
    scope = scope_on("llama")
    verdict = scope.look("logit-lens", translator=none).verdict
    assert (verdict.status, verdict.reason.partition(":")[0]) == ("partial", "not measured")
    own = HeldOutReadings((0.5,) * STREAMS, (1.0,) * STREAMS, ((0.0, 0.0),) * STREAMS)
    good = replace(none, held_out=HeldOut(9, 1, own, readings(1, 2), readings(1, 2), "others"))
    assert scope.look("logit-lens", translator=good).verdict.status == "verified"
    held = HeldOut(9, 1, own, readings(1), readings(2), "the matrices of other layers")
    weak = replace(none, held_out=held)
    figure = scope.look("logit-lens", translator=weak)
    assert figure.verdict.status == "partial"
    assert figure.verdict.reason == (
        "no better than the matrices of other layers on held-out text after layer 0; "
        "no better than the logit lens on held-out text after layer 1"
    )
    assert figure.extra["doubtful"] == (1, 2)
    half = replace(none, held_out=replace(held, baseline=readings(1)))
    for layer, status in ((0, "verified"), (1, "partial")):
        one = scope.look("logit-lens", mode="layer", layer=layer, translator=half)
        assert one.verdict.status == status
        assert "9 held-out tokens: top-1 as the model's 50%" in one.extra["caption"][0]


def test_another_models_lens_is_refused(tmp_path):
    path = tmp_path / "lens.safetensors"
    lens = replace(lens_of(*matrices()), about={"model_name": "org/another"})
    write_lens(lens, path)
    figure = scope_on("llama").look("logit-lens", translator=str(path))
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == "the lens is for the model org/another"


def test_the_slope_of_a_fitted_prompt_is_on_average_what_its_lens_says():
    """A Jacobian is the mean of what the mode `slope` measures at the positions of its fit."""
    from llmscope.jobs.fit_lens.jacobian import jacobian_rows

    scope = scope_on("llama")
    places = range(len(IDS))  # the mode sums over all later tokens, the last one too
    with scope.unchanged():
        rows = jacobian_rows(scope.recorder, IDS, places, [1, 2], torch.eye(48), 12)
    lens = lens_of(rows[1], rows[2])
    found = [
        scope.look("logit-lens", mode="slope", position=at, target=7, translator=lens)
        for at in places
    ]
    mean = np.mean([one.extra["measured"] for one in found], axis=0)
    assert mean == pytest.approx(found[0].extra["said"], rel=5e-3)
    weights = small_model("llama").lm_head.weight[7].detach()
    for at in (0, 1):
        assert found[0].extra["said"][at] == pytest.approx(float((weights @ rows[at + 1]).norm()))


def test_the_slope_needs_a_lens_and_an_unedited_pass():
    scope = scope_on("llama")
    assert "it is about a learned lens" in scope.look("logit-lens", mode="slope").verdict.reason
    edited = scope.record(IDS, edits=["zero head 0.0"])
    lens = lens_of(*matrices())
    figure = scope.look("logit-lens", recording=edited, mode="slope", translator=lens)
    assert figure.verdict.reason == "it can only tell of an unedited pass"


@pytest.mark.slow
def test_the_shipped_jacobian_lens_reads_answers_earlier_than_the_logit_lens():
    """On documents that it was not fitted on; the figures are in docs/learned-lenses.md."""
    from demo.fit_lenses import prompts
    from demo.lens_depths import PROMPTS, SEED, depths

    text = (ROOT / "docs" / "learned-lenses.md").read_text(encoding="utf-8")
    with llmscope.load("builtin:town") as scope:
        found = depths(scope, prompts(SEED, PROMPTS))
    for kind in ("rule", "other"):
        logit, jacobian = found[kind, "logit"], found[kind, "jacobian"]
        assert jacobian.top1 < logit.top1 - 0.2
        assert jacobian.top5 < logit.top5 - 0.2
    for (kind, name), depth in found.items():
        assert f"| {kind} | {name} | {depth.top1:.2f} | {depth.top5:.2f} |" in text, (kind, name)
