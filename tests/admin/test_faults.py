"""What a fault on the pages is told with, by who asked. That it arrives, tests/karta/test_sentry.py tries."""

from __future__ import annotations

from typing import Any

import pytest

from admin import faults
from admin.usage import views
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin


class Told:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[tuple[str, str | None, dict[str, str]]] = []
        self.transactions: list[dict[str, Any]] = []
        monkeypatch.setattr(faults.error_reports, "report", self._take)
        monkeypatch.setattr(faults.error_reports, "send_transaction", self.transactions.append)

    def _take(self, error: BaseException, tags: dict[str, str], *, user: str | None) -> None:
        self.reports.append((type(error).__name__, user, tags))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    def fail() -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(views, "services", fail)
    return Told(monkeypatch)


async def test_it_is_told_whose_request_it_was(told: Told, database_url: str, person: Person) -> None:
    async with running_admin(database_url) as url, Visitor(url) as visitor:
        await visitor.sign_in(person.email, person.password)
        answer = await visitor.get(f"/organizations/{person.organization.org_id}/usage?token=planted")
    assert answer.status_code == 500
    ((kind, user, tags),) = told.reports
    assert (kind, user) == ("ZeroDivisionError", str(person.user.user_id))
    assert tags.pop("endpoint").startswith("usage.")
    assert tags == {"place": "karta.admin", "organization": str(person.organization.org_id), "role": "owner"}
    assert told.transactions == []


async def test_the_log_has_neither_the_address_nor_the_message(
    told: Told, visitor: Visitor, person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    await visitor.sign_in(person.email, person.password)
    await visitor.get(f"/organizations/{person.organization.org_id}/usage?token=planted")
    assert len(told.reports) == 1
    assert "GET usage.show failed: ZeroDivisionError at views.py:" in caplog.text
    assert "planted" not in caplog.text
    assert str(person.organization.org_id) not in caplog.text


async def test_what_is_expected_is_no_fault(told: Told, database_url: str, person: Person) -> None:
    async with running_admin(database_url) as url, Visitor(url) as visitor:
        assert (await visitor.get("/nothing-there")).status_code == 404
        assert (await visitor.get("/organizations")).status_code in (303, 404)
        assert (await visitor.post("/sign-in", {"email": "x"})).status_code == 403
    assert told.reports == []


async def test_a_share_of_the_times_is_told(told: Told, database_url: str, person: Person) -> None:
    async with running_admin(database_url, sentry_traces_percent=100) as url, Visitor(url) as visitor:
        assert (await visitor.get("/nothing-there?planted")).status_code == 404
        assert (await visitor.request("PLANTED", "/planted")).status_code == 403
        await visitor.get("/sign-in")
    assert [one["transaction"] for one in told.transactions] == [
        "nothing there",
        "nothing there",
        "GET accounts.show_sign_in",
    ]
    assert "planted" not in str(told.transactions).lower()
    assert told.transactions[0]["contexts"]["trace"]["status"] == "invalid_argument"
