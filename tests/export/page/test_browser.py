"""The page in a real browser: exact values on hover, keys, and nothing from elsewhere."""

import http.server
import json
import socket
import threading

import numpy as np
import pytest

import llmscope
from llmscope.export import render
from llmscope.figure import Axis, Figure, Focus
from tests.export.page.conftest import HOSTILE, TOKENS, array, attention, every_kind
from tests.export.page.reading import Section, drawn_values, opened, place, sections

pytestmark = pytest.mark.slow
HOME, END, LEFT, UP, RIGHT, DOWN, TAB = (
    *("\ue011", "\ue010", "\ue012", "\ue013", "\ue014", "\ue015", "\ue004"),
)
KINDS = [figure.title for figure in every_kind()]


def shown(browser, folder, figures, **more):
    """Figures on a page that is opened from a file."""
    path = folder / "page.html"
    path.write_text(render(figures, "html", **more))
    browser.driver.get("about:blank")
    browser.listen()
    browser.asked.clear()  # what the browser's own first page asked for
    return opened(browser, path.as_uri())


def test_every_value_is_drawn_and_nothing_is_asked_for(browser, tmp_path):
    figures = every_kind()
    about = {"prompt": HOSTILE[0], "provenance": {"command": HOSTILE[1]}}
    shown(browser, tmp_path, figures, about=about)
    for figure, section in zip(figures, sections(browser), strict=True):
        if figure.verdict.status == "refused":
            assert section.cells is None
            assert "it is refused: <img src=x" in section.of("return it.textContent")
        else:
            assert section.cells == drawn_values(figure), figure.title
    text = browser.text
    for said in ("it is doubtful after layer 1", "a remark", "1 of the values", "entropy 0.5"):
        assert said in text, said
    assert "<script>window.pwned" in text
    assert browser.script("return window.pwned ?? null") is None
    assert browser.script("return document.querySelectorAll('img, iframe, link').length") == 0
    assert browser.script("return document.querySelectorAll('[style*=url]').length") == 0
    browser.listen()
    assert browser.asked == [(tmp_path / "page.html").as_uri()]
    assert browser.faults == []


def test_hover_tells_the_very_value(browser, tmp_path):
    figures = every_kind()
    shown(browser, tmp_path, figures)
    words, signs, pattern = (Section(browser, KINDS.index(one)) for one in KINDS[1:4])
    chances = figures[1].values
    for row, column in ((0, 0), (3, 4), (1, 2)):
        words.hover(row, column)
        assert words.value() == chances[row, column]
        label = figures[1].axes[0].labels[row]
        assert f"probability · layer {label} · position" in words.readout
        assert f"({column})" in words.readout
    words.hover(3, 1)
    assert "‹·capital› (1)" in words.readout
    signs.focus()
    browser.types(DOWN)  # so that a row and a column are selected
    signs.hover(3, 0)
    pattern.hover(4, 1)
    assert pattern.value() == figures[3].values[0, 4, 1]
    pattern.hover(1, 4)
    assert pattern.readout.startswith("no value · head 0 · query ‹·capital› (1)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1e-30, 3.4e38, 16777217.0])
def test_unusual_numbers_are_told_as_they_are(browser, tmp_path, bad):
    axes = (Axis("layer", ("0", "1")), Axis("position", ("a", "b")))
    figure = Figure("any", "Any", "heatmap", axes, array([[bad, 1], [2, 3]]), "x")
    shown(browser, tmp_path, [figure], focus=Focus(layer=0, position=0))
    section = sections(browser)[0]
    if np.isnan(bad):
        assert section.readout.startswith("no value")
    elif np.isinf(bad):
        assert section.readout.startswith("∞ x")
    else:
        assert section.value() == np.float32(bad)


def test_keys_move_one_cursor_through_all_figures(browser, tmp_path):
    figures = every_kind()
    shown(browser, tmp_path, figures)
    tokens, words, _, pattern, neurons = sections(browser)[:5]
    assert place(browser) == 4
    assert tokens.readout.startswith("0.9 bits · position ‹·is› (4)")
    browser.types(LEFT)
    assert place(browser) == 3
    assert tokens.readout.startswith("4 bits · position ‹·France› (3)")
    assert tokens.cursor.startswith("at ‹·France› (3): 4 bits")
    assert pattern.cursor.startswith("at ‹·France› (3): ")
    strongest = int(np.nanargmax(figures[3].values[0, 3]))
    word = ("The", "·capital", "·of", "·France")[strongest]
    assert pattern.cursor.split(": ")[1].startswith(f"‹{word}› ")
    words.focus()
    before = words.readout
    browser.types(UP, UP, DOWN)
    assert words.readout != before
    labels = figures[1].axes[0].labels
    row = next(row for row, label in enumerate(labels) if f"layer {label} " in words.readout)
    assert words.value() == figures[1].values[row, 3]
    browser.types(UP)
    assert words.value() == figures[1].values[row - 1, 3]
    browser.types(HOME)
    assert place(browser) == 0
    assert words.value() == figures[1].values[row - 1, 0]
    browser.types(END, LEFT, LEFT, RIGHT)
    assert place(browser) == 3
    neurons.focus()
    browser.types(DOWN)
    assert neurons.value() == figures[4].values[3, 0]
    pattern.focus()
    cells = pattern.of("return it.querySelector('.cells canvas').toDataURL()")
    browser.types("]")
    assert pattern.of("return it.querySelector('select').value") == "1"
    assert pattern.of("return it.querySelector('.cells canvas').toDataURL()") != cells
    pressed = "return [...it.querySelectorAll('.tile')].map((one) => one.ariaPressed)"
    assert pattern.of(pressed) == ["false", "true", "false"]
    assert pattern.hover(2, 2).value() == figures[3].values[1, 2, 2]
    browser.types("[")
    assert pattern.of("return it.querySelector('select').value") == "0"


def test_tab_reaches_each_figure_and_shows_where_it_is(browser, tmp_path):
    shown(browser, tmp_path, [every_kind()[0], every_kind()[5]])
    seen = []
    for _ in range(3):
        browser.types(TAB)
        seen.append(browser.script("return document.activeElement.className"))
        assert browser.script("return getComputedStyle(document.activeElement).outlineStyle") == (
            "solid"
        )
    assert seen == ["prompt", "drawing", "drawing"]
    assert browser.script("return document.activeElement.ariaLabel").startswith("Next token. ")


def test_a_click_moves_the_cursor_and_nothing_jumps(browser, tmp_path):
    figures = every_kind()
    shown(browser, tmp_path, figures)
    words = Section(browser, 1)
    tops = "return [...document.querySelectorAll('.figure')].map((one) => one.offsetTop)"
    before = browser.script(tops)
    words.hover(2, 1)
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser.driver).click().perform()
    assert place(browser) == 1
    assert words.value() == figures[1].values[2, 1]
    assert browser.script(tops) == before


