"""The ledger's page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from admin.billing import statement_views
from admin.billing.statement_views import fold
from storage import ledger
from storage.bridge import Database
from storage.ledger import EntryKind, StatementLine
from storage.usage_charges import charge_usage
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person
from tests.storage.ledger_posts import top_up
from tests.storage.test_usage_charges import DOLLAR, NOON, platform
from tests.storage.usage_records import insert_usage


def line(number: int, kind: EntryKind, credit: int, hour: datetime | None = None) -> StatementLine:
    return StatementLine(
        transaction_id=number,
        created_at=NOON,
        kind=kind,
        source=str(number),
        period_start=hour,
        note="n",
        credit=credit,
        included=0,
        balance=number,
    )


def test_a_days_usage_is_one_line() -> None:
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    lines = [
        line(6, EntryKind.TOP_UP, 5),
        line(5, EntryKind.USAGE, -3, midnight + timedelta(hours=2)),
        line(4, EntryKind.USAGE, -2, midnight + timedelta(hours=1)),
        line(3, EntryKind.CORRECTION, -1, midnight),
        line(2, EntryKind.USAGE, -1, midnight - timedelta(hours=1)),
        line(1, EntryKind.GRANT, 9, midnight.replace(day=1)),
    ]
    assert [(one.what, one.note, one.amount, one.balance) for one in fold(lines)] == [
        ("Credit bought", "n", 5, 6),
        ("Usage", "10 Mar 2026, 2 hours", -5, 5),
        ("Usage, learnt of later", "10 Mar 2026, 00:00, n", -1, 3),
        ("Usage", "9 Mar 2026, 23:00, n", -1, 2),
        ("Included credit", "n", 9, 1),
    ]


async def test_it_shows_what_there_is_by_pages(
    signed_in: Visitor,
    person: Person,
    admin_db: Database,
    gateway_db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    org = person.organization
    path = f"/organizations/{org.org_id}/statement"
    assert "Nothing yet" in (await signed_in.get(path)).text
    async with admin_db.transaction() as tx:
        await top_up(tx, org.org_id, 3 * DOLLAR, "stripe:evt_1", note="<b>")
    await insert_usage(gateway_db, [platform(org, 4 * DOLLAR)])
    await charge_usage(admin_db, NOON + timedelta(hours=2))
    monkeypatch.setattr(statement_views, "LINES_MAX", 1)
    page = (await signed_in.get(path)).text
    assert "-$1.00" in page
    assert "10 Mar 2026, 12:00, 1 request" in page
    newest = (await ledger.select_statement(admin_db, org.org_id))[0].transaction_id
    assert f"before={newest}" in page
    older = (await signed_in.get(f"{path}?before={newest}")).text
    assert "Credit bought" in older
    assert "&lt;b&gt;" in older
    assert "Nothing older" in (await signed_in.get(f"{path}?before=1")).text
    assert (await signed_in.get(f"{path}?before=x")).status_code == 200
