"""Events are kept once, claimed by one, put off, given up, replayed, and let go."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial

import pytest

from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Denied, NotFound
from storage.model import Actor
from storage.stripe_events import (
    CLAIM_SECONDS,
    TRIES_MAX,
    NamedEvent,
    claim_event,
    clear_events,
    count_stuck,
    finish_event,
    put_off,
    replay_event,
    select_events,
    store_event,
)
from storage.stripe_objects import ObjectKind
from tests.storage.explaining import explain

HAPPENED = datetime(2026, 11, 26, tzinfo=UTC)


def named(event_id: str = "evt_1", object_id: str = "in_1") -> NamedEvent:
    return NamedEvent(
        event_id=event_id,
        kind="invoice.paid",
        object_kind=ObjectKind.INVOICE,
        object_id=object_id,
        happened_at=HAPPENED,
    )


async def test_an_event_is_kept_and_claimed_once(admin_db: Database) -> None:
    assert await store_event(admin_db, named())
    assert not await store_event(admin_db, named())
    claimed = await claim_event(admin_db)
    assert claimed is not None
    assert (claimed.object_id, claimed.tries, claimed.happened_at) == ("in_1", 1, HAPPENED)
    assert await claim_event(admin_db) is None
    # Whoever claimed it has died, and its time is over.
    await admin_db.execute("UPDATE stripe_events SET try_after = now()")
    again = await claim_event(admin_db)
    assert again is not None
    assert again.tries == 2
    assert (again.try_after - again.received_at).total_seconds() >= CLAIM_SECONDS - 1
    async with admin_db.transaction() as tx:
        await finish_event(tx, "evt_1", None, "not ours")
    await admin_db.execute("UPDATE stripe_events SET try_after = now()")
    assert await claim_event(admin_db) is None


async def test_what_fails_waits_longer_each_time_and_is_given_up(admin_db: Database) -> None:
    await store_event(admin_db, named())
    waits = []
    for tried in range(1, TRIES_MAX + 1):
        await admin_db.execute("UPDATE stripe_events SET try_after = now()")
        event = await claim_event(admin_db)
        assert event is not None
        assert await put_off(admin_db, event, "away\x00\n") is (tried < TRIES_MAX)
        waits.append(
            await admin_db.fetch_value(
                "SELECT extract(epoch FROM try_after - now())::float8 FROM stripe_events"
            )
        )
    assert waits[0] < 10
    assert 1.5 < waits[4] / waits[3] * 1.4 < 5
    assert await count_stuck(admin_db) == (1, 0)
    (event,) = await select_events(admin_db, "dead")
    assert event.problem == "away\\u0000\\u000a"


async def test_a_replay_is_recorded(admin_db: Database, actor: Actor) -> None:
    await store_event(admin_db, named())
    async with admin_db.transaction() as tx:
        await finish_event(tx, "evt_1", None)
    await replay_event(admin_db, actor, "evt_1")
    assert await claim_event(admin_db) is not None
    (row,) = await select_audit_rows(admin_db, None)
    assert (row.event, row.subject) == (Event.PAYMENT_EVENT_REPLAYED, "evt_1")
    with pytest.raises(NotFound):
        await replay_event(admin_db, actor, "evt_none")


async def test_pages_and_the_end_of_old_rows(admin_db: Database, owner_db: Database) -> None:
    for number in range(5):
        await store_event(admin_db, named(f"evt_{number}"))
    newest = await select_events(admin_db, limit=2)
    assert [one.event_id for one in newest] == ["evt_4", "evt_3"]
    older = await select_events(admin_db, after="evt_3")
    assert [one.event_id for one in older] == ["evt_2", "evt_1", "evt_0"]
    await owner_db.execute("UPDATE stripe_events SET received_at = now() - interval '91 days'")
    assert await clear_events(admin_db) == 0  # none is done
    await owner_db.execute("UPDATE stripe_events SET state = 'done' WHERE event_id <> 'evt_0'")
    assert await clear_events(admin_db) == 4
    assert await count_stuck(admin_db) == (0, 1)


async def test_odd_ids_and_foreign_hands(admin_db: Database, gateway_db: Database) -> None:
    with pytest.raises(CheckFailed):
        await store_event(admin_db, named("evt 1"))
    with pytest.raises(Denied):
        await select_events(gateway_db)
    with pytest.raises(Denied):
        await admin_db.execute("UPDATE stripe_events SET object_id = 'in_2'")


async def test_the_few_that_are_open_are_found_without_the_many_that_are_done(admin_db: Database) -> None:
    await store_event(admin_db, named())
    for ask in (count_stuck, partial(select_events, state="dead"), partial(select_events, state="waiting")):
        plan = await explain(admin_db, ask)
        assert re.search(r"stripe_events_(open|waiting)", plan), plan
    assert "stripe_events_open" in await explain(admin_db, partial(select_events, state="dead"))
    assert "stripe_events_newest" in await explain(admin_db, select_events)
