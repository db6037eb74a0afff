"""The lens walkthrough: its figures against plain eager transformers, and its story."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import llmscope
from llmscope.draw import RenderOptions, paint
from llmscope.export import json_text, render
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.record.walked import Truth, off

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2]
LAYER = 1


def scope_on(module):
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    scope = Scope(model)
    scope.record(IDS)
    return scope


@pytest.fixture(scope="module")
def scope():
    return scope_on(small_model("llama"))


@pytest.fixture(scope="module")
def truth():
    return Truth("llama", small_model("llama"), IDS, LAYER, -1)


@pytest.fixture(scope="module")
def sort():
    scope = llmscope.load("builtin:sort")
    scope.record("CABACB")
    return scope


def names_of(figure):
    return [step["name"] for step in figure.extra["steps"]]


def own_of(truth, figure):
    """What plain transformers gave, one entry a step; None for the tokens."""
    ends = iter(truth.values["residual add"])
    others = iter((truth.values["before"], truth.values["after"]))
    for name in names_of(figure):
        if name.startswith("layer"):
            yield next(others)
        else:
            yield next(ends) if name == "residual add" else truth.values.get(name)


def test_the_table_is_statistics_of_what_plain_transformers_gives(scope, truth):
    figure = scope.look("walkthrough", layer=LAYER)
    assert figure.verdict.status == "verified"
    assert 0 < figure.verdict.discrepancy <= 1e-5
    assert [axis.name for axis in figure.axes] == ["step", "statistic"]
    assert figure.axes[1].labels == ("mean", "std", "min", "max", "norm")
    for row, own in zip(figure.values, own_of(truth, figure), strict=True):
        if own is None or own.size == 1:
            assert np.isnan(row).all()
            continue
        seen = own[~np.isnan(own)]
        expected = [seen.mean(), seen.std(), seen.min(), seen.max(), np.linalg.norm(seen)]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=2e-6)


def test_it_tells_of_each_step_what_it_is(scope, truth):
    figure = scope.look("walkthrough", layer=LAYER, head=3, position=4)
    told = json.loads(json_text(figure.to_dict()), parse_constant=pytest.fail)["extra"]
    steps, names = told["steps"], [step["name"] for step in told["steps"]]
    assert names == list(figure.axes[0].labels)
    rotated = steps[names.index("rotated key")]
    assert rotated["inputs"] == [names.index("key"), names.index("rotation angles")]
    assert rotated["input_shapes"] == [[2, len(IDS), 16], [len(IDS), 32]]
    assert rotated["here"]["axis"] == "dimension"
    key = truth.values["rotated key"][1, 4]  # two query heads share a key head
    assert rotated["here"]["values"] == pytest.approx(key.tolist(), rel=1e-4, abs=1e-5)
    gate = steps[names.index("gate projection")]
    assert gate["here"]["of"] == 80
    assert gate["here"]["index"] == list(range(64))
    (weight,) = gate["weights"]
    assert weight["name"] == f"model.layers.{LAYER}.mlp.gate_proj.weight"
    assert (weight["shape"], weight["part"], weight["learned"]) == ([80, 48], "", True)
    here = steps[names.index("probabilities")]["here"]
    own = Truth("llama", small_model("llama"), IDS, LAYER, 4).values["probabilities"]
    order = np.argsort(-own)[:64]
    assert here["index"] == order.tolist()
    assert here["values"] == pytest.approx(own[order].tolist(), rel=1e-4)
    assert steps[0]["layer"] is None
    assert gate["layer"] == LAYER


@pytest.mark.parametrize("head", [0, 3])
def test_values_are_those_of_the_step_and_head(scope, truth, head):
    table = scope.look("walkthrough", layer=LAYER)
    for index, own in enumerate(own_of(truth, table)):
        figure = scope.look("walkthrough", layer=LAYER, mode="values", step=index, head=head)
        axes = table.extra["steps"][index]["axes"]
        if own is None:
            assert figure.values.tolist() == [IDS]
            continue
        if "head" in axes:
            at = axes.index("head")
            own = own.take(head * own.shape[at] // 4, at)
        own = own if own.ndim > 1 else own[None]
        if figure.extra.get("ids") is not None:
            own = own[:, figure.extra["ids"]]
            assert (np.diff(figure.values[0]) <= 0).all()
        columns = figure.axes[1].start if figure.axes[1].name != "token" else 0
        own = own[:, columns : columns + len(figure.axes[1])]
        assert off(figure.values, own, ["position"]) <= 1e-5, names_of(table)[index]
        assert figure.extra["agreement"] <= 1e-5
        assert render(figure, "txt", look=RenderOptions(tier="none"))


def test_a_weight_is_shown_in_a_window_around_a_cell(sort):
    names = names_of(sort.look("walkthrough", layer=1))
    step = names.index("key")
    figure = sort.look("walkthrough", layer=1, mode="values", step=step, weight=0, cell=(40, 47))
    own = sort.model.transformer.h[1].attn.c_attn.weight.detach().numpy()[:, 48:96]
    assert figure.extra["weight"] == "transformer.h.1.attn.c_attn.weight"
    np.testing.assert_array_equal(figure.values, own)
    assert figure.extra["cell"]["value"] == own[40, 47]
    step = names.index("up projection")
    figure = sort.look("walkthrough", layer=1, mode="values", step=step, weight=0, cell=(3, 190))
    own = sort.model.transformer.h[1].mlp.c_fc.weight.detach().numpy()
    assert figure.axes[1].start == 192 - 64
    np.testing.assert_array_equal(figure.values, own[:, 128:])
    step = names.index("key")
    figure = sort.look("walkthrough", layer=1, mode="values", step=step, weight=1)
    own = sort.model.transformer.h[1].attn.c_attn.bias.detach().numpy()[48:96]
    np.testing.assert_array_equal(figure.values, own[None])


# A cell says which cells it was made of: those alone give its number.


def cells_of(scope, layer, head=2):
    """For each step: its name, a cell in the middle, and the numbers that it was made of."""
    table = scope.look("walkthrough", layer=layer)
    recording = scope.latest
    from llmscope.record.walkthrough import steps

    found = steps(recording, len(recording) - 1, layer, scope.recorder.run)
    for index, name in enumerate(names_of(table)):
        figure = scope.look("walkthrough", layer=layer, mode="values", step=index, head=head)
        cell = (figure.extra["plane"][0] - 2, 1) if figure.extra["plane"][0] > 1 else (0, 0)
        figure = scope.look(
            "walkthrough", layer=layer, mode="values", step=index, head=head, cell=cell
        )
        told = figure.extra["cell"]
        read = []
        for one in told.get("reads", []):
            cut = tuple(slice(*i) if isinstance(i, list) else i for i in one["index"])
            read.append(found[one["step"]].value[cut].astype(np.float64))
        yield name, told["index"], told["value"], read, found[index]


def made_of(name, index, read, weights):
    """The number of a cell of head 2 in column 1, from what it was made of; None: not told here."""
    column = 16 * 2 + 1
    if name in ("embedding", "residual add"):
        return read[0] + read[1]
    if name.endswith("norm"):
        return normed(read[0], weights)[index[1]]
    if name in ("query", "key", "value"):
        return read[0] @ weights[0][:, column] + weights[1][column]
    if name == "scores":
        return read[0] @ read[1] / 4
    if name == "mixed values":
        return read[0] @ read[1]
    if name.endswith("projection"):
        return read[0].reshape(-1) @ weights[0][:, 1] + weights[1][1]
    if name == "logits":
        return weights[0][0] @ read[0]
    if name in ("pattern", "probabilities"):
        return (np.exp(read[0]) / np.exp(read[0]).sum())[index[-1]]
    return None


def test_a_cell_is_made_of_the_cells_that_it_names(sort):
    seen = set()
    for name, index, value, read, step in cells_of(sort, 1):
        weights = [weight.values().astype(np.float64) for weight in step.weights]
        made = made_of(name, index, read, weights)
        if made is not None:
            seen.add(name)
            assert made == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert len(seen) == 16


def normed(row, weights):
    return (row - row.mean()) / np.sqrt(row.var() + 1e-5) * weights[0] + weights[1]


def test_so_it_is_with_shared_heads_and_a_rotation(scope):
    for name, index, value, read, _ in cells_of(scope, LAYER, head=3):
        if name == "scores":
            assert read[0] @ read[1] / 4 == pytest.approx(value, rel=1e-4, abs=1e-5)
        if name == "mixed values":
            assert read[0] @ read[1] == pytest.approx(value, rel=1e-4, abs=1e-5)
        if name == "rotated query":
            query, angles = read
            cos, sin = np.split(angles, 2)
            turned = query * cos + np.concatenate([-query[8:], query[:8]]) * sin
            assert turned[index[2]] == pytest.approx(value, rel=1e-4, abs=1e-5)
        if name == "gated neurons":
            assert read[0] * read[1] == pytest.approx(value, rel=1e-4, abs=1e-6)


# The story of the model that sorts.


def test_the_model_that_sorts_reads_like_a_story(sort):
    figure = sort.look("walkthrough", layer=1)
    text = render(figure, "txt", look=RenderOptions(tier="none"))
    assert "…" not in text  # every step is told in full
    rows = text.splitlines()
    assert "text as numbers" in rows[2]
    assert rows[2].split("6 ")[1].split()[:6] == list("CABACB")
    last = next(row for row in rows if "next token" in row)
    assert last.split()[-2:] == ["A", "│"]
    assert "the model says ‹A›" in text
    assert "one at a time: A A B B C C" in text
    order = [row[6:].split("  ")[0].strip() for row in rows[2 : 2 + len(figure.axes[0])]]
    assert order == list(figure.axes[0].labels)
    assert figure.extra["steps"][0]["told"] == list("CABACB")


def test_it_can_be_exported_in_every_format(sort, tmp_path):
    for mode in ("steps", "values"):
        figure = sort.look("walkthrough", layer=1, mode=mode)
        for suffix in ("json", "npz", "txt", "svg"):
            assert figure.save(tmp_path / f"{mode}.{suffix}").stat().st_size
    with np.load(tmp_path / "steps.npz") as held:
        assert held["values"].shape == (24, 5)
        assert np.isnan(held["agreement"][0])
        assert (held["agreement"][1:] <= 1e-5).all()


def test_the_answer_is_spelt_out_only_after_the_whole_prompt(sort):
    assert "one at a time" not in sort.look("walkthrough", position=2).extra["caption"][0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 130), st.integers(1, 40), st.sampled_from([None, 0, 12, 22]))
def test_it_is_drawn_in_any_room(sort, width, height, step):
    figure = sort.look("walkthrough", layer=0)
    painting = paint(
        figure, width, height, RenderOptions(tier="none", ascii=True), Focus(step=step)
    )
    assert len(painting.rows) == height
    for row in painting.rows:
        assert sum(len(segment.text) for segment in row) == width


# What is refused.


def test_a_fault_is_told_and_its_step_is_marked():
    model = small_model("llama")
    scope = scope_on(model)
    model.model.layers[LAYER].mlp.down_proj.register_forward_hook(lambda _, args, out: out * 2)
    scope.record(IDS, fresh=True)
    figure = scope.look("walkthrough", layer=LAYER)
    at = names_of(figure).index("down projection")
    assert figure.verdict.status == "partial"
    assert f"step {at}, down projection: it differs" in figure.verdict.reason
    assert [bool(step["reason"]) for step in figure.extra["steps"]].count(True) == 1
    shown = scope.look("walkthrough", layer=LAYER, mode="values", step=at)
    assert shown.verdict.status == "partial"
    assert "the model's own is shown" in shown.verdict.reason
    text = render(figure, "txt", look=RenderOptions(tier="none"))
    assert f"×{at} down projection" in text
    assert "1 refused" in figure.extra["caption"][1]


def test_an_edited_pass_is_refused(sort):
    recording = sort.record("CABACB", edits=["zero head 1.0"])
    figure = sort.look("walkthrough", recording=recording)
    assert figure.verdict.status == "refused"
    assert "unedited" in figure.verdict.reason


@pytest.mark.parametrize(
    ("focus", "told"),
    [
        ({"step": 99}, "step 99 is out of range"),
        ({"step": 5, "weight": 7}, "weight 7 is out of range"),
        ({"step": 5, "cell": (99, 0)}, "row 99 is out of range"),
        ({"step": 5, "cell": (0, 48)}, "column 48 is out of range"),
    ],
)
def test_what_does_not_exist_is_an_error(sort, focus, told):
    sort.record("CABACB")
    with pytest.raises(ValueError, match=told):
        sort.look("walkthrough", mode="values", **focus)


def test_a_token_that_is_no_number_is_refused_and_nothing_breaks():
    model = small_model("llama", tie_word_embeddings=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[60] = torch.nan
    scope = scope_on(model)
    figure = scope.look("walkthrough", layer=LAYER)
    assert figure.verdict.status == "refused"
    assert "NaN or infinity" in figure.verdict.reason
    json.loads(json_text(figure.to_dict()), parse_constant=pytest.fail)
