"""Where the screen meets the world: imports, the terminal, what is kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from llmscope.tui.session.state_file import STATE
from llmscope.tui.session.state_folder import LOCK
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.widgets.header import count, fit_sides, size
from tests.stored import prompts_in, save, save_prompt, saved_prompt

MODULES = ["llmscope.tui", "llmscope.tui.app", "llmscope.tui.run", "llmscope.tui.screenshot"]


@pytest.mark.few(2)
@pytest.mark.parametrize("module", MODULES)
def test_importing_it_imports_no_model_code(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {{'torch', 'transformers'}}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_first_picture_waits_for_no_numpy() -> None:
    """It takes as long as all else that is imported before the first paint."""
    code = "import sys, llmscope.tui.app; print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


LATER = {
    *(
        "json",
        "msgspec",
        "textual.widgets._markdown",
        "markdown_it",
        "plotext",
        "rich.markdown",
        "typer",
    ),
    *(
        "llmscope.edits",
        "llmscope.engine",
        "llmscope.figure",
        "llmscope.lenses",
        "llmscope.scope.scope",
    ),
    *("llmscope.draw.figures", "llmscope.draw.glyphs", "llmscope.draw.painting"),
    *("llmscope.models.info", "llmscope.models.tokenizer.roles", "llmscope.record"),
    "llmscope.tui.features.arrange_panes",
    "llmscope.tui.features.context.export_dialog",
    "llmscope.tui.features.compare.controller",
    "llmscope.tui.features.copy.menu",
    "llmscope.tui.features.cursor",
    "llmscope.tui.features.program",
    "llmscope.tui.features.tabs",
    "llmscope.tui.features.edits.controller",
    "llmscope.tui.features.find",
    "llmscope.tui.dialogs.help",
    "llmscope.tui.widgets.choice_list",
    "llmscope.tui.session.prompt_history",
    "llmscope.tui.dialogs.jump",
    "llmscope.tui.state.layout_state",
    "llmscope.tui.state.figure_store",
    "llmscope.tui.prompt.library",
    "llmscope.tui.features.models.model_catalog",
    "llmscope.tui.dialogs.command_palette",
    "llmscope.tui.panes",
    "llmscope.tui.dialogs.base",
    "llmscope.tui.features.models.model_picker",
    "llmscope.tui.dialogs.history_picker",
    "llmscope.tui.session.recent_models",
    "llmscope.tui.session.migration",
    "llmscope.tui.features.save.dialog",
    "llmscope.tui.state.view_state",
    "llmscope.tui.session.session",
    "llmscope.tui.features.models.model_switch",
    "llmscope.tui.prompt.external_editor",
    "llmscope.tui.features.walkthrough.sources",
    "llmscope.tui.state.edit_list",
}
"""Modules of what comes after the first picture: figures, dialogs, deeds, the engine."""


@pytest.mark.few(2)
@pytest.mark.parametrize("colours", ["truecolor", ""])
@pytest.mark.parametrize("returning", [False, True])
def test_the_first_picture_waits_for_nothing_that_it_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returning: bool, colours: str
) -> None:
    """All of the start is in it: the command line, the terminal and its answers, the screen."""
    code = """
import sys
from pathlib import Path
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.engine_client import LateEngine
found, sys.argv = Path(sys.argv[1]), ["llmscope", "builtin:sort"]
def fill(host):
    found.write_text(" ".join(sys.modules))
    host.exit(0)
LlmscopeApp.fill, LateEngine.start = fill, lambda engine: None
from llmscope.cli import main
main()
"""
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    later = LATER
    if returning:
        # Who was here before is shown what was left.
        save_prompt("builtin:sort", "CAB")
        save("layout", LayoutState(workspace="heads"))
        later = LATER - {"msgspec", "llmscope.tui.state.layout_state"}
    root = Path(__file__).parents[2]
    environ = {"PYTHONPATH": str(root), "NO_COLOR": "", "SSH_CONNECTION": ""}
    terminal = {"TERM": "xterm-256color", "COLORTERM": colours}
    child = pexpect.spawn(
        *(sys.executable, ["-c", code, str(tmp_path / "modules")]),
        dimensions=(40, 120),
        env={**os.environ, **environ, **terminal},
        timeout=60,
    )
    child.expect("Prompt")
    child.expect(pexpect.EOF)
    child.close()
    modules = set((tmp_path / "modules").read_text().split())
    assert child.exitstatus == 0
    assert "llmscope.tui.widgets.placeholder" in modules, "there is a picture"
    assert sorted(later & modules) == []


def test_opening_the_screen_imports_no_model_code() -> None:
    code = """
import asyncio, sys
from tests.tui.acting import ActingEngine
from llmscope.tui.app import LlmscopeApp
async def main():
    app = LlmscopeApp(lambda post: ActingEngine(post), spec="x", prompt="a b")
    async with app.run_test() as pilot:
        await pilot.press("escape", "question_mark", "escape", "ctrl+p", "escape")
asyncio.run(main())
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert found.stdout.strip() == "[]"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_each_model_keeps_its_last_prompt(state: Path) -> None:
    assert saved_prompt("gpt2") == ""
    save_prompt("gpt2", "The capital\n\x1b[31m 漢")
    save_prompt("other", "x")
    assert saved_prompt("gpt2") == "The capital\n\x1b[31m 漢"
    assert sorted(path.name for path in state.iterdir()) == [LOCK, STATE]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "\x00", '{"schema": 1, "prompt gpt2": 3}', '{"schema": 2}']
)
def test_a_broken_state_file_is_an_empty_one_and_set_aside(state: Path, content: str) -> None:
    state.mkdir()
    (state / STATE).write_text(content)
    assert saved_prompt("gpt2") == ""
    assert (state / STATE).read_text() == content, "reading changes nothing"
    save_prompt("gpt2", "x")
    assert prompts_in(state) == {"gpt2": "x"}
    assert (state / f"{STATE}.bad").read_text() == content


def test_a_folder_that_cannot_be_written_costs_the_prompt_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "file" / "state"))
    save_prompt("gpt2", "x")
    assert saved_prompt("gpt2") == ""


def test_the_title_drops_what_is_least_needed() -> None:
    left, right = [("name", 0), ("30 layers", 4)], [("5 tokens", 1), ("71 ms", 2)]
    assert fit_sides(left, right, 80) == (["name", "30 layers"], ["5 tokens", "71 ms"])
    assert fit_sides(left, right, 26) == (["name"], ["5 tokens", "71 ms"])
    assert fit_sides(left, right, 16) == (["name"], ["5 tokens"])
    assert fit_sides(left, right, 3) == (["name"], [])


@pytest.mark.parametrize(
    ("number", "shown"), [(999, "999"), (85_584, "85.6k"), (134_515_008, "134.5M"), (7e9, "7.0B")]
)
def test_count(number: int, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(512, "512 B"), (93e6, "93.0 MB"), (912e6, "0.9 GB"), (2.5e12, "2.5 TB")]
)
def test_size(number: float, shown: str) -> None:
    assert size(number) == shown
