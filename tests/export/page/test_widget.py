"""The widget of a notebook: the page's script and data, and a cursor that a program can set."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

import llmscope
from llmscope.draw import RenderOptions
from llmscope.errors import ScopeError
from llmscope.export import render
from llmscope.export.page.document import script, styles
from llmscope.figure import Focus
from tests.export.page.conftest import attention, every_kind

pytest.importorskip("anywidget")


def test_it_has_the_script_and_the_data_of_the_page():
    widget = attention().widget(cursor=2)
    state = widget.get_state()
    assert state["_esm"].startswith(script())
    assert state["_esm"].rstrip().endswith("export default { render };")
    assert state["_css"] in styles()
    assert "\nbody" not in state["_css"]
    assert all(".llmscope-page" in one for one in state["_css"].split("{")[0].split(","))
    data = json.loads(state["data"])
    assert [one["lens"] for one in data["figures"]] == ["attention"]
    assert state["cursor"] == data["cursor"] == 2


def test_several_figures_are_one_widget_with_one_cursor():
    widget = llmscope.widget(every_kind())
    assert len(json.loads(widget.data)["figures"]) == len(every_kind())
    assert widget.cursor == 4
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "cursor")
    widget.cursor = 1
    widget.cursor = -2
    assert (widget.cursor, seen) == (3, [1, 3])
    widget.cursor = 99
    assert widget.cursor == 4, "the last token"


def bundle_of(widget):
    shown = widget._repr_mimebundle_()
    return shown[0] if isinstance(shown, tuple) else shown


def test_without_a_kernel_its_svg_is_shown():
    figure = attention()
    bundle = bundle_of(figure.widget(cursor=2))
    assert ElementTree.fromstring(bundle["image/svg+xml"]).tag.endswith("svg")
    assert bundle["image/svg+xml"] == render(
        figure, "svg", look=RenderOptions(), inline=True, focus=Focus(position=2)
    )
    assert bundle["text/plain"] == render(figure, "txt", focus=Focus(position=2)).rstrip("\n")
    several = bundle_of(llmscope.widget(every_kind()))
    assert all(figure.title.split(" · ")[0] in several["text/plain"] for figure in every_kind()[:3])


def test_a_notebook_shows_it_and_keeps_the_figure_as_it_was():
    bundle = bundle_of(attention().widget())
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert set(attention()._repr_mimebundle_()) == {"text/plain", "image/svg+xml"}


def test_no_figure_is_refused():
    with pytest.raises(ScopeError, match="no figure to show"):
        llmscope.widget([])


def test_without_anywidget_it_says_what_to_install():
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import llmscope\nfrom llmscope.errors import ScopeError\n"
        "try:\n    llmscope.widget([llmscope.Figure.refused('a', 'A', 'b')])\n"
        "except ScopeError as error:\n    print(error.message, '|', error.hint)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "a widget needs anywidget, which is not installed | "
        "pip install '.[notebook]' in the checkout",
        "False",
    ]
