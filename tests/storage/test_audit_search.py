"""Looking for rows, and going through all of them, in bounded steps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage import audit_search
from storage.audit import Event, record
from storage.audit_search import Wanted, go_through, record_export, search
from storage.bridge import Database
from storage.model import Actor
from tests.storage.test_audit import ORG, append


@pytest.fixture
async def filled(admin_db: Database, actor: Actor) -> None:
    """Rows 1 to 10: mints, but for 3 and 7, which revoke `Special`."""
    for seq in range(1, 11):
        if seq in (3, 7):
            async with admin_db.transaction() as tx:
                await record(tx, actor, Event.KEY_REVOKED, ORG, "Special_100%", {"why": "Leaked"})
        else:
            await append(admin_db)


async def find(db: Database, **wanted: object) -> list[int]:
    return [row.seq for row in (await search(db, ORG, Wanted(**wanted))).rows]  # type: ignore[arg-type]


async def test_what_can_be_looked_for(filled: None, admin_db: Database) -> None:
    assert await find(admin_db) == list(range(10, 0, -1))
    assert await find(admin_db, event="api_key:revoked") == [7, 3]
    assert await find(admin_db, event="api_key") == list(range(10, 0, -1))
    assert await find(admin_db, event="api") == []
    assert await find(admin_db, event="%") == []
    for text in ("special", "LEAKED", "192.0.2.7", "req-1", "100%", "pytest"):
        assert await find(admin_db, text=text) == [7, 3], text
    assert await find(admin_db, text="_", event="api_key:revoked") == [7, 3]
    assert await find(admin_db, text="nothing\0like'it") == []
    rows = (await search(admin_db, ORG, Wanted())).rows
    moment = rows[4].created_at
    assert await find(admin_db, since=moment) == [10, 9, 8, 7, 6]
    assert await find(admin_db, until=moment) == [5, 4, 3, 2, 1]
    assert await find(admin_db, since=moment, until=moment + timedelta(microseconds=1)) == [6]


async def test_pages_follow_each_other(filled: None, admin_db: Database) -> None:
    found = await search(admin_db, ORG, Wanted(), limit=4)
    seen = [[row.seq for row in found.rows]]
    while found.before is not None:
        await append(admin_db)
        found = await search(admin_db, ORG, Wanted(), before=found.before, limit=4)
        seen.append([row.seq for row in found.rows])
    assert seen == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]


async def test_a_search_looks_at_so_many_rows_and_no_more(
    filled: None, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "SCANNED_ROWS_MAX", 3)
    wanted = Wanted(event="api_key:revoked")
    found = await search(admin_db, ORG, wanted)
    assert ([row.seq for row in found.rows], found.before) == ([], 8)
    found = await search(admin_db, ORG, wanted, before=found.before)
    assert ([row.seq for row in found.rows], found.before) == ([7], 5)


async def test_going_through_all(filled: None, admin_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_search, "BATCH_ROWS", 4)
    seen = [[row.seq for row in rows] async for rows in go_through(admin_db, ORG, Wanted(), 9)]
    assert seen == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    wanted = Wanted(text="special")
    assert [[row.seq for row in rows] async for rows in go_through(admin_db, ORG, wanted, 9)] == [[3], [7]]
    assert [rows async for rows in go_through(admin_db, None, Wanted(), 0)] == []


async def test_an_export_tells_of_itself(filled: None, admin_db: Database, actor: Actor) -> None:
    wanted = Wanted(text="special", event="api_key")
    until = await record_export(admin_db, actor, ORG, "csv", wanted)
    assert until == 11
    [row] = (await search(admin_db, ORG, Wanted(event="audit:exported"))).rows
    assert row.seq == until
    assert row.details == '{"text": "special", "event": "api_key", "format": "csv"}'
