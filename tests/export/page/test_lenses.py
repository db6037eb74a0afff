"""Each lens that comes with llmscope, on the page in a browser: complete, and without a fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llmscope
from demo.lens_pages import commands, prepared
from llmscope.cli.output.file_page import file_page
from llmscope.errors import ScopeError
from llmscope.export import render
from llmscope.export.read import read
from llmscope.lenses import lens, names
from tests.browser import Browser
from tests.cli.running import run
from tests.export.page.reading import drawn_values, opened, sections

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
PROMPT = "cat -> kitten, dog -> puppy, cow ->"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.driver.quit()


def check(browser, figures):
    """Compare what is drawn of some figures with their values, and move through them."""
    for figure, section in zip(figures, sections(browser), strict=True):
        assert section.of("return it.querySelector('h2').textContent") == figure.title.strip()
        if figure.verdict.status == "refused":
            assert section.cells is None
            assert section.of("return it.querySelector('.message').textContent").strip()
            continue
        assert section.cells == drawn_values(figure), figure
        if any(axis.name in ("position", "query") for axis in figure.axes):
            assert section.cursor.startswith("at ‹"), figure
        section.focus()
        browser.types("\ue015", "\ue012", "\ue015")
        assert section.of("return it.querySelector('.readout').textContent")
    assert browser.faults == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_figure_of_its_page(browser, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in prepared(name, tmp_path):
        if words[:3] != ["-m", "llmscope", "snapshot"]:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, *words], check=True, env=environment)
            continue
        *words, out, _ = words[2:]
        assert out == "--out"
        result = run(*words, "--out", "page.html", "--out", "page.json")
        assert result.exit_code == 0, result.stderr
    opened(browser, (tmp_path / "page.html").as_uri())
    figures = read(tmp_path / "page.json").figures
    check(browser, figures)
    # What was written and read again is on a page, too.
    served = file_page(tmp_path / "page.json", None, None, None)
    assert served.count('"draw"') == len(figures)


@pytest.fixture(scope="module")
def scope():
    return llmscope.load("builtin:town")


@pytest.mark.parametrize("name", sorted(names()))
def test_its_figures_in_every_mode(browser, scope, name, tmp_path):
    """Alone, beside a prompt B, and as a difference; at all layers where there are some."""
    figures = []
    for other in (None, "cat -> meow, dog -> woof, cow ->"):
        scope.record(PROMPT)
        beside = {} if other is None else {"versus_prompt": other}
        for mode in lens(name).modes or ("",):
            for more in ({}, {"change": True}, {"layer": "all"})[: 3 if other else 1]:
                try:
                    figures.append(scope.look(name, mode=mode, **beside, **more))
                except (ScopeError, ValueError):  # the mode, or the lens, does not have it
                    assert more or other
    assert figures
    path = tmp_path / "page.html"
    path.write_text(render(figures, "html"))
    opened(browser, path.as_uri())
    check(browser, figures)
