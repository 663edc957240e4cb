"""The first admin page in a real browser, over a real `karta up`: what its printed owner does first."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as expect

from tests.admin.browser import Browser
from tests.karta.processes import Up


def sign_in(browser: Browser, up: Up, password: str) -> None:
    driver = browser.driver
    driver.get(up.told["admin_url"])
    driver.find_element(By.ID, "email").clear()
    driver.find_element(By.ID, "email").send_keys(up.told["owner_email"])
    driver.find_element(By.ID, "password").send_keys(password, Keys.ENTER)


def wait_for_heading(browser: Browser, text: str) -> None:
    found = expect.text_to_be_present_in_element((By.TAG_NAME, "h1"), text)
    browser.wait_until(found)


def wait_for_organization(browser: Browser, name: str) -> None:
    found = expect.text_to_be_present_in_element((By.CSS_SELECTOR, ".heading .name"), name)
    browser.wait_until(found)


def test_the_owner_signs_in_and_sees_organization_and_keys(browser: Browser, up: Up) -> None:
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    page = browser.driver.page_source
    assert "Pro plan" in page
    rows = browser.driver.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert len(rows) == 2
    shown = " ".join(row.text for row in rows)
    for key in ("api_key", "test_api_key"):
        assert up.told[key][-4:] in shown
        assert up.told[key] not in page
    assert f'base_url="{up.told["gateway_url"]}"' in page
    assert browser.driver.get_cookie("__Host-karta-session")["httpOnly"]  # type: ignore[index]
    browser.driver.find_element(By.XPATH, "//button[text()='Sign out']").click()
    wait_for_heading(browser, "Sign in")
    assert browser.driver.get_cookie("__Host-karta-session") is None


def test_a_wrong_password_is_told_and_read_out(browser: Browser, up: Up) -> None:
    sign_in(browser, up, "wrong")
    located = expect.presence_of_element_located((By.CSS_SELECTOR, "[role=alert]"))
    alert = browser.wait_until(located)
    assert "do not match" in alert.text
    password = browser.driver.find_element(By.ID, "password")
    assert password.get_attribute("value") == ""
    assert password.get_attribute("aria-describedby") == alert.get_attribute("id")
    # The browser itself notes the refusal in its console; nothing else may be there.
    assert all("422" in complaint for complaint in browser.complaints())


def test_everything_works_without_javascript(browser: Browser, up: Up) -> None:
    browser.disable_scripts()
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    browser.driver.find_element(By.XPATH, "//button[text()='Sign out']").click()
    wait_for_heading(browser, "Sign in")


def test_the_keyboard_reaches_everything_in_order(browser: Browser, up: Up) -> None:
    driver = browser.driver
    driver.get(up.told["admin_url"])
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.get_attribute("name") in ("email", "password")
    driver.execute_script("document.querySelector('.skip').focus()")
    assert driver.switch_to.active_element.is_displayed()
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.activeElement.id") == "main"


def test_snippets_can_be_copied(browser: Browser, up: Up) -> None:
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    buttons = browser.driver.find_elements(By.CSS_SELECTOR, "button.copy")
    assert len(buttons) == 2


def test_every_page_fits_in_both_themes_and_is_accessible(browser: Browser, up: Up) -> None:
    browser.driver.get(up.told["admin_url"])
    wait_for_heading(browser, "Sign in")
    browser.inspect("sign-in")
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    browser.inspect("organization")
    browser.driver.get(up.told["admin_url"] + "/nowhere")
    wait_for_heading(browser, "There is nothing here")
    browser.inspect("error")
    assert all("404" in complaint for complaint in browser.complaints())
