"""An export of an edited pass says so, and one of a plain pass is what it was."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from rich.cells import cell_len

from llmscope.draw import RenderOptions
from llmscope.export import EditsCaption, render

EDITS = ("zero head 5.3", 'steer 6 token " Paris" 4')


def test_a_plain_pass_says_nothing(figure):
    plain = EditsCaption()
    assert plain.to_dict() == {}
    for name in ("json", "npz", "txt", "ansi", "svg"):
        assert render(figure, name, whatif=plain) == render(figure, name)


def test_the_order_is_kept_and_other_is_text_or_null():
    assert EditsCaption(EDITS).to_dict() == {"edits": [*EDITS]}
    assert EditsCaption(EDITS[::-1], "B", True).to_dict() == {
        "edits": [*EDITS[::-1]],
        "versus_prompt": "B",
    }
    assert EditsCaption(held=True).to_dict() == {"versus_prompt": None}


def test_edits_stand_above_the_picture_in_their_order(figure):
    text = render(
        figure, "txt", size=(40, 9), whatif=EditsCaption(EDITS, "A \x1b[31mprompt\nB", True)
    )
    first, second, third, *rest = text.splitlines()
    assert first.rstrip() == " edits  1 zero head 5.3"
    assert second.rstrip() == '        2 steer 6 token " Paris" 4'
    assert third.rstrip() == " prompt B  A \\x1b[31mprompt B"
    assert rest == render(figure, "txt", size=(40, 9)).splitlines()
    assert max(map(cell_len, text.splitlines())) == 40


def test_one_edit_has_no_number_and_a_long_one_is_cut(figure):
    whatif = EditsCaption((f"steer 6 {'x' * 200}.safetensors 4",))
    first, *rest = render(figure, "txt", size=(40, 9), whatif=whatif).splitlines()
    assert first.startswith(" edits  steer 6 xxx")
    assert first.endswith("…")
    assert cell_len(first) == 40
    assert len(rest) == 9
    narrow = render(figure, "txt", size=(6, 3), whatif=whatif).splitlines()
    assert max(map(cell_len, narrow)) == 6
    ascii_only = render(
        figure, "txt", size=(40, 9), look=RenderOptions(tier="none", ascii=True), whatif=whatif
    )
    assert ascii_only.isascii()


@pytest.mark.parametrize("name", ["ansi", "svg"])
def test_every_picture_says_it(figure, name):
    data = render(figure, name, whatif=EditsCaption(EDITS))
    if name == "svg":
        data = "".join(e.text for e in ET.fromstring(data).iter() if e.text)
    assert "zerohead5.3" in data.replace(" ", "")


def test_arrays_carry_it(figure):
    with np.load(
        io.BytesIO(render(figure, "npz", whatif=EditsCaption(EDITS))), allow_pickle=False
    ) as file:
        assert file["edits"].tolist() == [*EDITS]
        np.testing.assert_array_equal(file["values"], figure.values)
