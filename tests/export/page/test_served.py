"""`llmscope serve FILE`: one page for many viewers, in real browsers."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from tests.browser import Browser
from tests.cli.running import run
from tests.export.page.reading import PATIENCE, Section, opened, place, sections

pytestmark = pytest.mark.slow
LEFT = "\ue012"
PROMPT = "cat -> kitten, dog -> puppy, cow ->"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same snapshot in each format that can be read again."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / name for name in ("a.json", "b.npz", "c.safetensors")]
    outs = [word for path in paths for word in ("--out", path)]
    lenses = ("--lens", "tokens", "--lens", "logit-lens")
    result = run("snapshot", "--prompt", PROMPT, *lenses, *outs)
    assert result.exit_code == 0, result.stderr
    return paths


@contextmanager
def served(folder, *arguments):
    """The server's process, and the link that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "llmscope", "serve", *map(str, arguments), "--port", "0"],
        env=os.environ | {"LLMSCOPE_STATE": str(folder / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_file_is_shown_to_two_viewers_at_once(files, at, browser, tmp_path):
    with served(tmp_path, files[at]) as (process, link):
        other = Browser(tmp_path / "other")
        try:
            opened(browser, link)
            opened(other, link)
            assert place(browser) == place(other) == 10
            browser.types(LEFT, LEFT, LEFT)
            assert (place(browser), place(other)) == (7, 10)
            first, second = (sections(one)[0] for one in (browser, other))
            assert first.readout != second.readout
            surprisal = np.load(files[1])["0.tokens.values"]
            assert (first.value(), second.value()) == (surprisal[7], surprisal[10])
            assert Section(other, 1).hover(3, 2).cells == 7 * 11
            for one in (browser, other):
                one.listen()
                ours = [url for url in one.asked if urlsplit(url).scheme in ("http", "https")]
                assert {urlsplit(url).netloc for url in ours} == {urlsplit(link).netloc}
                assert ours == [link], "the page is all that is asked for"
                assert one.faults == []
            assert psutil.Process(process.pid).children(recursive=True) == []
        finally:
            other.driver.quit()
        browser.driver.refresh()
        opened(browser, link)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
        told = process.stderr.read()
    assert told.splitlines() == [
        f"the link can be opened by anyone who has it; it only shows {files[at].name}; "
        "ctrl+c ends it"
    ]


def test_it_is_refused_without_the_link_and_by_a_foreign_name(files, browser, tmp_path):
    with served(tmp_path, files[0]) as (process, link):
        origin = link.partition("/?")[0]
        for wrong in (origin, f"{origin}/?token=x", link.replace("127.0.0.1", "rebound.example")):
            browser.driver.get(wrong)
            assert browser.text.startswith("Refused"), wrong
        opened(browser, link)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_it_needs_neither_torch_nor_a_terminal_on_the_page(files, tmp_path):
    code = (
        "import sys; sys.modules['textual_serve'] = sys.modules['aiohttp'] = None\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from llmscope.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(files[0]), "--port", "0"],
        env=os.environ | {"LLMSCOPE_STATE": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()
        assert process.wait(PATIENCE) == 143
