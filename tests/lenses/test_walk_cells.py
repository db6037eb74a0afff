"""A number of the walk says how it came about, and every parameter can be reached."""

import json

import numpy as np
import pytest
import torch

import llmscope
from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.painters.walkthrough.step import paint_step
from llmscope.draw.painters.walkthrough.value import cell_facts, cell_said
from llmscope.export import json_text, render
from tests.families import small_model
from tests.lenses.walkthrough.test_walkthrough import LAYER, names_of, scope_on


@pytest.fixture(scope="module")
def sort():
    scope = llmscope.load("builtin:sort")
    scope.record("CABACB")
    return scope


def at(scope, step, cell=None, **focus):
    return scope.look("walkthrough", mode="values", step=step, cell=cell, **focus)


def largest(figure):
    """The largest magnitude of the cell's row in the window, which holds all of it in these."""
    row = figure.values[figure.extra["seen"][0]]
    return float(np.nanmax(np.abs(row)))


def hold(figure):
    """The terms that are told, with what the others make, sum to the number that is shown."""
    cell = figure.extra["cell"]
    made = cell["made"]
    told = [term["value"] for term in made["terms"]]
    assert len(told) <= 4
    for term in made["terms"]:
        assert abs(term["value"]) >= abs(made["others"]["value"]) / max(made["others"]["count"], 1)
    whole = sum(told) + made["others"]["value"]
    floor = 1.0 if figure.extra["name"] == "scores" else 0.0
    assert whole == pytest.approx(cell["value"], abs=1e-5 * max(largest(figure), floor))
    assert cell["value"] == figure.values[tuple(figure.extra["seen"])]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text", "gpt_neox"])
