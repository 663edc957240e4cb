"""Paying in a real browser, over a real `karta up` that finds Stripe at the desk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By

from admin.billing.webhook import PATH
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up
from tests.support.localstripe import API_KEY, METER, PRICE, SECRET, Desk, buy, pay, running_desk


@pytest.fixture(scope="module")
def till(localstripe: str) -> Iterator[Desk]:
    with running_desk(localstripe) as desk:
        yield desk


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, till: Desk) -> Iterator[Up]:
    environment = {
        "KARTA_STRIPE_API_KEY": API_KEY,
        "KARTA_STRIPE_WEBHOOK_SECRET": SECRET,
        "KARTA_STRIPE_API_BASE": till.origin,
        "KARTA_STRIPE_PRICE_PRO": PRICE,
        "KARTA_STRIPE_PRICE_USAGE": "price_usage",
        "KARTA_STRIPE_METER_EVENT": "karta_usage",
        "KARTA_STRIPE_METER_ID": METER,
        "KARTA_STRIPE_PAGES": till.origin,
    }
    with Up(tmp_path_factory.mktemp("payments") / "data", environment=environment) as running:
        running.wait_ready()
        yield running


def test_paying_from_first_to_last(browser: Browser, up: Up, till: Desk) -> None:
    driver, hook = browser.driver, up.told["admin_url"] + PATH
    command = [sys.executable, "-P", "-m", "karta", "org", "set-plan", "--org", up.told["org_id"], "free"]
    subprocess.run([*command, "--data-dir", str(up.data_dir)], check=True, timeout=60)
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Payments").click()
    wait_for_heading(browser, "Payments")
    browser.inspect("payments-free")
    press(browser, "Upgrade to Pro")
    # The browser holds the redirect against the page's policy; Stripe's page stands at the desk.
    wait_for_heading(browser, "Pay here")
    assert driver.current_url.startswith(f"{till.origin}/c/pay/")
    session_id = driver.current_url.rpartition("/")[2]
    driver.get(till.sessions[session_id]["success_url"])
    wait_for_heading(browser, "Waiting for Stripe")
    browser.inspect("payments-waiting")
    buy(till, session_id, hook)
    wait_for_heading(browser, "Thank you")  # by itself: nobody reloads it
    browser.photograph("payments-thanks")
    driver.find_element(By.LINK_TEXT, "Back to payments").click()
    wait_for_heading(browser, "Payments")
    wait_for_text(browser, "1 seat: active")
    browser.inspect("payments-pro")
    fill_top_up(browser, "25")
    wait_for_heading(browser, "Pay here")
    session_id = driver.current_url.rpartition("/")[2]
    pay(till, session_id, hook)
    driver.get(till.sessions[session_id]["success_url"])
    wait_for_heading(browser, "Thank you")
    wait_for_text(browser, "$25.00 were added")
    driver.find_element(By.LINK_TEXT, "Back to payments").click()
    wait_for_heading(browser, "Payments")
    press(browser, "Open Stripe")
    wait_for_heading(browser, "Pay here")
    # A renewal fails: the subscription is past due, and every page says so.
    with_late_payment(up)
    driver.get(up.told["admin_url"])
    wait_for_text(browser, "A payment did not go through")
    browser.photograph("payments-late")


def fill_top_up(browser: Browser, dollars: str) -> None:
    field = browser.driver.find_element(By.NAME, "dollars")
    field.clear()
    field.send_keys(dollars)
    press(browser, "Go to Stripe")


def with_late_payment(up: Up) -> None:
    """As `apply_subscription` leaves it; how it comes to that is tried in test_payment_events."""
    sql = "UPDATE organizations SET payment_state = 'past_due'"
    program = (
        "import sys, trio; from storage.bridge import open_database\n"
        "async def main():\n"
        "    async with open_database(sys.argv[1], role=None) as db: await db.execute(sys.argv[2])\n"
        "trio.run(main)"
    )
    command = [sys.executable, "-P", "-c", program, up.told["database_url"], sql]
    subprocess.run(command, check=True, timeout=60)
