"""The public pages in a real browser: they fit, and everybody can read them."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import wait_for_heading
from tests.karta.processes import Up

HEADINGS = {
    "/security": "Security",
    "/security/policy": "Disclosure policy",
    "/compliance": "Compliance",
    "/subprocessors": "Sub-processors",
    "/subprocessors/subscribe": "Be told of changes",
}


def test_the_public_pages(browser: Browser, up: Up) -> None:
    url = up.told["admin_url"]
    for path, heading in HEADINGS.items():
        browser.driver.get(url + path)
        wait_for_heading(browser, heading)
        browser.inspect(path[1:].replace("/", "-"))


def test_abuse_is_reported(browser: Browser, up: Up) -> None:
    driver = browser.driver
    driver.get(up.told["admin_url"])
    driver.find_element(By.LINK_TEXT, "Report abuse").click()
    wait_for_heading(browser, "Report abuse")
    browser.inspect("abuse")
    Select(driver.find_element(By.ID, "category")).select_by_value("other")
    driver.find_element(By.ID, "report").send_keys("Something is wrong.")
    press(browser, "Send the report")
    wait_for_text(browser, "AB-")
    browser.inspect("abuse-sent")
