"""A real browser, headless Chromium: what it asks for, what it complains of, and keys for it."""

import json
from shutil import which

import pytest

CHROMIUM, DRIVER = which("chromium"), which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1400,900"),
    # A foreign name that suddenly means this machine, as in DNS rebinding.
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
)


class Browser:
    """Chromium, and the addresses that its pages have asked for."""

    def __init__(self, profile):
        webdriver = pytest.importorskip("selenium.webdriver")
        from selenium.webdriver.chrome.service import Service

        if CHROMIUM is None or DRIVER is None:
            pytest.skip("there are no chromium and chromedriver here")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.asked = []

    def listen(self):
        """Take note of what has come and gone since the last time."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            self.heard(message["method"], message["params"])

    def heard(self, method, found):
        """Take note of one event."""
        if method == "Network.requestWillBeSent":
            self.asked.append(found["request"]["url"])
        if method == "Network.webSocketCreated":
            self.asked.append(found["url"])

    def types(self, *text):
        """Press keys, wherever the page lets them go."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*text).perform()

    def script(self, code, *arguments):
        """What a script on the page returns."""
        return self.driver.execute_script(code, *arguments)

    @property
    def text(self):
        """What the page says outside of its canvas."""
        return self.script("return document.body.innerText")

    @property
    def faults(self):
        """What the browser complains of; software WebGL is the test's, not the page's."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("WARNING", "SEVERE") and "WebGL" not in entry["message"]
        ]
