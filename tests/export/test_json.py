import json
import platform
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.engine.events import ModelInfo, Token
from llmscope.export import json_text, render, snapshot_dict
from llmscope.figure import Focus


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_figure_reads_back(figure):
    record = strict(render(figure, "json"))
    assert record == figure.to_dict()
    assert record["values"][0][1] is None
    assert record["infinite"] == 1
    assert record["axes"][1]["labels"] == list(figure.axes[1].labels)
    np.testing.assert_array_equal(np.float32(record["values"][0][2:]), figure.values[0, 2:])


def test_several_figures_are_a_list(figure):
    assert [r["lens"] for r in strict(render([figure, figure], "json"))] == ["any", "any"]
    assert len(strict(render([figure], "json"))) == 1


@given(st.text())
def test_any_text_comes_back_and_none_acts(text):
    written = json_text({"a": text})
    assert strict(written) == {"a": text}
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in written[:-1])
    written.encode("utf-8")


def test_letters_stay_readable():
    assert json_text(["日本", "é"]) == '["日本", "é"]\n'
    assert json_text("‮") == '"\\u202e"\n'


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        json_text([float("nan")])


def test_snapshot(figure):
    info = ModelInfo(
        spec="builtin:sort",
        name="sort",
        architecture="GPT2LMHeadModel",
        layers=3,
        heads=3,
        width=48,
        neurons=192,
        vocabulary=3,
        context=11,
        parameters=85_000,
        dtype="float32",
        device="cpu",
    )
    tokens = [Token(0, 2, "C", 0, 1), Token(1, 0, " A", 1, 3)]
    record = strict(json_text(snapshot_dict(info, "C A", tokens, Focus(layer=1), [figure])))
    assert record["schema"] == 1
    assert set(record["model"]) == {
        *("spec", "architecture", "layers", "heads", "width", "vocabulary"),
        *("parameters", "dtype", "device", "revision", "adapter"),
    }
    assert record["model"]["parameters"] == 85_000
    assert record["versions"]["python"] == platform.python_version()
    assert record["versions"]["torch"] == version("torch")
    assert record["tokens"][1] == {"position": 1, "id": 0, "text": " A"}
    assert record["focus"]["layer"] == 1
    assert record["figures"] == [figure.to_dict()]
