"""A page of a screen holds what it shows and nothing that acts, whatever the prompt is.

Pages of figures, which have a script, are in tests/page.
"""

import base64
import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.segment import Segment

from llmscope.draw import RenderOptions
from llmscope.export import render_rows
from tests.export.page.parsed import Parsed


def page(prompt):
    about = {
        "model": {"spec": prompt},
        "prompt": prompt,
        "versus_prompt": prompt,
        "provenance": {"command": prompt, "verdicts": {prompt: {"reason": prompt}}},
    }
    return Parsed(render_rows([(Segment("fixed"),)], "html", about=about))


TAGS = [tag for tag, _ in page("x").elements]
POLICY = next(dict(a)["content"] for _, a in page("x").elements if "http-equiv" in dict(a))


@given(st.text())
@example("</pre><script>alert(1)</script><!--")
@example('"><img src=x onerror=alert(1)>')
@example("</svg></style></title>&lt;script&gt;\x00\ud800\u202e]]>")
def test_no_element_or_attribute_comes_out_of_a_prompt(prompt):
    found = page(prompt)
    assert found.open == []
    assert found.comments == []
    plain = [tag for tag in found.elements if tag[0] not in ("dt", "dd")]
    assert [tag for tag, _ in plain] == [tag for tag in TAGS if tag not in ("dt", "dd")]
    assert [attributes for tag, attributes in found.elements if tag in ("dt", "dd", "pre")] == [
        () for tag, _ in found.elements if tag in ("dt", "dd", "pre")
    ]
    (policy,) = (dict(a)["content"] for _, a in found.elements if "http-equiv" in dict(a))
    assert policy == POLICY


@given(st.text())
def test_no_element_comes_out_of_a_cell(text):
    found = Parsed(render_rows([(Segment(text),)], "html"))
    assert found.open == []
    known = {"html", "head", "meta", "title", "style", "body", "h1", "figure", "svg"}
    drawn = {"rect", "g", "text", "path"}
    assert {tag for tag, _ in found.elements} <= known | drawn
    names = {name for _, attributes in found.elements for name, _ in attributes}
    assert not any(name.startswith("on") or name in ("href", "src", "style") for name in names)


def test_a_prompt_is_there_to_read():
    found = page("a <b>\n\x1b[31m")
    assert "a <b>\n\\x1b[31m" in found.text["pre"]
    assert found.text["title"] == "llmscope · a <b> \\x1b[31m"
    assert found.text["summary"] == "Where it came from"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_policy_allows_its_two_styles_and_nothing_else(theme):
    from llmscope.draw.color.theme import load_theme

    rows = [(Segment("fixed"),)]
    text = render_rows(rows, "html", look=RenderOptions(theme=load_theme(theme)))
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    allowed = set(re.findall(r"'sha256-([^']*)'", policy))
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert allowed == {
        base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles
    }
    assert len(allowed) == 2
    assert " style=" not in text
    assert "unsafe" not in policy


def test_it_asks_nobody_for_anything():
    about = {"prompt": "x", "provenance": {"device": "cpu"}}
    text = render_rows([(Segment("fixed"),)], "html", about=about)
    assert set(re.findall(r"[a-z]+://[^\"'<\s]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|<link|<img|<iframe|url\(|@import", text)
