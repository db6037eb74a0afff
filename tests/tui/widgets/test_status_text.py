from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from llmscope.engine.events import Request, Want
from llmscope.figure import Axis, Figure, Focus
from llmscope.support.numbers import percent, share, significant
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.widgets.status_text import clauses, fitting
from tests.tui.acting import INFO, figure_for, tokenize

TEXT = "The capital of France is"
TOKENS = tokenize(TEXT)
SCENE = ViewState.opening(Focus(layer=17, head=4)).loaded(INFO).with_tokens(TOKENS)
WANTS = {
    "map": Want("map", "residual", Focus(mode="stream")),
    "next-token": Want("next-token", "next-token", Focus()),
    "attention": Want("attention", "attention", Focus(layer=17, head=4, mode="raw")),
    "mlp": Want("mlp", "mlp", Focus(layer=17, mode="neurons")),
    "tokens": Want("tokens", "tokens", Focus()),
}
ASKED = Request(1, TEXT, tuple(WANTS.values()))
SHOWN = {key: Shown(figure_for(want, TOKENS), want, TOKENS, ASKED) for key, want in WANTS.items()}


def test_reads_every_figure_at_the_cursor() -> None:
    line = fitting(clauses(SCENE, SHOWN.get), 500)
    attention = SHOWN["attention"].figure.values[4]
    key = int(attention.argmax())
    norm = SHOWN["map"].figure.values[18, 4]
    surprisal = SHOWN["tokens"].figure.values[4]
    assert line.startswith("layer 17, ‹·is›: next ‹·Paris› 60.0 %; ")
    looked = TOKENS[key].text.replace(" ", "·")
    assert f"head 4 looks most at ‹{looked}› ({share(float(attention[key]))})" in line
    assert f"stream norm {significant(float(norm))}" in line
    assert f"surprisal {significant(float(surprisal))} bits" in line


def test_reads_the_logit_lens_as_words() -> None:
    rows = ("embed", *(str(layer) for layer in range(30)))
    values = np.full((31, 5), np.nan, dtype=np.float32)
    values[18, 4] = 0.41
    ids = np.full((31, 5), -1)
    ids[18, 4] = 7
    figure = Figure(
        *("logit-lens", "Logit lens", "heatmap"),
        (Axis("layer", rows), Axis("position", tuple(token.text for token in TOKENS))),
        values,
        "probability",
        extra={"ids": ids, "names": {7: " Paris"}, "target": " Mary"},
    )

    def said(state: ViewState, mode: str) -> str:
        want = Want("map", "logit-lens", Focus(mode=mode))
        return fitting(clauses(state, {"map": Shown(figure, want, TOKENS, ASKED)}.get), 500)

    assert said(SCENE, "top") == "layer 17, ‹·is›: the lens reads ‹·Paris› at 41.0 %"
    assert said(SCENE, "target") == "layer 17, ‹·is›: the lens gives ‹·Mary› 41.0 %"
    assert said(SCENE.move_to(layer=3), "top") == "layer 3, ‹·is›"  # not read yet


def test_reads_the_check_of_a_lens_as_words() -> None:
    want = Want("next-token", "logit-lens", Focus(mode="slope"))
    figure = figure_for(want, TOKENS)
    read = clauses(SCENE, {"next-token": Shown(figure, want, TOKENS, ASKED)}.get)
    ratio = significant(float(figure.values[17]))
    assert read[1:] == [f"along ‹·Paris› the model does {ratio} times what the lens says"]


def test_reads_the_chosen_neuron_and_candidate() -> None:
    label = SHOWN["mlp"].figure.axes[1].labels[2]
    ids = SHOWN["next-token"].figure.extra["ids"]
    state = SCENE.move_to(neuron=int(label)).set_target(int(ids[1]), pinned=False)
    line = fitting(clauses(state, SHOWN.get), 500)
    assert f"neuron {label} at" in line
    assert "‹·the› is number 2 at 30.0 %" in line


def test_a_figure_of_another_place_is_not_read() -> None:
    line = fitting(clauses(SCENE.move(layer=1, position=-1), SHOWN.get), 500)
    assert "looks most" not in line
    assert "next" not in line
    assert "stream norm" in line


def test_a_figure_of_other_tokens_is_not_read() -> None:
    other = SCENE.with_tokens(tokenize("The capital of Spain is"))
    assert clauses(other, SHOWN.get) == ["layer 17, ‹·is›"]


def test_a_figure_of_another_adapter_is_not_read() -> None:
    assert clauses(replace(SCENE, adapter="poet"), SHOWN.get) == ["layer 17, ‹·is›"]


def test_a_refused_figure_is_not_read() -> None:
    want = WANTS["attention"]
    refused = {
        "attention": Shown(Figure.refused("attention", "Attention", "no"), want, TOKENS, ASKED)
    }
    assert clauses(SCENE, refused.get) == ["layer 17, ‹·is›"]


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120])
def test_clauses_that_do_not_fit_are_left_out_whole(width: int) -> None:
    parts = clauses(SCENE, SHOWN.get)
    line = fitting(parts, width)
    assert cell_len(line) <= max(width, cell_len(parts[0]))
    assert line == parts[0] or line.endswith(tuple(parts[1:]))


def test_no_tokens_no_words() -> None:
    assert clauses(ViewState(), SHOWN.get) == []
    assert fitting([], 80) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0.7725, "77.2 %"), (0.99982, "99.98 %"), (1.0, "100.0 %"), (0, "0.0 %")]
)
def test_percent(value: float, shown: str) -> None:
    assert percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(22573.6, "22574"), (84.234, "84.2"), (0.3921, "0.392"), (float("nan"), "–")],
)
def test_number(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_says_nothing_of_a_map_that_lacks_the_column_of_the_cursor() -> None:
    want, figure = WANTS["map"], SHOWN["map"].figure
    narrow = Figure(
        *(figure.lens, figure.title, figure.kind),
        (figure.axes[0], Axis("position", figure.axes[1].labels[:3])),
        figure.values[:, :3].copy(),
        figure.unit,
    )
    said = fitting(clauses(SCENE, {"map": Shown(narrow, want, TOKENS, ASKED)}.get), 500)
    assert said == "layer 17, ‹·is›"
