"""A webhook endpoint in a real browser: made, tried, looked at, rotated, switched off and deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import PATIENCE_SECONDS, sign_in, wait_for_heading, wait_for_organization
from tests.admin.webhooks.arena import NETWORKS
from tests.karta.processes import Up, free_port


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that may call this machine, where nobody listens."""
    environment = {"KARTA_WEBHOOKS_ALLOWED_NETWORKS": NETWORKS}
    with Up(tmp_path_factory.mktemp("webhooks") / "data", environment=environment) as running:
        running.wait_ready()
        yield running


def test_an_endpoint_from_first_to_last(browser: Browser, up: Up) -> None:
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Webhooks").click()
    wait_for_heading(browser, "Webhooks")
    driver.find_element(By.LINK_TEXT, "Make the first one").click()
    wait_for_heading(browser, "New webhook endpoint")
    browser.inspect("new-webhook")
    browser.disable_scripts()
    driver.find_element(By.NAME, "budget.threshold_reached").click()
    fill(browser, url=f"https://localhost:{free_port()}/karta", description="Billing")
    wait_for_heading(browser, "signing secret")
    assert driver.find_element(By.CSS_SELECTOR, "main pre code").text.startswith("whsec_")
    driver.find_element(By.LINK_TEXT, "I have kept it").click()
    wait_for_heading(browser, "Billing")
    press(browser, "Send a test event")
    wait_for_text(browser, "A test event is on its way")

    def has_tried(_: object) -> bool:
        driver.refresh()
        found = driver.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(4)")
        return bool(found) and found[0].text == "1 try"

    WebDriverWait(driver, PATIENCE_SECONDS).until(has_tried)
    browser.enable_scripts()
    driver.refresh()
    browser.inspect("webhook")
    driver.find_element(By.LINK_TEXT, "webhook.test").click()
    wait_for_heading(browser, "webhook.test")
    wait_for_text(browser, "nothing took the connection")
    driver.find_element(By.CSS_SELECTOR, "section details summary").click()
    browser.inspect("webhook-message")
    driver.find_element(By.LINK_TEXT, "Billing").click()
    wait_for_heading(browser, "Billing")
    driver.find_element(By.LINK_TEXT, "Rotate").click()
    wait_for_heading(browser, "Rotate the signing secret")
    press(browser, "Make a new secret")
    wait_for_heading(browser, "signing secret")
    driver.find_element(By.LINK_TEXT, "I have kept it").click()
    wait_for_heading(browser, "Billing")
    press(browser, "Switch off")
    wait_for_text(browser, "This endpoint is off")
    press(browser, "Delete")
    wait_for_text(browser, "The endpoint was deleted")
