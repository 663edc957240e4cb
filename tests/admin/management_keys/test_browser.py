"""A management key in a real browser: made with what it is for, used once, and ended."""

from __future__ import annotations

import httpx
from selenium.webdriver.common.by import By

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up


def test_a_key_from_first_to_last(browser: Browser, up: Up) -> None:
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Management keys").click()
    wait_for_heading(browser, "Management keys")
    browser.inspect("management-keys-none")
    driver.find_element(By.LINK_TEXT, "Make the first one").click()
    wait_for_heading(browser, "New management key")
    for scope in ("keys:read", "organization:read"):
        driver.find_element(By.NAME, scope).click()
    browser.inspect("new-management-key")
    fill(browser, name="Nightly budgets")
    wait_for_heading(browser, "Your new management key")
    browser.inspect("management-key-once")
    token, snippet = (code.text for code in driver.find_elements(By.CSS_SELECTOR, "main pre code"))
    url = snippet.split()[1]
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert (answer.status_code, answer.json()["name"]) == (200, "My organization")
    driver.find_element(By.LINK_TEXT, "I have kept it").click()
    wait_for_heading(browser, "Management keys")
    browser.inspect("management-keys")
    press(browser, "Revoke Nightly budgets")
    wait_for_text(browser, "The key was revoked")
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 401
