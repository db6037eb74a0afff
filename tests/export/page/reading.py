"""A page of figures in a browser: its parts by name, and what the page says of them."""

import time

import numpy as np

PATIENCE = 60


def opened(browser, address):
    """Open a page and wait until its script has drawn it."""
    browser.driver.get(address)
    until = time.monotonic() + PATIENCE
    while not (ready := browser.script(READY)):
        assert time.monotonic() < until, "it was not drawn"
        time.sleep(0.05)
    assert ready == "true", browser.text
    return browser


READY = "return document.getElementById('llmscope-page')?.dataset.ready ?? ''"


class Section:
    """A figure on the page, by its number."""

    def __init__(self, browser, number):
        self.browser, self.number = browser, number

    def of(self, code):
        """What a script says of the section, which it calls `it`."""
        find = "const it = document.querySelectorAll('.llmscope-page .figure')[arguments[0]];"
        return self.browser.script(find + code, self.number)

    @property
    def cells(self):
        """How many values are drawn; None where a message stands in place of a picture."""
        found = self.of("return it.querySelector('.drawing')?.dataset.cells ?? null")
        return None if found is None else int(found)

    @property
    def readout(self):
        return self.of("return it.querySelector('.readout').textContent")

    @property
    def cursor(self):
        return self.of("return it.querySelector('.at-cursor').textContent")

    def value(self):
        """The exact value that the readout tells, as float32."""
        return np.float32(self.of("return it.querySelector('.readout .value').textContent"))

    def focus(self):
        self.of("it.querySelector('.drawing').focus()")
        return self

    def centre(self, row, column):
        """Where a cell of a map is, from the middle of its canvas."""
        return self.of(
            "const canvas = it.querySelector('.cells canvas');"
            "canvas.scrollIntoView({ block: 'center' });"
            "const box = canvas.getBoundingClientRect();"
            "const [width, height, head] = canvas.parentElement.dataset.layout.split(' ');"
            f"return [({column} + 0.5) * width - box.width / 2,"
            f" Number(head) + ({row} + 0.5) * height - box.height / 2];"
        )

    def hover(self, row, column):
        """Move the pointer onto a cell of a map."""
        from selenium.webdriver.common.action_chains import ActionChains

        x, y = self.centre(row, column)
        canvas = self.of("return it.querySelector('.cells canvas')")
        ActionChains(self.browser.driver).move_to_element_with_offset(
            canvas, round(x), round(y)
        ).perform()
        return self


def sections(browser):
    """The figures on a page."""
    count = browser.script("return document.querySelectorAll('.llmscope-page .figure').length")
    return [Section(browser, number) for number in range(count)]


def place(browser):
    """The position of the cursor."""
    code = "return document.querySelector('.prompt').getAttribute('aria-valuenow')"
    return int(browser.script(code))


def drawn_values(figure):
    """How many values of a figure are drawn at first: those of one slice, NaN left out."""
    kept = {"heatmap": 2, "bars": 1, "tokens": 1, "lines": 2, "table": 2}[figure.kind]
    values = figure.values
    while values.ndim > kept:
        values = values[0]
    return int((~np.isnan(values)).sum())
