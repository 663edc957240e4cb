"""A webhook endpoint in a real browser: made, tried, looked at, rotated, switched off and deleted; and what
the guide tells, as its reader would do it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.admin.webhooks.arena import NETWORKS
from tests.karta.processes import Up, wait_until
from tests.support.ports import free_port

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "webhooks.md"


def block(language: str, holding: str) -> str:
    """The guide's one block that holds this."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (found,) = [text for text in blocks if holding in text]
    return str(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the certificate that the guide makes."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("receiver")
    subprocess.run(["sh", "-ec", block("sh", "openssl req")], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Up]:
    """One that may call this machine."""
    assert f"KARTA_WEBHOOKS_ALLOWED_NETWORKS={NETWORKS}\n" in block("sh", "karta up")
    environment = {
        "KARTA_WEBHOOKS_ALLOWED_NETWORKS": NETWORKS,
        "KARTA_WEBHOOKS_CA_FILE": str(folder / "receiver.pem"),
    }
    with Up(tmp_path_factory.mktemp("webhooks") / "data", environment=environment) as running:
        running.wait_ready()
        yield running


def begin_endpoint(browser: Browser, up: Up) -> None:
    """From signing in to the page of a new endpoint."""
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    browser.driver.find_element(By.LINK_TEXT, "Webhooks").click()
    wait_for_heading(browser, "Webhooks")
    browser.driver.find_element(By.LINK_TEXT, "Make the first one").click()
    wait_for_heading(browser, "New webhook endpoint")


def test_an_endpoint_from_first_to_last(browser: Browser, up: Up) -> None:
    driver = browser.driver
    begin_endpoint(browser, up)
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
        return bool(found) and found[0].text == "1"

    browser.wait_until(has_tried)
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


def test_the_receiver_of_the_guide_takes_it(browser: Browser, up: Up, folder: Path) -> None:
    driver, port = browser.driver, free_port()
    begin_endpoint(browser, up)
    driver.find_element(By.NAME, "key.minted").click()
    fill(browser, url=f"https://localhost:{port}/karta")
    wait_for_heading(browser, "signing secret")
    secret = driver.find_element(By.CSS_SELECTOR, "main pre code").text
    driver.find_element(By.LINK_TEXT, "I have kept it").click()
    wait_for_heading(browser, "localhost")
    (folder / "receiver.py").write_text(block("python", "app.run").replace("8443", str(port)))
    said = folder / "said"
    with said.open("wb") as output:
        receiver = subprocess.Popen(
            [sys.executable, "-P", "receiver.py"],
            cwd=folder,
            env={**os.environ, "KARTA_WEBHOOK_SECRET": secret},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: "Running on https" in said.read_text())
        press(browser, "Send a test event")
        wait_until(lambda: "webhook.test" in said.read_text())

        def is_delivered(_: object) -> bool:
            driver.refresh()
            return "Delivered" in driver.find_element(By.TAG_NAME, "tbody").text

        browser.wait_until(is_delivered)
    finally:
        receiver.kill()
        receiver.wait()
