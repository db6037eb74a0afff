"""The report on a headless screen."""

import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from llmscope.draw import RenderOptions
from llmscope.report.figures import interval_text, lens_figures, value_text
from llmscope.report.means import Resampling
from llmscope.report.summary import ReportRequest, report
from llmscope.tui.modes.report.screen import report_app
from tests.report.folders import write_folder
from tests.report.test_reader import hostile
from tests.tui.modes.replay.replaying import Screen

HOW = Resampling(resamples=100)


@asynccontextmanager
async def shown(folder, width=120, height=40):
    app = report_app(report(str(folder), ReportRequest(how=HOW)), look=RenderOptions(tier="none"))
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        await pilot.pause()
        yield Screen(app, pilot)


@pytest.fixture(scope="module")
def best(batch):
    return report(str(batch[0]), ReportRequest(how=HOW)).lenses[0].breakdowns[0]


async def test_a_page_a_lens_and_the_strongest_head_under_the_cursor(batch, best):
    async with shown(batch[0]) as screen:
        assert "60 prompts, 1 failed" in screen.text
        assert "▸1 ablation   2 logit-lens" in screen.text
        titles = [page.title for page in screen.app.grid.workspaces]
        assert len(set(titles)) == len(titles) > 2
        top = best.ranked[0]
        said = f"layer 1, head 2: {value_text(top.mean)} {interval_text(top)}"
        assert said in screen.text
        await screen.press("right")
        one = next(one for one in best.estimates if one.labels == (1, 3))
        assert f"layer 1, head 3: {value_text(one.mean)} {interval_text(one)}" in screen.text
        await screen.press("down")
        one = next(one for one in best.estimates if one.labels == (2, 3))
        assert f"layer 2, head 3: {value_text(one.mean)} {interval_text(one)}" in screen.text
        await screen.press("2")
        assert "the answer is first from this layer on" in screen.text


async def test_every_title_names_its_lens(batch):
    summary = report(str(batch[0]), ReportRequest(how=HOW))
    for lens in summary.lenses:
        for figure in lens_figures(lens, HOW):
            assert figure.title.startswith(f"{lens.lens}: ")
            assert figure.title.count(f"{lens.lens}: ") == 1
    async with shown(batch[0]) as screen:
        for digit, page in enumerate(screen.app.grid.workspaces[:2], 1):
            await screen.press(str(digit))
            titles = [str(pane.border_title) for pane in screen.app.grid.panes.values()]
            assert any(title.startswith(f"{page.title}: ") for title in titles)


async def test_the_prompt_is_read_only_and_the_facts_tell_the_batch(batch):
    async with shown(batch[0]) as screen:
        await screen.press("d", "p")
        assert "most frequent error  too long" in screen.text
        assert "1 refused, 58 verified" in screen.text
        await screen.press("escape", "e", "x")
        assert any("the prompt is read only" in notice for notice in screen.notices)
        assert "60 prompts, 1 failed" in screen.text


async def test_foreign_names_are_escaped_on_the_screen(tmp_path):
    async with shown(hostile(tmp_path / "out")) as screen:
        assert "\x1b" not in screen.text
        assert "\u202e" not in screen.text


async def test_many_lenses_fit_nine_pages(batch, tmp_path):
    _, prompts, lenses = batch
    names = {f"lens-{at:02d}": lenses["tokens"] for at in range(12)}
    folder = write_folder(tmp_path / "out", prompts, names)
    async with shown(folder) as screen:
        await screen.press("0", "s")
        assert "▸9" in screen.text


def test_a_report_needs_no_torch(batch):
    code = (
        "import sys; from llmscope.tui.modes.report.screen import report_app; "
        "from llmscope.report.summary import report, ReportRequest; "
        f"report_app(report({str(batch[0])!r}, ReportRequest())); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
