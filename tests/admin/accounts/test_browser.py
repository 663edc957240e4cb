"""An account's journeys in a real browser: from a mail to a first page, and back in by a new password."""

from __future__ import annotations

from selenium.webdriver.common.by import By

from tests.admin.browser import Browser
from tests.admin.test_browser import wait_for_heading, wait_for_organization
from tests.karta.processes import Up

PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "another unlikely sentence"


def fill(browser: Browser, **fields: str) -> None:
    """Types into the page's form and sends it."""
    for name, text in fields.items():
        element = browser.driver.find_element(By.NAME, name)
        element.clear()
        element.send_keys(text)
    browser.driver.find_element(By.CSS_SELECTOR, "main form [type=submit]").click()


def follow_newest_link(browser: Browser, up: Up) -> None:
    browser.driver.get(up.told["admin_url"] + "/outbox")
    wait_for_heading(browser, "Outbox")
    browser.driver.find_element(By.CSS_SELECTOR, ".letter .text a").click()


def test_an_account_from_its_first_mail_to_its_end(browser: Browser, up: Up) -> None:
    driver, url = browser.driver, up.told["admin_url"]
    driver.get(url + "/sign-up")
    browser.inspect("sign-up")
    fill(browser, email="new@example.com")
    wait_for_heading(browser, "Look at your mail")
    browser.inspect("sent")
    driver.get(url + "/outbox")
    browser.inspect("outbox")
    driver.find_element(By.PARTIAL_LINK_TEXT, "As HTML").click()
    wait_for_heading(browser, "Finish signing up to Karta")
    follow_newest_link(browser, up)
    wait_for_heading(browser, "Finish signing up")
    browser.inspect("sign-up-confirm")
    fill(browser, organization="Lovelace & Co", password=PASSWORD)
    wait_for_organization(browser, "Lovelace & Co")
    driver.get(url + "/account")
    wait_for_heading(browser, "Your account")
    browser.inspect("account")
    driver.get(url + "/account/mail")
    browser.inspect("account-mail")
    driver.get(url + "/account/password")
    browser.inspect("change-password")
    driver.get(url + "/account/email")
    browser.inspect("change-email")
    fill(browser, email="newer@example.com")
    wait_for_heading(browser, "Your account")
    follow_newest_link(browser, up)
    wait_for_heading(browser, "Confirm your new address")
    browser.inspect("confirm-email")
    fill(browser)
    wait_for_heading(browser, "Your account")
    assert "newer@example.com" in driver.page_source
    driver.get(url + "/account/delete")
    browser.inspect("delete-account")


def test_a_forgotten_password(browser: Browser, up: Up) -> None:
    driver, url = browser.driver, up.told["admin_url"]
    driver.get(url + "/forgot-password")
    browser.inspect("forgot-password")
    fill(browser, email=up.told["owner_email"])
    wait_for_heading(browser, "Look at your mail")
    follow_newest_link(browser, up)
    wait_for_heading(browser, "Set a new password")
    browser.inspect("reset-password")
    fill(browser, password=NEW_PASSWORD)
    wait_for_heading(browser, "Sign in")
    driver.get(url + "/outbox")
    wait_for_heading(browser, "Outbox")
    browser.inspect("outbox")
    driver.get(url + "/reset-password")
    wait_for_heading(browser, "This link does not work")
    browser.inspect("link-spent")
    assert all("410" in complaint for complaint in browser.complaints())
    driver.get(url + "/sign-in")
    fill(browser, email=up.told["owner_email"], password=NEW_PASSWORD)
    wait_for_organization(browser, "My organization")
