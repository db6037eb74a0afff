"""The page holds its script, its styles and its data, and nothing that a text put there."""

import base64
import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmscope.draw import RenderOptions, load_theme
from llmscope.export import EditsCaption, render
from llmscope.export.page.document import DATA, policy_of, script, styles
from llmscope.figure import Axis, Figure, Verdict
from tests.export.page.conftest import HOSTILE, array, attention, every_kind
from tests.export.page.parsed import Parsed


def page(text):
    """A page on which a text stands wherever texts stand."""
    axes = (Axis(text, (text,)), Axis("position", (text,)))
    figures = [
        Figure(text, text, "heatmap", axes, array([[1]]), text, Verdict("partial", text)),
        Figure.refused(text, text, text),
    ]
    about = {
        "model": {"spec": text},
        "prompt": text,
        "versus_prompt": text,
        "tokens": [{"text": text}],
        "provenance": {"command": text, "verdicts": {text: {"reason": text}}},
    }
    return render(figures, "html", about=about, whatif=EditsCaption((text,), text, True))


def outline(text):
    """All elements but those that stand for cells of the picture, and for names and values."""
    found = Parsed(text)
    assert found.open == []
    assert found.comments == []
    cells = ("dt", "dd", "g", "text", "path", "rect")
    return [one for one in found.elements if one[0] not in cells]


def changing(elements):
    """Without what depends on the size of the picture and on the data."""
    return [(tag, () if tag in ("svg", "meta") else attributes) for tag, attributes in elements]


OUTLINE = changing(outline(page("x")))


@given(st.text())
@example("</script><script>alert(1)</script><!--")
@example("</noscript><img src=x onerror=alert(1)>")
@example('"><img src=x onerror=alert(1)>')
@example("</svg></style></title>&lt;script&gt;\x00\ud800\u202e]]>")
def test_no_element_attribute_or_script_comes_out_of_a_text(text):
    made = page(text)
    assert changing(outline(made)) == OUTLINE
    data, program = Parsed(made).scripts
    assert program == PROGRAM
    assert not set("<>&") & set(data)


PROGRAM = Parsed(page("x")).scripts[1]


def test_the_script_is_the_one_of_the_package():
    assert PROGRAM.startswith(script())
    assert "import " not in script()
    assert "export" not in re.sub(r"(?m)^//.*$", "", script())
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch\(|XMLHttp"
    )
    assert not re.search(forbidden, PROGRAM)
    assert "</" not in PROGRAM.replace("<\\/", "")
    assert "url(" not in styles()
    assert "@import" not in styles()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_policy_allows_its_script_and_its_styles_and_nothing_else(theme):
    text = render(every_kind(), "html", look=RenderOptions(load_theme(theme)))
    policy = policy_of(text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.keys() == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for rule in ("default-src", "base-uri", "form-action"):
        assert rules[rule] == "'none'"
    found = {
        "script-src": re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL),
        "style-src": re.findall(r"<style>(.*?)</style>", text, re.DOTALL),
    }
    assert [len(found[rule]) for rule in found] == [1, 2]
    for rule, contents in found.items():
        digests = (hashlib.sha256(one.encode()).digest() for one in contents)
        hashes = {f"'sha256-{base64.b64encode(one).decode()}'" for one in digests}
        assert set(rules[rule].split()) == hashes
    assert "unsafe" not in policy
    assert " style=" not in text
    assert not re.search(r"<[^>]* on\w+=", text.split('<script type="application/json"')[0])


def test_it_names_no_address():
    text = render(every_kind(), "html", about={"prompt": "x", "provenance": {"device": "cpu"}})
    assert set(re.findall(r"[a-z]+://[^\"'<\s;]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link|<img|<iframe|url\(|@import", text)


def test_a_screen_without_figures_has_no_script():
    from llmscope.export import render_rows

    text = render_rows([], "html", about={"prompt": HOSTILE[0]})
    assert "<script" not in text
    assert "script-src" not in policy_of(text)
    assert f'id="{DATA}"' not in text


def test_it_is_written_by_save_too(tmp_path):
    text = attention().save(tmp_path / "a.html").read_text()
    assert script() in text
    assert text.count("<noscript>") == 1


def test_the_attention_of_all_heads_of_a_small_model_fits_a_letter():
    """30 layers of 9 heads over 64 tokens, 1.1 million values."""
    import numpy as np

    random = np.random.default_rng(0).random((9, 64, 64), dtype=np.float32)
    values = np.tril(random)
    values /= values.sum(-1, keepdims=True)
    values[:, *np.triu_indices(64, 1)] = np.nan
    tokens = tuple(map(str, range(64)))
    axes = (Axis("head", tuple("012345678")), Axis("query", tokens), Axis("key", tokens))
    figure = Figure("attention", "Attention", "heatmap", axes, values, "probability")
    made = len(render([figure] * 3, "html", size=None)) - len(
        render([figure] * 2, "html", size=None)
    )
    assert 30 * made < 12_000_000
