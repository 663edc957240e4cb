"""The staff console in a real browser, over a real `karta up`: a suspension ends what the gateway answers."""

from __future__ import annotations

import subprocess
import sys

from selenium.webdriver.common.by import By

from tests.admin.accounts.test_browser import fill
from tests.admin.browser import Browser
from tests.admin.keys.test_browser import ask
from tests.admin.mfa.test_browser import authenticator, press, wait_for_text
from tests.admin.test_browser import sign_in, wait_for_heading, wait_for_organization
from tests.karta.processes import Up, wait_until


def test_an_operator_from_first_to_last(browser: Browser, up: Up) -> None:
    driver, url = browser.driver, up.told["admin_url"]
    command = [sys.executable, "-P", "-m", "karta", "staff", "grant", up.told["owner_email"]]
    subprocess.run([*command, "--data-dir", str(up.data_dir)], check=True, timeout=60)
    with authenticator(browser):
        sign_in(browser, up, up.told["owner_password"])
        wait_for_organization(browser, "My organization")
        driver.find_element(By.LINK_TEXT, "Staff").click()
        wait_for_heading(browser, "Second factors")
        driver.find_element(By.PARTIAL_LINK_TEXT, "Add").click()
        wait_for_heading(browser, "Add a passkey")
        fill(browser, name="Virtual laptop")
        wait_for_heading(browser, "Recovery codes")
        driver.get(url + "/staff")
        wait_for_heading(browser, "Organizations")
        fill(browser, search="my org")
        wait_for_text(browser, 'value="my org"')
        browser.inspect("staff-organizations")
        driver.find_element(By.LINK_TEXT, "My organization").click()
        wait_for_heading(browser, "My organization")
        browser.inspect("staff-organization")
        assert ask(up, up.told["api_key"]) == 200
        driver.find_element(By.ID, "reason").send_keys("Too many prompts about cats.")
        press(browser, "Suspend the organization")
        wait_for_text(browser, "The organization is suspended")
        browser.inspect("staff-suspended")
        wait_for_status(up, 403)
        driver.get(url)
        wait_for_organization(browser, "My organization")
        assert "Too many prompts about cats." in driver.page_source
        browser.inspect("organization-suspended")
        driver.back()
        wait_for_heading(browser, "My organization")
        press(browser, "Lift the suspension")
        wait_for_text(browser, "The suspension is lifted")
        driver.find_element(By.LINK_TEXT, "Incidents").click()
        wait_for_heading(browser, "Incidents and maintenance")
        driver.find_element(By.ID, "title").send_keys("Cats are slow")
        driver.find_element(By.ID, "message").send_keys("We look for them.")
        press(browser, "Open it")
        wait_for_text(browser, "The incident is on the status page")
        browser.inspect("staff-incidents")
        driver.find_element(By.LINK_TEXT, "Reports").click()
        wait_for_heading(browser, "Reports of abuse")
        browser.inspect("staff-reports")
        driver.get(url + "/staff/violations")
        wait_for_heading(browser, "Broken page policy")
        browser.inspect("staff-violations")
        driver.find_element(By.LINK_TEXT, "Mail").click()
        wait_for_heading(browser, "Mail")
        browser.inspect("staff-mail")
        driver.get(url + "/status")
        wait_for_text(browser, "Cats are slow")
        browser.inspect("status-incident")
        wait_for_status(up, 200)


def wait_for_status(up: Up, status: int) -> None:
    """Gateways are told at once, but this test is not told when they know."""
    wait_until(lambda: ask(up, up.told["api_key"]) == status)
