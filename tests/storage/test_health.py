"""Samples, their sums, and what is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from storage.bridge import Database
from storage.health import (
    Sample,
    State,
    claim_round,
    insert_samples,
    select_days,
    select_months,
    select_recent,
    this_minute,
)

MINUTE = datetime(2026, 3, 31, 23, 58, tzinfo=UTC)


async def test_a_round_has_one_doer(admin_db: Database) -> None:
    claimed = []

    async def claim() -> None:
        claimed.append(await claim_round(admin_db, MINUTE))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(claim)
    assert sorted(claimed) == [False] * 4 + [True]


async def test_samples_add_up_to_days_and_months(admin_db: Database) -> None:
    states = [State.UP, State.DOWN, State.UP, State.DEGRADED]
    for number, state in enumerate(states):
        await insert_samples(admin_db, MINUTE + timedelta(minutes=number), [Sample("gateway", state, 5)])
    await insert_samples(admin_db, MINUTE, [Sample("gateway", State.DOWN)])
    days = await select_days(admin_db, MINUTE.date())
    assert [(day.day.isoformat(), day.up, day.degraded, day.down) for day in days] == [
        ("2026-03-31", 1, 0, 1),
        ("2026-04-01", 1, 1, 0),
    ]
    assert days[0].first_at == MINUTE
    months = await select_months(admin_db)
    assert [(one.month.isoformat(), one.up, one.degraded, one.down) for one in months] == [
        ("2026-04-01", 1, 1, 0),
        ("2026-03-01", 1, 0, 1),
    ]


async def test_the_newest_come_first_and_what_is_old_is_not_now(admin_db: Database) -> None:
    for number, state in enumerate((State.UP, State.DOWN)):
        await insert_samples(admin_db, MINUTE + timedelta(minutes=number), [Sample("gateway", state, number)])
    [recent] = await select_recent(admin_db, MINUTE + timedelta(minutes=2))
    assert (recent.states, recent.latency_ms) == ([State.DOWN, State.UP], 1)
    assert recent.minutes[0] == MINUTE + timedelta(minutes=1)
    [later] = await select_recent(admin_db, MINUTE + timedelta(hours=1))
    assert (later.component, later.minutes, later.states) == ("gateway", [], [])


async def test_old_samples_go_and_their_sums_stay(admin_db: Database) -> None:
    now = this_minute()
    await insert_samples(admin_db, now - timedelta(days=8), [Sample("gateway", State.UP)])
    await claim_round(admin_db, now - timedelta(days=8))
    await insert_samples(admin_db, now, [Sample("gateway", State.UP)])
    assert await admin_db.fetch_value("SELECT count(*) FROM health_samples") == 1
    assert await admin_db.fetch_value("SELECT count(*) FROM health_rounds") == 0
    assert len(await select_days(admin_db, (now - timedelta(days=9)).date())) == 2


@pytest.mark.parametrize("component", ["", "Gateway", "a b", "x" * 41])
async def test_components_have_plain_names(admin_db: Database, component: str) -> None:
    from storage.errors import CheckFailed

    with pytest.raises(CheckFailed):
        await insert_samples(admin_db, MINUTE, [Sample(component, State.UP)])
