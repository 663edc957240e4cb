"""A real browser without a screen: Debian's Chromium, driven by its own chromedriver."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
)
AXE = Path(__file__).parent / "axe" / "axe.min.js"
_OF_COLOURS = ["color-contrast", "link-in-text-block"]
DESKTOP = (1280, 900)
PHONE = (390, 844)
SETTLE_SECONDS_MAX = 10
PATIENCE_SECONDS = 20


class Browser:
    """What tests do with it, and how it may look."""

    def __init__(self, driver: Chrome, screenshots: Path | None) -> None:
        self.driver = driver
        self._screenshots = screenshots

    def look(self, *, dark: bool = False, size: tuple[int, int] = DESKTOP) -> None:
        """Theme and size from now on."""
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # Colours between two themes are nobody's.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._devtools("Emulation.setEmulatedMedia", features=[theme, still])
        width, height = size
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )

    def wait_until(self, condition: Callable[[Any], Any]) -> Any:
        """What `condition` gives of the driver, once it is something.

        An element of the page before, that goes while it is looked at, is told of in more ways than one
        ("node does not belong to the document"): what a driver says of a page that changes is no answer.
        """
        wait = WebDriverWait(self.driver, PATIENCE_SECONDS, ignored_exceptions=[WebDriverException])
        return wait.until(condition)

    def disable_scripts(self) -> None:
        self._devtools("Emulation.setScriptExecutionDisabled", value=True)

    def enable_scripts(self) -> None:
        self._devtools("Emulation.setScriptExecutionDisabled", value=False)

    def photograph(self, name: str) -> None:
        """The whole page as PNG, where KARTA_TEST_SCREENSHOTS says; without it nobody would see it."""
        if self._screenshots is not None:
            taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            (self._screenshots / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def fits(self) -> bool:
        """Nothing of the page is to be had by scrolling sideways: at once, or when what scripts draw has
        followed a new size."""
        script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        try:
            WebDriverWait(self.driver, SETTLE_SECONDS_MAX, 0.05).until(lambda it: it.execute_script(script))
        except TimeoutException:
            return False
        return True

    def violations(self, *, of_colours: bool = False) -> list[str]:
        """What axe-core finds wrong with this page for people who cannot see it well, or use no mouse; or of
        that only what hangs on its colours."""
        if not self.driver.execute_script("return 'axe' in window"):
            self.driver.execute_script(AXE.read_text())
        found = self.driver.execute_async_script(
            "const [options, done] = arguments;"
            "axe.run(document, options).then(result => done(result.violations))",
            {"resultTypes": ["violations"], **({"runOnly": _OF_COLOURS} if of_colours else {})},
        )
        return [
            f"{violation['id']}: {node['target']}: {node['failureSummary']}"
            for violation in found
            for node in violation["nodes"]
        ]

    def inspect(self, name: str) -> None:
        """Looks at the present page in both themes and sizes: it fits, and axe-core finds nothing. A theme is
        colours and nothing else."""
        for size, told in ((DESKTOP, "desktop"), (PHONE, "phone")):
            for dark in (False, True):
                self.look(dark=dark, size=size)
                self.photograph(f"{name}-{told}-{'dark' if dark else 'light'}")
                assert self.fits(), (name, told)
                found = self.violations(of_colours=dark)
                assert found == [], (name, told, dark, found)
        self.look()

    def complaints(self) -> list[str]:
        """What the console said since the last time: violations of the policy, and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def _devtools(self, command: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(command, arguments)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Skips the test where there is no Chromium."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium: apt-get install -y chromium chromium-driver")
    screenshots = None
    if chosen := os.environ.get("KARTA_TEST_SCREENSHOTS"):
        screenshots = Path(chosen)
        screenshots.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        chrome.set_page_load_timeout(30)
        yield Browser(chrome, screenshots)
    finally:
        chrome.quit()