def test_the_terms_of_a_cell_sum_to_it(family):
    scope = scope_on(small_model(family))
    summed = set()
    for step, name in enumerate(names_of(scope.look("walkthrough", layer=LAYER))):
        rows, columns = at(scope, step, layer=LAYER).extra["plane"]
        for cell in {(rows - 1, 0), (rows // 2, min(2, columns - 1))}:
            figure = at(scope, step, cell, layer=LAYER, head=3)
            told = figure.extra["cell"]
            assert told["at"] == list(cell)
            if told["made"] is not None and told["made"]["terms"]:
                hold(figure)
                summed.add(name)
            json.loads(json_text(figure.to_dict()), parse_constant=pytest.fail)
            said = [cell_said(figure, False), *(text for _, text in cell_facts(figure, False))]
            assert all("{" not in line and "None" not in line for line in said)
    assert {"query", "scores", "mixed values", "output projection", "logits"} <= summed
    assert ("embedding" in summed) == (family == "gpt2")
    assert any("norm" in name for name in summed) == (family in ("gpt2", "gpt_neox"))


def test_a_cell_in_words(sort):
    names = names_of(sort.look("walkthrough", layer=1))
    figure = at(sort, names.index("scores"), (5, 1), layer=1)
    query = sort.look("walkthrough", mode="values", step=names.index("query"), layer=1).values[5]
    key = sort.look("walkthrough", mode="values", step=names.index("key"), layer=1).values[1]
    products = query.astype(np.float64) * key / 4
    assert cell_said(figure, False) == (
        f"score that ‹B› at 5 gives ‹A› at 1, head 0 = {products.sum():.3f}"
    )
    facts = list(cell_facts(figure, False))
    order = np.argsort(-np.abs(products))[:4]
    assert facts[0] == ("", "= 0.25 · (query · key, added up)")
    for (label, text), dimension in zip(facts[1:5], order, strict=True):
        assert float(label) == pytest.approx(products[dimension], abs=6e-4)
        assert text.startswith(f"dimension {dimension}: ")
    rest = products.sum() - products[order].sum()
    assert float(facts[5][0]) == pytest.approx(rest, abs=6e-4)
    assert facts[5][1] == "the other 12 together"
    step = names.index("query")
    assert facts[6:] == [
        ("from", f"step {step}, query: head 0, ‹B› at 5"),
        ("and", f"step {step + 1}, key: head 0, ‹A› at 1"),
    ]
    text = render(figure, "txt", look=RenderOptions(tier="none"))
    assert "score that ‹B› at 5 gives ‹A› at 1, head 0 = " in text
    output = list(cell_facts(at(sort, names.index("output projection"), (5, 3), layer=1), True))
    assert ("and", "weight 1, c_proj.weight, column 3") in output
    assert ("and", "weight 2, c_proj.bias, column 3") in output
    token = list(cell_facts(at(sort, names.index("token embedding"), (5, 3), layer=1), True))
    assert ("and", "weight 1, wte.weight, row 1, column 3") in token
    shares = at(sort, names.index("mixed values"), (5, 3), layer=1)
    assert "<A> at 1" in " ".join(text for _, text in cell_facts(shares, True))


def test_a_later_token_gives_nothing(sort):
    names = names_of(sort.look("walkthrough", layer=1))
    figure = at(sort, names.index("pattern"), (1, 4), layer=1)
    assert "none that comes later" in cell_said(figure, False)
    assert list(cell_facts(figure, False)) == []


def test_without_a_cell_it_is_the_one_at_the_position(sort):
    names = names_of(sort.look("walkthrough", layer=1))
    assert at(sort, names.index("pattern"), layer=1, position=3).extra["cell"]["at"] == [3, 3]
    assert at(sort, names.index("query"), layer=1, position=3).extra["cell"]["at"] == [3, 0]
    assert "‹A›" in cell_said(at(sort, len(names) - 1, layer=1), False)


def test_of_a_large_vocabulary_the_likeliest_come_first_and_the_window_follows():
    scope = scope_on(small_model("llama", vocab_size=300))
    step = names_of(scope.look("walkthrough", layer=LAYER)).index("logits")
    with torch.no_grad():
        own = scope.model(torch.tensor([list(scope.latest.prompt.ids)])).logits[0, -1].numpy()
    order = np.argsort(-own, kind="stable")
    first = at(scope, step, layer=LAYER)
    assert first.extra["ids"].tolist() == order[:64].tolist()
    assert first.extra["cell"]["at"] == [0, order[0]]
    for rank in (63, 64, 150, 299):
        figure = at(scope, step, (0, int(order[rank])), layer=LAYER)
        ids = figure.extra["ids"].tolist()
        assert ids[figure.extra["seen"][1]] == order[rank]
        assert ids == order[ids_start(ids, order) :][:64].tolist()
        hold_of_list(figure, own)
        neighbours = order[max(0, rank - 1) : rank + 2].tolist()
        assert set(neighbours) <= set(ids), "one can go on from there"


def ids_start(ids, order):
    return order.tolist().index(ids[0])


def hold_of_list(figure, own):
    cell = figure.extra["cell"]
    told = sum(term["value"] for term in cell["made"]["terms"]) + cell["made"]["others"]["value"]
    assert told == pytest.approx(own[cell["index"][0]], abs=1e-5 * float(np.abs(own).max()))


def test_a_weight_that_two_steps_read_says_so(sort):
    figure = sort.look("walkthrough", layer=1)
    names = names_of(figure)
    for name, other in (("logits", "token embedding"), ("token embedding", "logits")):
        drawn = paint_step(
            figure, names.index(name), 60, 20, styles_for(RenderOptions(tier="none"))
        )
        text = " ".join("".join(part.text for part in row) for row in drawn.rows)
        assert f"wte.weight: 3 × 48, as in step {names.index(other)}" in text
    drawn = paint_step(figure, names.index("query"), 60, 20, styles_for(RenderOptions(tier="none")))
    assert "as in step" not in " ".join("".join(part.text for part in row) for row in drawn.rows)


# Every parameter of the model that sorts.

TIED = ("transformer.wte.weight", {"token embedding", "logits"})
FUSED = {"query": 0, "key": 48, "value": 96}


def test_every_parameter_of_the_model_that_sorts_can_be_reached(sort):
    own = {name: one.detach().numpy() for name, one in sort.model.named_parameters()}
    reached = {name: np.zeros(one.shape, bool) for name, one in own.items()}
    readers = {}
    for layer in range(3):
        for step, told in enumerate(sort.look("walkthrough", layer=layer).extra["steps"]):
            for number, weight in enumerate(told["weights"]):
                name, first = weight["name"], FUSED.get(told["name"], 0)
                readers.setdefault(name, set()).add(told["name"])
                for top, left, shown in windows(sort, layer, step, number):
                    left += first
                    table = own[name].reshape(-1, own[name].shape[-1])
                    mark = reached[name].reshape(-1, own[name].shape[-1])
                    down, across = (
                        slice(one, one + size)
                        for one, size in zip((top, left), shown.shape, strict=True)
                    )
                    np.testing.assert_array_equal(shown, table[down, across])
                    mark[down, across] = True
    assert sum(int(mark.sum()) for mark in reached.values()) == 85_584
    assert all(mark.all() for mark in reached.values())
    assert sum(one.size for one in own.values()) == 85_584
    shared = {
        name: steps for name, steps in readers.items() if len(steps) > 1 and "c_attn" not in name
    }
    assert shared == dict([TIED]), (
        "the table of tokens is read at both ends, and no other weight is"
    )


def windows(scope, layer, step, weight):
    """Windows that hold all of a weight, each asked for by one of its cells, with its place."""
    rows, columns = at(scope, step, layer=layer, weight=weight).extra["plane"]
    for row in {*range(0, rows, 32), rows - 1}:
        for column in {*range(0, columns, 32), columns - 1}:
            figure = at(scope, step, (row, column), layer=layer, weight=weight)
            seen, cell = figure.extra["seen"], figure.extra["cell"]
            assert cell["value"] == figure.values[tuple(seen)]
            assert cell["at"] == [row, column]
            yield row - seen[0], column - seen[1], figure.values


def test_a_bias_is_no_one_of_the_others(sort):
    """48 products and a bias: four are told, the rest is 44 and the bias, or 45 with it told."""
    names = names_of(sort.look("walkthrough", layer=1))
    for column in range(8):
        figure = at(sort, names.index("query"), (5, column), layer=1)
        made = figure.extra["cell"]["made"]
        told = {term["name"] for term in made["terms"]}
        said = "the other 45" if "bias" in told else "the other 44 and bias"
        assert made["others"]["said"] == said
        assert f"{said} together" in [text for _, text in cell_facts(figure, False)]
    assert made["others"]["count"] == 45


def test_scores_of_tokens_are_told_with_their_tokens(sort):
    table = sort.look("walkthrough", layer=1)
    logits = table.extra["steps"][names_of(table).index("logits")]
    figure = sort.look("next-token", top_k=3)
    assert logits["here"]["tokens"] == list(figure.axes[0].labels)
    assert np.abs(np.asarray(logits["here"]["values"]) - figure.extra["logits"]).max() < 1e-4
    drawn = paint_step(
        table, names_of(table).index("logits"), 46, 20, styles_for(RenderOptions(tier="none"))
    )
    text = "\n".join("".join(part.text for part in row) for row in drawn.rows)
    best = figure.axes[0].labels[0]
    assert f"{best} {figure.extra['logits'][0]:.3g}" in text


@pytest.mark.parametrize("prompt", ["CABACB", "CBABBCA"])
def test_the_last_step_is_headed_by_the_token_that_it_names(prompt):
    scope = llmscope.load("builtin:sort")
    scope.record(prompt)
    names = names_of(scope.look("walkthrough"))
    figure = at(scope, names.index("next token"))
    expected = sorted(prompt[:6])[len(prompt) - 6]
    assert figure.axes[1].labels == (expected,)


def test_before_the_sixth_letter_it_says_that_this_means_nothing(sort):
    early = sort.look("walkthrough", position=2).extra["steps"][0]["opening"]
    assert "means nothing" in early
    assert "finds the first" in sort.look("walkthrough").extra["steps"][0]["opening"]
