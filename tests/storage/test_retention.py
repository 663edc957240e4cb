"""Months that go, and sums that come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage.bridge import Database
from storage.errors import Denied, InvalidValue
from storage.model import Actor, ActorKind
from storage.retention import drop_usage, rebuild_hourly
from storage.usage_rows import insert_usage
from tests.storage.usage_records import ORG, usage

NOW = datetime.now(UTC)
ACTOR = Actor(kind=ActorKind.CLI, actor_id="tester")


async def months(db: Database) -> set[str]:
    rows = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'usage'::regclass"
    )
    return {row["name"] for row in rows}


async def test_old_months_are_dropped_whole(owner_db: Database, gateway_db: Database) -> None:
    for name, begins, ends in (
        ("usage_2020_01", "2020-01-01", "2020-02-01"),
        ("usage_2020_02", "2020-02-01", "2020-03-01"),
    ):
        await owner_db.execute(
            f"CREATE TABLE {name} PARTITION OF usage FOR VALUES FROM ('{begins} 00:00Z') TO ('{ends} 00:00Z')"
        )
    kept = [
        usage(started_at=datetime(2020, 2, 10, tzinfo=UTC)),
        usage(started_at=NOW),
        usage(started_at=NOW - timedelta(days=500)),
    ]
    gone = [
        usage(started_at=datetime(2020, 1, 31, tzinfo=UTC)),
        usage(started_at=datetime(2019, 1, 1, tzinfo=UTC)),
    ]
    await insert_usage(gateway_db, [*kept, *gone])
    days = (NOW - datetime(2020, 2, 15, tzinfo=UTC)).days
    before = await months(owner_db)
    assert await drop_usage(owner_db, ACTOR, days) == ["usage_2020_01", "rows of usage_default"]
    assert await months(owner_db) == before - {"usage_2020_01"}
    assert await drop_usage(owner_db, ACTOR, days) == []
    rows = await owner_db.fetch("SELECT request_id FROM usage")
    assert {row["request_id"].hex for row in rows} == {record.request_id for record in kept}
    assert await owner_db.fetch_value("SELECT sum(requests) FROM usage_hourly") == 5
    with pytest.raises(InvalidValue):
        await drop_usage(owner_db, ACTOR, 0)


async def test_only_the_owner_drops(admin_db: Database, gateway_db: Database) -> None:
    for db in (admin_db, gateway_db):
        with pytest.raises(Denied):
            await drop_usage(db, ACTOR, 1)
        with pytest.raises(Denied):
            await rebuild_hourly(db, ACTOR, ORG, NOW - timedelta(days=1), NOW)


async def test_sums_are_made_anew(owner_db: Database, gateway_db: Database) -> None:
    start = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
    await insert_usage(
        gateway_db,
        [
            usage(
                started_at=start + timedelta(minutes=13 * number),
                key_id=f"key{number % 3}",
                input_tokens=number,
            )
            for number in range(200)
        ],
    )
    select = "SELECT * FROM usage_hourly ORDER BY hour, key_id, model"
    right = [tuple(row.values()) for row in await owner_db.fetch(select)]  # type: ignore[attr-defined]
    await owner_db.execute(
        "UPDATE usage_hourly SET requests = 0, cost_picodollars = 7 WHERE key_id <> 'key1'"
    )
    await owner_db.execute("DELETE FROM usage_hourly WHERE hour > '2026-04-01 12:00Z'")
    assert await rebuild_hourly(owner_db, ACTOR, ORG, start, start + timedelta(days=3)) == len(right)
    assert [tuple(row.values()) for row in await owner_db.fetch(select)] == right  # type: ignore[attr-defined]

    # Sums without requests are all that is left of them.
    await owner_db.execute("DELETE FROM usage WHERE started_at < '2026-04-01 00:00Z'")
    await rebuild_hourly(owner_db, ACTOR, ORG, start, start + timedelta(days=3))
    assert [tuple(row.values()) for row in await owner_db.fetch(select)] == right  # type: ignore[attr-defined]
