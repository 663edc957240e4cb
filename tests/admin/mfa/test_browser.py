"""Second factors in a real browser: an app by the clock, passkeys by the browser's virtual authenticator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyotp
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up


@contextmanager
def authenticator(browser: Browser) -> Iterator[None]:
    """One that keeps passkeys and sees its user's finger."""
    options = VirtualAuthenticatorOptions()
    options.transport = VirtualAuthenticatorOptions.Transport.INTERNAL
    options.has_resident_key = True
    options.has_user_verification = True
    options.is_user_verified = True
    browser.driver.add_virtual_authenticator(options)
    try:
        yield
    finally:
        browser.driver.remove_virtual_authenticator()


def press(browser: Browser, text: str) -> None:
    browser.driver.find_element(By.XPATH, f"//main//button[starts-with(normalize-space(), '{text}')]").click()


def wait_for_text(browser: Browser, text: str) -> None:
    browser.wait_until(lambda driver: text in driver.page_source)


def test_passkeys_and_an_app_from_first_to_last(browser: Browser, up: Up) -> None:
    driver, url = browser.driver, up.told["admin_url"]
    with authenticator(browser):
        sign_in(browser, up, up.told["owner_password"])
        wait_for_organization(browser, "My organization")
        add_a_passkey(browser, url)
        sign_out(browser)
        sign_in_by_passkey_alone(browser, url)
        set_up_an_app(browser, url)
        sign_out(browser)
        # Password and passkey.
        sign_in(browser, up, up.told["owner_password"])
        wait_for_heading(browser, "One more step")
        browser.inspect("second-factor")
        press(browser, "Use a passkey")
        wait_for_organization(browser, "My organization")
        prove_by_passkey(browser, up)
    driver.get(url + "/account/factors")
    press(browser, "Remove")
    wait_for_text(browser, "It was removed")


def add_a_passkey(browser: Browser, url: str) -> None:
    browser.driver.get(url + "/account/factors")
    browser.inspect("factors-none")
    browser.driver.find_element(By.PARTIAL_LINK_TEXT, "Add").click()
    wait_for_heading(browser, "Add a passkey")
    browser.inspect("add-passkey")
    fill(browser, name="Virtual laptop")
    wait_for_heading(browser, "Recovery codes")
    wait_for_text(browser, "The passkey was added.")
    browser.inspect("recovery-codes")
    press(browser, "Make recovery codes")
    wait_for_heading(browser, "Your recovery codes")
    assert len(re.findall(r"[a-z2-7]{6}(?:-[a-z2-7]{6}){3}", browser.driver.page_source)) == 10
    browser.inspect("recovery-codes-once")
    browser.driver.find_element(By.LINK_TEXT, "I have kept them").click()
    wait_for_text(browser, "Virtual laptop")
    browser.inspect("factors-some")


def sign_in_by_passkey_alone(browser: Browser, url: str) -> None:
    browser.driver.get(url)
    browser.driver.find_element(By.LINK_TEXT, "Sign in with a passkey").click()
    wait_for_heading(browser, "Sign in with a passkey")
    browser.inspect("passkey-sign-in")
    press(browser, "Use a passkey")
    wait_for_organization(browser, "My organization")


def set_up_an_app(browser: Browser, url: str) -> None:
    browser.driver.get(url + "/account/factors")
    press(browser, "Set up")
    wait_for_heading(browser, "Set up an authenticator app")
    browser.inspect("app")
    browser.driver.find_element(By.TAG_NAME, "summary").click()
    secret = browser.driver.find_element(By.CSS_SELECTOR, "details code").text.replace(" ", "")
    browser.inspect("app-by-hand")
    fill(browser, code=pyotp.TOTP(secret).now())
    wait_for_text(browser, "Your authenticator app is set up")


def prove_by_passkey(browser: Browser, up: Up) -> None:
    """An interrupted page is opened once the proof is given."""
    driver, url = browser.driver, up.told["admin_url"]
    run_sql(up, "UPDATE sessions SET stepped_up_at = NULL")
    driver.get(url + "/account/password")
    wait_for_heading(browser, "Confirm that it is you")
    browser.inspect("prove")
    press(browser, "Use a passkey")
    wait_for_heading(browser, "Change your password")
    # An interrupted form goes on.
    driver.get(url + "/account/factors")
    run_sql(up, "UPDATE sessions SET stepped_up_at = NULL")
    press(browser, "Remove")
    wait_for_heading(browser, "Confirm that it is you")
    press(browser, "Use a passkey")
    wait_for_text(browser, "It was removed")


def run_sql(up: Up, sql: str) -> None:
    import trio

    from storage.bridge import open_database

    async def run() -> None:
        async with open_database(up.told["database_url"], role=None) as db:
            await db.execute(sql)

    trio.run(run)


def sign_out(browser: Browser) -> None:
    browser.driver.find_element(By.XPATH, "//button[text()='Sign out']").click()
    wait_for_heading(browser, "Sign in")


def test_a_browser_without_passkeys_is_told(browser: Browser, up: Up) -> None:
    browser.driver.get(up.told["admin_url"] + "/sign-in/passkey")
    browser.driver.execute_script("delete window.PublicKeyCredential")
    press(browser, "Use a passkey")
    wait_for_text(browser, "This browser knows no passkeys")
