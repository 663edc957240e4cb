"""The first admin page in a real browser, over a real `karta up`: what its printed owner does first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as expect
from selenium.webdriver.support.wait import WebDriverWait

from tests.admin.browser import DESKTOP, PHONE, Browser, open_browser
from tests.karta.processes import Up

pytestmark = pytest.mark.one_python

PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("browser") / "data") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with open_browser(tmp_path) as browser:
        yield browser
        assert browser.complaints() == []


def sign_in(browser: Browser, up: Up, password: str) -> None:
    driver = browser.driver
    driver.get(up.told["admin_url"])
    driver.find_element(By.ID, "email").clear()
    driver.find_element(By.ID, "email").send_keys(up.told["owner_email"])
    driver.find_element(By.ID, "password").send_keys(password, Keys.ENTER)


def wait_for_heading(browser: Browser, text: str) -> None:
    found = expect.text_to_be_present_in_element((By.TAG_NAME, "h1"), text)
    WebDriverWait(browser.driver, PATIENCE_SECONDS).until(found)


def test_the_owner_signs_in_and_sees_organization_and_keys(browser: Browser, up: Up) -> None:
    sign_in(browser, up, up.told["owner_password"])
    wait_for_heading(browser, "My organization")
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
    alert = WebDriverWait(browser.driver, PATIENCE_SECONDS).until(located)
    assert "do not match" in alert.text
    password = browser.driver.find_element(By.ID, "password")
    assert password.get_attribute("value") == ""
    assert password.get_attribute("aria-describedby") == alert.get_attribute("id")
    # The browser itself notes the refusal in its console; nothing else may be there.
    assert all("422" in complaint for complaint in browser.complaints())


def test_everything_works_without_javascript(browser: Browser, up: Up) -> None:
    browser.disable_scripts()
    sign_in(browser, up, up.told["owner_password"])
    wait_for_heading(browser, "My organization")
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
    wait_for_heading(browser, "My organization")
    buttons = browser.driver.find_elements(By.CSS_SELECTOR, "button.copy")
    assert len(buttons) == 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_in_both_themes(browser: Browser, up: Up, dark: bool, size: tuple[int, int]) -> None:
    browser.look(dark=dark, size=size)
    suffix = f"{'dark' if dark else 'light'}-{'phone' if size == PHONE else 'desktop'}"
    browser.driver.get(up.told["admin_url"])
    wait_for_heading(browser, "Sign in")
    browser.photograph(f"sign-in-{suffix}")
    assert not browser.scrolls_sideways()
    sign_in(browser, up, up.told["owner_password"])
    wait_for_heading(browser, "My organization")
    browser.photograph(f"organization-{suffix}")
    assert not browser.scrolls_sideways()
    browser.driver.get(up.told["admin_url"] + "/nowhere")
    wait_for_heading(browser, "There is nothing here")
    browser.photograph(f"error-{suffix}")
    assert not browser.scrolls_sideways()
    assert all("404" in complaint for complaint in browser.complaints())
