"""Plan and statement in a real browser: in both themes and sizes, and on to a smaller plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from selenium.webdriver.common.by import By

from storage.bridge import open_database
from storage.usage_charges import charge_usage, turn_month
from tests.admin.browser import Browser
from tests.admin.mfa.test_browser import press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up
from tests.storage.ledger_posts import top_up
from tests.storage.usage_records import insert_usage, usage
from tests.support.postgres import run_in_own_trio

DOLLAR = 10**12


async def use(url: str, org_id: UUID) -> None:
    now = datetime.now(UTC)
    rows = [
        usage(
            org_id=org_id,
            started_at=now - timedelta(hours=3 + 5 * number),
            credential_kind="platform",
            charged_picodollars=DOLLAR + number * 10**10,
        )
        for number in range(8)
    ]
    async with open_database(url, role="karta_gateway") as db:
        await insert_usage(db, rows)
    async with open_database(url, role="karta_admin") as db:
        await turn_month(db)
        async with db.transaction() as tx:
            await top_up(tx, org_id, 50 * DOLLAR, "stripe:evt_1", note="Visa")
        await charge_usage(db)


def test_plan_and_statement(browser: Browser, up: Up) -> None:
    run_in_own_trio(use, up.told["database_url"], UUID(up.told["org_id"]))
    driver = browser.driver
    sign_in(browser, up, up.told["owner_password"])
    wait_for_organization(browser, "My organization")
    driver.find_element(By.LINK_TEXT, "Plan").click()
    wait_for_heading(browser, "Pro plan")
    browser.inspect("plan")
    driver.find_element(By.LINK_TEXT, "See the statement").click()
    wait_for_heading(browser, "Statement")
    wait_for_text(browser, "Credit bought")
    browser.inspect("statement")
    driver.find_element(By.LINK_TEXT, "Plan").click()
    wait_for_heading(browser, "Pro plan")
    driver.find_element(By.LINK_TEXT, "Change to Free").click()
    wait_for_heading(browser, "Change to Free")
    browser.inspect("change-plan")
    press(browser, "Change to Free")
    wait_for_text(browser, "The plan was changed.")
    browser.inspect("free-plan")
