"""The status page in a real browser, over a real `karta up`."""

from __future__ import annotations

from tests.admin.browser import Browser
from tests.admin.test_browser import wait_for_heading
from tests.karta.commands.test_health import status
from tests.karta.processes import Up, wait_until


def test_the_status_pages(browser: Browser, up: Up) -> None:
    wait_until(lambda: len(status(up)["components"]) >= 3)
    driver, url = browser.driver, up.told["admin_url"]
    driver.get(url + "/status")
    wait_for_heading(browser, "Status")
    assert "Everything works" in driver.page_source
    browser.inspect("status")
    driver.get(url + "/status/history")
    wait_for_heading(browser, "Uptime history")
    browser.inspect("status-history")
