"""The examples of docs/agents.md are answers as the tools give them."""

import re

from demo.agents import EXAMPLE, PAGE, written
from llmscope.agents.tools import TOOLS

NUMBER = re.compile(r"[+-]?\d[\d.,]*(e[+-]?\d+)?")


def shape(page):
    """The page without its numbers, whose last digits depend on the processor."""
    return NUMBER.sub("0", page)


def test_the_examples_are_those_of_now():
    page = PAGE.read_text("utf-8")
    examples = EXAMPLE.findall(page)
    assert len(examples) >= 8
    assert all(len(answer) > 20 for _, _, answer in examples)
    assert shape(written(page)) == shape(page)


def test_the_page_names_every_tool_and_its_arguments():
    page = PAGE.read_text("utf-8")
    for tool in TOOLS.values():
        (row,) = re.findall(rf"^\| `{tool.name}` \| (.*) \|$", page, re.M)
        shared = {"chat"} if tool.name != "many_prompts" else {"chat", *_of_lenses()}
        named = set(re.findall(r"`(\w+)`", row.split(" | ")[0])) | shared
        assert {one.name for one in tool.parameters} - named == set()


def _of_lenses():
    return {one.name for one in TOOLS["look"].parameters} | {"last"}
