"""Keys in a real browser: a key that was just made answers a first request; its limits, and its end; and a
provider key."""

from __future__ import annotations

from typing import Any

import httpx
from selenium.webdriver.common.by import By

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up, wait_until


def test_a_key_from_first_to_last(browser: Browser, up: Up) -> None:
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    browser.inspect("keys")
    driver.find_element(By.LINK_TEXT, "New key").click()
    wait_for_heading(browser, "New key")
    browser.inspect("new-key")
    fill(browser, name="Production web")
    wait_for_heading(browser, "Your new key")
    browser.inspect("key-once")
    token = driver.find_element(By.CSS_SELECTOR, "main pre code").text
    assert ask(up, token) == 200
    driver.find_element(By.LINK_TEXT, "Set its limits and budget").click()
    wait_for_heading(browser, "Limits and budgets")
    fill(browser, requests="60", month="25")
    wait_for_text(browser, "The limits were set")
    browser.inspect("limits")
    driver.find_element(By.LINK_TEXT, "Production web").click()
    wait_for_heading(browser, "Production web")
    browser.inspect("key")
    driver.find_element(By.PARTIAL_LINK_TEXT, "may be used for").click()
    wait_for_heading(browser, "What it may be used for")
    browser.inspect("scope")
    fill(browser, networks="127.0.0.0/8")
    wait_for_text(browser, "Gateways keep to it")
    wait_for_usage(browser)
    browser.inspect("usage")
    driver.find_element(By.LINK_TEXT, "All, live, and by id").click()
    wait_for_heading(browser, "Requests")
    browser.inspect("requests")
    driver.find_element(By.CSS_SELECTOR, "tbody a").click()
    wait_for_text(browser, "What it used")
    browser.inspect("request")
    request_id = driver.find_element(By.CSS_SELECTOR, "dd code").text
    driver.find_element(By.LINK_TEXT, "Requests").click()
    fill(browser, id=request_id)
    wait_for_text(browser, "What it used")
    driver.find_element(By.LINK_TEXT, "API keys").click()
    driver.find_element(By.LINK_TEXT, "Production web").click()
    driver.find_element(By.PARTIAL_LINK_TEXT, "Rotate").click()
    wait_for_heading(browser, "Rotate")
    browser.inspect("rotate-key")
    driver.back()
    wait_for_heading(browser, "Production web")
    press(browser, "Revoke")
    wait_for_text(browser, "The key was revoked")
    # Gateways are told at once, but this test is not told when they know.
    wait_until(lambda: ask(up, token) == 401)


def wait_for_usage(browser: Browser) -> None:
    """The gateway ships what it metered within seconds."""
    browser.driver.find_element(By.LINK_TEXT, "Usage").click()

    def is_there(driver: Any) -> bool:
        driver.refresh()
        return "Newest requests" in driver.page_source

    browser.wait_until(is_there)


def test_first_steps_and_a_first_request_seen_live(browser: Browser, up: Up) -> None:
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.get(up.told["admin_url"] + "/organizations/new")
    fill(browser, name="Newcomers")
    wait_for_text(browser, "No keys yet")
    browser.inspect("first-steps")
    here = driver.current_url
    driver.find_element(By.LINK_TEXT, "Make the first one").click()
    fill(browser, name="First")
    wait_for_heading(browser, "Your new key")
    token = driver.find_element(By.CSS_SELECTOR, "main pre code").text
    driver.get(here)
    assert len(driver.find_elements(By.CSS_SELECTOR, ".first-steps .taken")) == 2
    assert ask(up, token, stream=True) == 200
    # Nobody touches the page: it follows by itself.
    wait_for_text(browser, "It has arrived")
    assert "streamed, first byte after" in driver.page_source
    browser.inspect("first-request")
    driver.find_element(By.LINK_TEXT, "Look at it").click()
    wait_for_text(browser, "What it used")


def ask(up: Up, token: str, *, stream: bool = False) -> int:
    """The status of a small request."""
    answer = httpx.post(
        f"{up.told['gateway_url']}/v1/messages",
        headers={"x-api-key": token, "anthropic-version": "2023-06-01"},
        json={
            "model": "claude-sonnet-5-5",
            "max_tokens": 8,
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": stream,
        },
        timeout=30,
        trust_env=False,
    )
    return answer.status_code


def test_a_provider_key_from_first_to_last(browser: Browser, up: Up) -> None:
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Provider keys").click()
    wait_for_heading(browser, "Provider keys")
    browser.inspect("provider-keys-none")
    driver.find_element(By.LINK_TEXT, "Add a key").click()
    wait_for_heading(browser, "Add a provider key")
    browser.inspect("add-provider-key")
    fill(browser, secret="sk-ant-api03-0123456789-wxyz")
    wait_for_text(browser, "The provider took the key")
    assert "wxyz" in driver.page_source
    browser.inspect("provider-keys")
    driver.find_element(By.PARTIAL_LINK_TEXT, "Rotate").click()
    wait_for_heading(browser, "Rotate the key")
    browser.inspect("rotate-provider-key")
    fill(browser, secret="sk-ant-api03-9876543210-abcd")
    wait_for_text(browser, "the old one was destroyed")
    press(browser, "Revoke")
    wait_for_text(browser, "revoked and destroyed")
