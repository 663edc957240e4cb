"""Reports come in, get a reference, and reach those who look after them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storage.abuse_reports import REPORT_CHARS_MAX, select_reports
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import running_admin
from tests.admin.mailbox import letters, mails

GIVEN = {"category": "spam", "report": "<b>they</b> send\nspam", "email": "Eve@example.com"}


@pytest.fixture
async def reporter(database_url: str) -> AsyncIterator[Visitor]:
    async with running_admin(database_url, abuse_email="abuse@example.com") as url, Visitor(url) as visitor:
        yield visitor


async def test_a_report_is_kept_mailed_and_answered(reporter: Visitor, admin_db: Database) -> None:
    answer = await reporter.submit("/abuse", GIVEN)
    [report] = await select_reports(admin_db)
    assert report.reference in answer.text
    assert (report.category, report.report, report.email) == ("spam", GIVEN["report"], "eve@example.com")
    assert (report.address, report.closed_at) == ("127.0.0.1", None)
    [letter] = await mails(admin_db)
    assert (letter.recipient, letter.subject) == ("abuse@example.com", f"Abuse report {report.reference}")
    assert "> spam" in letter.text


async def test_without_anybody_to_mail_it_is_kept(visitor: Visitor, admin_db: Database) -> None:
    assert "reference" in (await visitor.submit("/abuse", GIVEN | {"email": ""})).text
    assert len(await select_reports(admin_db)) == 1
    assert await letters(admin_db) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"category": "x"}, "Choose what it is about"),
        ({"report": ""}, "A report has 1 to"),
        ({"report": "x" * (REPORT_CHARS_MAX + 1)}, "A report has 1 to"),
        ({"email": "nobody"}, "not an email address"),
    ],
)
async def test_what_is_no_report(
    visitor: Visitor, admin_db: Database, change: dict[str, str], problem: str
) -> None:
    answer = await visitor.submit("/abuse", GIVEN | change)
    assert answer.status_code == 422
    assert problem in answer.text
    assert "&lt;b&gt;they" in answer.text or "report" in change
    assert await select_reports(admin_db) == []


async def test_reports_are_throttled(visitor: Visitor, admin_db: Database) -> None:
    codes = [(await visitor.submit("/abuse", GIVEN)).status_code for _ in range(11)]
    assert codes == [200] * 10 + [429]
    assert len(await select_reports(admin_db)) == 10
