"""The page in a real browser, headless Chromium: opened with the link, typed into, and refused."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest

from tests.browser import Browser
from tests.web.serving import PATIENCE, Page

pytestmark = pytest.mark.slow


class TerminalBrowser(Browser):
    """What the terminal of the page shows, by the bytes that it was sent.

    It draws on a canvas, from which no text can be read: of that there are pictures.
    """

    def __init__(self, profile):
        super().__init__(profile)
        self.page = Page()

    def heard(self, method, found):
        super().heard(method, found)
        match method:
            case "Network.webSocketCreated":
                self.page = Page()
            case "Network.webSocketFrameSent" if found["response"]["opcode"] == 1:
                kind, *said = json.loads(found["response"]["payloadData"])
                if kind == "resize":
                    self.page.screen.resize(said[0]["height"], said[0]["width"])
            case "Network.webSocketFrameReceived" if found["response"]["opcode"] == 2:
                self.page.feed(base64.b64decode(found["response"]["payloadData"]))

    def shows(self, *wanted):
        """Wait until the page shows all of `wanted`."""
        until = time.monotonic() + PATIENCE
        while not all(part in self.page.text for part in wanted):
            assert time.monotonic() < until, f"{wanted} did not appear:\n{self.page.text}"
            time.sleep(0.1)
            self.listen()

    def settled(self):
        """A picture of the page, once it changes no more."""
        from selenium.webdriver.common.by import By

        self.shows("─ Prompt ─")
        before, after = b"", self.driver.get_screenshot_as_png()
        until = time.monotonic() + PATIENCE
        while before != after:
            assert time.monotonic() < until, "it goes on changing"
            time.sleep(0.5)
            before, after = after, self.driver.find_element(By.TAG_NAME, "body").screenshot_as_png
        return after


@pytest.fixture
def browser(tmp_path):
    one = TerminalBrowser(tmp_path / "profile")
    yield one
    one.driver.quit()


@pytest.fixture
def served(tmp_path):
    """The server, and the link that it prints."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "llmscope", "serve", "builtin:town", "--port", "0"),
            *("--prompt", "cat -> kitten, dog -> puppy, cow"),
        ],
        env=os.environ | {"LLMSCOPE_STATE": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process, process.stdout.readline().strip()
        process.terminate()
        assert process.wait(PATIENCE) == 143


def programs(process):
    return psutil.Process(process.pid).children(recursive=True)


def test_opened_with_the_link_typed_into_and_closed(browser, served, tmp_path):
    process, link = served
    origin = link.partition("/?")[0]
    browser.driver.get(link)
    browser.shows("Map", "Next token", "Attention", "MLP", "6 layers")
    assert browser.driver.current_url == f"{origin}/", "the token is in no history"
    before, picture = browser.page.text, browser.settled()
    assert "98.51" not in before
    browser.types(" ->")
    browser.shows("cow ->", "·calf     98.51 %", "next ‹·calf› 98.5 %")
    after = browser.settled()
    assert after != picture, "what came was drawn"
    (tmp_path / "page.png").write_bytes(after)  # to be looked at
    assert browser.driver.execute_script("return document.fonts.check('16px \"Roboto Mono\"')")
    ours = [url for url in browser.asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")]
    assert len(ours) > 5
    assert {urlsplit(url).netloc for url in ours} == {urlsplit(origin).netloc}, "and nobody else"
    assert browser.faults == []
    assert len(programs(process)) == 1
    browser.driver.get("about:blank")
    assert not psutil.wait_procs(programs(process), timeout=PATIENCE)[1]
    browser.listen()
    browser.page = Page()
    browser.driver.get(origin)  # the same browser may come again
    browser.shows("6 layers", "Next token", "esc leave prompt")
    browser.types(" ->")
    browser.shows("·calf     98.51 %")


def test_the_end_of_the_program_is_told_and_it_opens_again(browser, served):
    _, link = served
    browser.driver.get(link)
    browser.shows("6 layers", "Next token")
    browser.types("\ue00c")  # escape
    browser.shows("e edit")
    browser.types("q")
    until = time.monotonic() + PATIENCE
    while "The session has ended. Open it again" not in browser.text:
        assert time.monotonic() < until, browser.text
    browser.listen()
    browser.page = Page()
    browser.driver.find_element("link text", "Open it again").click()
    browser.shows("6 layers", "Next token")


def test_refused_without_the_token_and_with_one_that_was_used(browser, served):
    process, link = served
    origin = link.partition("/?")[0]
    for wrong in (origin, f"{origin}/?token=x", f"{origin}/static/js/textual.js", f"{origin}/ws"):
        browser.driver.get(wrong)
        assert browser.text.startswith("Refused"), wrong
    browser.driver.get(link)
    browser.shows("Next token")
    browser.driver.delete_all_cookies()
    browser.driver.get(link)
    assert "Refused: this link has opened a browser already" in browser.text
    assert not psutil.wait_procs(programs(process), timeout=PATIENCE)[1]


def test_refused_with_a_wrong_host(browser, served):
    process, link = served
    browser.driver.get(link.replace("127.0.0.1", "rebound.example"))
    assert browser.text.startswith("Refused: this is 127.0.0.1")
    assert "rebound.example" in browser.text
    browser.driver.get(link)
    browser.shows("Next token")
    assert len(programs(process)) == 1


CONNECTS = """
const [address, done] = arguments;
const socket = new WebSocket(address);
socket.onopen = () => done("open");
socket.onerror = () => done("refused");
"""


@pytest.fixture
def elsewhere(tmp_path):
    """The origin of a server of somebody else's, on another port of this machine."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "index.html").write_text("<title>elsewhere</title>")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_refused_with_a_wrong_origin(browser, served, elsewhere):
    """The hardest case: a page on the same address, to which the browser gives our cookie."""
    process, link = served
    origin = link.partition("/?")[0]
    browser.driver.get(link)
    browser.shows("Next token")
    address = f"{origin.replace('http', 'ws')}/ws?width=80&height=24"
    assert browser.driver.execute_async_script(CONNECTS, address) == "open"
    browser.driver.get(elsewhere)
    assert browser.driver.title == "elsewhere"
    assert any(one["name"].startswith("llmscope-") for one in browser.driver.get_cookies())
    assert not psutil.wait_procs(programs(process), timeout=PATIENCE)[1]
    assert browser.driver.execute_async_script(CONNECTS, address) == "refused"
    assert programs(process) == []
