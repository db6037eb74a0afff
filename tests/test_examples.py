"""The pages of examples in Python: all of them run, and print what stands there."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo"
PAGES = {"python/python.md": 15, "faults.md": 9}
"""Page -> how many of its examples print something, at least."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_its_examples_print(name):
    pytest.importorskip("pandas")
    examples = runpy.run_path(str(DEMO / "examples.py"))
    assert len(examples["PAGES"]) == len(PAGES)
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page.count("```text\n") >= PAGES[name]
    assert examples["remade"](page) == page


def test_an_example_that_prints_something_else_is_noticed():
    remade = runpy.run_path(str(DEMO / "examples.py"))["remade"]
    page = "```python\na = 2\n```\n\nand\n\n```python\nprint(a + 1)\n```\n\n```text\n4\n```\n"
    assert remade(page) == page.replace("4", "3")
    assert remade(page.replace("print(a + 1)", "a")).endswith("and\n\n```python\na\n```\n")
    with pytest.raises(ZeroDivisionError):
        remade(page.replace("a + 1", "a / 0"))
