"""An organization in a real browser: made, peopled by an invitation, and ended."""

from __future__ import annotations

from selenium.webdriver.common.by import By

from tests.admin.accounts.test_browser import PASSWORD, fill, follow_newest_link
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, sign_out, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading
from tests.karta.processes import Up


def test_an_organization_from_first_to_last(browser: Browser, up: Up) -> None:
    driver, url = browser.driver, up.told["admin_url"]
    sign_in(browser, up, up.told["owner_password"])
    wait_for_text(browser, "My organization")
    driver.get(url + "/organizations/new")
    browser.inspect("new-organization")
    fill(browser, name="Analytical Engines & a rather long name that does not fit into one line")
    wait_for_text(browser, "Analytical Engines")
    driver.find_element(By.LINK_TEXT, "Members").click()
    wait_for_heading(browser, "Members")
    driver.find_element(By.ID, "email").send_keys("babbage@example.com")
    press(browser, "Send the invitation")
    wait_for_text(browser, "The invitation is on its way")
    browser.inspect("members")
    driver.find_element(By.LINK_TEXT, "Settings").click()
    wait_for_heading(browser, "Settings")
    browser.inspect("settings")
    driver.find_element(By.LINK_TEXT, "Delete it").click()
    browser.inspect("delete-organization")
    fill(browser, name=driver.find_element(By.ID, "name-hint").text)
    wait_for_text(browser, "This organization is suspended")
    browser.inspect("organization-ending")
    press(browser, "Keep it")
    wait_for_text(browser, "The organization is kept")
    driver.find_element(By.CSS_SELECTOR, ".switch summary").click()
    browser.inspect("switch")
    sign_out(browser)
    follow_newest_link(browser, up)
    browser.inspect("invitation")
    fill(browser, password=PASSWORD)
    wait_for_text(browser, "No keys yet")
    driver.find_element(By.LINK_TEXT, "Members").click()
    wait_for_heading(browser, "Members")
    press(browser, "Leave")
    wait_for_heading(browser, "No organization yet")
    browser.inspect("no-organization")
