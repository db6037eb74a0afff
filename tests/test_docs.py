"""The documentation names only files, commands and options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmscope.cli import command_table
from llmscope.cli.app import command_named

ROOT = Path(__file__).parents[1]
ROOT_PAGES = ("README", "CONTRIBUTING", "AGENTS")
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *(ROOT / f"{name}.md" for name in ROOT_PAGES)])
COMMANDS = {name: command_named(name) for name in command_table.COMMANDS}
COMMANDS |= {
    f"{group} {name}": command
    for group, whole in list(COMMANDS.items())
    for name, command in getattr(whole, "commands", {}).items()
}
TOOLS = [
    *ROOT.glob("tests/*/run.py"),
    *ROOT.glob("tests/*/__main__.py"),
    ROOT / "tests" / "conftest.py",
]
OF_ALL = {"--help", "-h", "--man", "--version", "--install-completion", "--show-completion"}


def flags(command: str) -> set[str]:
    """Return the options of a command."""
    options = COMMANDS[command].params
    return {flag for one in options for flag in (*one.opts, *one.secondary_opts)} | OF_ALL


def called(page: str) -> Iterator[list[str]]:
    """Yield the words of each call of llmscope in code, without its name."""
    blocks = re.findall(r"^```(?:sh|console)?\n(.*?)^```", page, re.S | re.M)
    indented = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for code in (*lines, *indented, *re.findall(r"`([^`\n]+)`", page)):
        if re.match(r"(\$ )?llmscope( |$)", code):
            try:
                yield shlex.split(code.removeprefix("$ "), comments=True)[1:]
            except ValueError:  # an example that is cut with an ellipsis inside quotes
                yield code.split()[1:]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    page = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", page) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pictures_of_html_lead_to_files(path: Path) -> None:
    sources = re.findall(r'<img src="([^"]+)"', path.read_text("utf-8"))
    assert [one for one in sources if not (path.parent / one).is_file()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    wrong = []
    for words in called(path.read_text("utf-8")):
        first = words[0] if words else "open"
        command = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else first
        command = command if command in COMMANDS else "open"
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        wrong += [(words, flag) for flag in used if flag not in flags(command)]
    assert wrong == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_options_that_are_named_alone_exist(path: Path) -> None:
    known = {flag for command in COMMANDS for flag in flags(command)}
    for tool in TOOLS:  # commands of the repository itself
        known |= set(re.findall(r'"(--[a-z-]+)"', tool.read_text("utf-8")))
    named = re.findall(r"`(--[a-z][a-z-]+)[^`]*`", path.read_text("utf-8"))
    assert [flag for flag in named if flag not in known] == []


def test_the_readme_is_short() -> None:
    assert 6000 <= len((ROOT / "README.md").read_bytes()) <= 8000


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_anchors_of_other_pages_exist(path: Path) -> None:
    """The site is built strictly; this is for a code host, which makes ids the same way."""
    missing = []
    for page, anchor in re.findall(r"\]\(([^)#\s]*\.md)#([^)\s]+)\)", path.read_text("utf-8")):
        target = (path.parent / page).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", target, re.M)
        ids = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
        missing += [f"{page}#{anchor}"] if anchor not in ids else []
    assert missing == []


def test_the_pages_name_some() -> None:
    calls = [words for path in PAGES for words in called(path.read_text("utf-8"))]
    assert len(calls) > 30
    assert any("--lens" in words for words in calls)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    pytest.importorskip("material")
    loaded = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    build.build(loaded)  # raises Abort for a warning
    assert "Glossary" in (tmp_path / "glossary" / "index.html").read_text("utf-8")
