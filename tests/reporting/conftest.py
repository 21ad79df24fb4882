"""A fit of node operators, verified at several leads, and a headless Chromium where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import koopscope
from koopscope.simulation import linear_run


@pytest.fixture(scope="session")
def fitted():
    return koopscope.fit(linear_run(), "node", t2=600, lag=10)


@pytest.fixture(scope="session")
def verification(fitted):
    return koopscope.verify(fitted, linear_run(), [50, 100, 200])


@pytest.fixture(scope="session")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with chromedriver here; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()


class Page:
    """A page open in the browser, and what the browser said about it."""

    def __init__(self, browser, path: Path):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        for kind in ("browser", "performance"):
            browser.get_log(kind)  # forget what earlier pages left
        browser.get(path.as_uri())
        idle = "return Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle"
        WebDriverWait(browser, 30).until(lambda _: self.run(idle))

    def run(self, script):
        """Evaluate JavaScript in the page."""
        return self.browser.execute_script(script)

    def problems(self):
        """Everything the console holds beyond Bokeh's greetings."""
        return [entry for entry in self.browser.get_log("browser") if entry["level"] != "INFO"]


@pytest.fixture
def opened(browser):
    return lambda path: Page(browser, path)
