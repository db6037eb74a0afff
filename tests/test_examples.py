"""The page of examples in Python: all of it runs, and prints what stands there."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo"
PAGE = (ROOT / "docs" / "python" / "python.md").read_text(encoding="utf-8")


def test_the_page_says_what_its_examples_print():
    pytest.importorskip("pandas")
    assert PAGE.count("```text\n") >= 15
    assert runpy.run_path(str(DEMO / "examples.py"))["remade"](PAGE) == PAGE


def test_an_example_that_prints_something_else_is_noticed():
    remade = runpy.run_path(str(DEMO / "examples.py"))["remade"]
    page = "```python\na = 2\n```\n\nand\n\n```python\nprint(a + 1)\n```\n\n```text\n4\n```\n"
    assert remade(page) == page.replace("4", "3")
    assert remade(page.replace("print(a + 1)", "a")).endswith("and\n\n```python\na\n```\n")
    with pytest.raises(ZeroDivisionError):
        remade(page.replace("a + 1", "a / 0"))
