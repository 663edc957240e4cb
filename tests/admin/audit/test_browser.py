"""The audit log in a real browser."""

from __future__ import annotations

import subprocess
import sys

from selenium.webdriver.common.by import By

from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading
from tests.karta.processes import Up


def test_the_log_is_read_searched_and_proved(browser: Browser, up: Up) -> None:
    driver = browser.driver
    where = ("--org", up.told["org_id"], "--database-url", up.told["database_url"])
    for change in (("org", "set-server-timing", "on"), ("budget", "set", "--usd", "5", "--period", "month")):
        subprocess.run(
            [sys.executable, "-P", "-m", "karta", *change, *where], check=True, capture_output=True
        )
    sign_in(browser, up, up.told["owner_password"])
    wait_for_text(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Audit log").click()
    wait_for_heading(browser, "Audit log")
    wait_for_text(browser, "api_key:minted")
    browser.inspect("audit")
    # All columns are seen at once, on lines that are no pillars of letters.
    wider = "return document.querySelector('.log').scrollWidth > document.querySelector('.log').clientWidth"
    assert not driver.execute_script(wider)
    narrowest = (
        "return Math.min(...Array.from(document.querySelectorAll('.log thead th'), th => th.clientWidth))"
    )
    assert driver.execute_script(narrowest) > 120
    driver.find_element(By.ID, "text").send_keys("nobody did this")
    press(browser, "Search")
    wait_for_text(browser, "No row matches")
    browser.inspect("audit-nothing")
    driver.find_element(By.LINK_TEXT, "Prove it").click()
    wait_for_heading(browser, "Proof of the audit log")
    press(browser, "Check it now")
    wait_for_text(browser, "Intact:")
    browser.inspect("audit-proof")