def test_what_is_injected_does_not_run(browser, tmp_path):
    shown(browser, tmp_path, [attention()])
    assert browser.faults == []
    reached = socket.create_server(("127.0.0.1", 0))
    reached.settimeout(0.5)
    port = reached.getsockname()[1]
    browser.script(
        "const script = document.createElement('script');"
        "script.textContent = 'window.pwned = 1'; document.body.append(script);"
        "const image = document.createElement('img'); image.src = arguments[0];"
        "document.body.append(image);"
        "const line = document.createElement('p');"
        "line.setAttribute('onclick', 'window.pwned = 2');"
        "document.body.append(line); line.click();",
        f"http://127.0.0.1:{port}/x",
    )
    assert browser.script("return window.pwned ?? null") is None
    faults = browser.faults
    assert len(faults) == 3
    assert all("Content Security Policy" in one for one in faults)
    with reached, pytest.raises(TimeoutError):
        reached.accept()


def test_without_scripts_it_shows_the_picture(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render(every_kind(), "html"))
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.driver.get(path.as_uri())
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "surprisal" in browser.text
    assert browser.script("return document.querySelector('noscript svg').clientWidth") > 500
    assert browser.script("return document.querySelector('#llmscope-page').childElementCount") == 0


def test_what_is_too_large_to_draw_is_shown_as_the_picture(browser, tmp_path):
    long = Axis("position", tuple(map(str, range(8_193))))
    figure = Figure("any", "Any", "bars", (long,), np.zeros(len(long), np.float32), "x")
    shown(browser, tmp_path, [attention(), figure], size=(80, 12))
    assert "too large to be drawn here (position 8,193): see the picture below" in browser.text
    assert browser.script("return document.querySelector('.picture svg').clientWidth") > 500
    assert browser.faults == []


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_page(browser, tmp_path, width):
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    shown(browser, tmp_path, every_kind())
    found = browser.script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert found[0] == found[1] >= width - 20


WIDGET = """<!DOCTYPE html><title>notebook</title><div id="out"></div><script type="module">
import widget from "./widget.js";
const state = JSON.parse(await (await fetch("./state.json")).text()), handlers = [];
window.saved = [];
const model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; },
  save_changes: () => window.saved.push(state.cursor),
  on: (name, handler) => handlers.push(handler),
  off: () => {},
};
window.from_python = (cursor) => { state.cursor = cursor; handlers.forEach((one) => one()); };
await widget.render({ model, el: document.getElementById("out") });
document.body.dataset.ready = "true";
</script>"""


@pytest.fixture
def notebook(tmp_path):
    """The address of a page that holds a widget, as a notebook does."""
    pytest.importorskip("anywidget")
    widget = llmscope.widget([every_kind()[1], attention()])
    state = {"data": widget.data, "cursor": widget.cursor}
    files = {
        "/": ("text/html", WIDGET),
        "/widget.js": ("text/javascript", widget.get_state()["_esm"]),
        "/state.json": ("application/json", json.dumps(state)),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, text = files.get(self.path, ("text/plain", ""))
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_widget_shares_its_cursor_with_the_program(browser, notebook):
    import time

    browser.driver.get(notebook)
    until = time.monotonic() + 60
    while not browser.script("return document.body.dataset.ready ?? ''"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert place(browser) == 4
    words = Section(browser, 0).focus()
    browser.types(LEFT)
    assert (place(browser), browser.script("return window.saved")) == (3, [3])
    browser.script("window.from_python(1)")
    assert place(browser) == 1
    assert words.value() == every_kind()[1].values[-1, 1] or "hover" in words.readout
    browser.types(RIGHT)
    assert browser.script("return window.saved.at(-1)") == 2
    assert len(TOKENS) == 5
    assert browser.faults == []
