"""Deliveries: spread once, held by one worker, delivered by a 2xx and nothing else, in turn and in order."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio

from storage import webhook_deliveries
from storage.bridge import Database, open_database
from storage.errors import NotFound
from storage.model import Actor, Organization
from storage.sealing import MasterKeys
from storage.webhook_deliveries import (
    Attempt,
    Claimed,
    Settlement,
    claim,
    release,
    settle,
    spread,
    sweep,
    sweep_deleted,
)
from storage.webhook_events import emit
from storage.webhook_schedule import State
from storage.webhooks import (
    NewEndpoint,
    change_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    rotate_secret,
    select_endpoints,
)
from tests.storage.test_webhook_events import INVOICE, listen

WORKER, OTHER = uuid4(), uuid4()


async def emit_many(db: Database, org_id: UUID, count: int, *, spread_them: bool = True) -> None:
    for number in range(count):
        await emit(db, org_id, "invoice.paid", {**INVOICE, "invoice_id": f"in_{number}"})
    if spread_them:
        await spread(db)


async def take(
    db: Database, worker: UUID = WORKER, limit: int = 100, of_endpoint_max: int = 100
) -> list[Claimed]:
    return await claim(db, worker, limit=limit, of_endpoint_max=of_endpoint_max)


def outcome(claimed: Claimed, state: State, status: int | None = None, delay: float = 0) -> Settlement:
    status = (200 if state == "delivered" else 500) if status is None else status
    return Settlement(
        delivery_id=claimed.delivery_id,
        endpoint_id=claimed.endpoint_id,
        state=state,
        delay_seconds=delay,
        attempt=Attempt(
            attempt_id=uuid4(),
            started_at=datetime.now(UTC),
            duration_ms=3,
            status=status,
            reason=None,
            headers={"Webhook-Id": "msg_1"},
            excerpt="fine",
        ),
    )


async def states(db: Database) -> list[str]:
    rows = await db.fetch("SELECT state FROM webhook_deliveries ORDER BY delivery_id")
    return [row["state"] for row in rows]


async def end_leases(db: Database) -> None:
    await db.execute("UPDATE webhook_deliveries SET due_at = now() WHERE claim IS NOT NULL")


async def test_an_event_becomes_one_delivery_for_each_endpoint(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    first = await listen(admin_db, actor, master_keys, org.org_id)
    second = await listen(
        admin_db, actor, master_keys, org.org_id, ("invoice.paid",), "https://b.example.com/x"
    )
    await listen(admin_db, actor, master_keys, org.org_id, ("invoice.voided",))
    await emit_many(admin_db, org.org_id, 1, spread_them=False)
    await listen(admin_db, actor, master_keys, org.org_id, url="https://too.late.example.com/")
    assert await spread(admin_db) == 1
    assert await spread(admin_db) == 0
    taken = await take(admin_db)
    assert {(one.endpoint_id, one.url) for one in taken} == {
        (first.endpoint_id, "https://hooks.example.com/"),
        (second.endpoint_id, "https://b.example.com/x"),
    }
    assert len({one.event_id for one in taken}) == 1
    assert taken[0].body == taken[1].body
    assert taken[0].body not in repr(taken)


async def test_several_that_spread_at_once_spread_once(
    database_url: str, admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    for number in range(30):
        await emit(admin_db, org.org_id, "invoice.paid", {**INVOICE, "invoice_id": f"in_{number}"})
    async with (
        open_database(database_url, role="karta_admin", connections_max=4) as db,
        trio.open_nursery() as nursery,
    ):
        for _ in range(4):
            nursery.start_soon(spread, db)
    assert len(await states(admin_db)) == 30
    bodies = await admin_db.fetch(
        "SELECT body FROM webhook_events JOIN webhook_deliveries ON event_seq = seq ORDER BY delivery_id"
    )
    assert [f'"in_{number}"' in row["body"] for number, row in enumerate(bodies)] == [True] * 30


async def test_what_one_holds_no_other_gets_until_the_lease_ends(
    database_url: str, admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 40)
    taken: list[int] = []

    async def work(db: Database) -> None:
        worker, misses = uuid4(), 0
        while misses < 20:
            got = await take(db, worker, limit=7)
            taken.extend(one.delivery_id for one in got)
            misses = 0 if got else misses + 1

    async with (
        open_database(database_url, role="karta_admin", connections_max=4) as db,
        trio.open_nursery() as nursery,
    ):
        for _ in range(4):
            nursery.start_soon(work, db)
    assert len(taken) == len(set(taken)) == 80
    await end_leases(admin_db)
    assert len(await take(admin_db)) == 80


async def test_only_a_2xx_delivers_and_a_lost_lease_says_nothing(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 3)
    first, second, third = await take(admin_db)
    await settle(
        admin_db,
        WORKER,
        [outcome(first, "delivered"), outcome(second, "pending", delay=60), outcome(third, "failed")],
    )
    assert await states(admin_db) == ["delivered", "pending", "failed"]
    assert await take(admin_db) == []
    await admin_db.execute("UPDATE webhook_deliveries SET due_at = now() WHERE state = 'pending'")
    [late] = await take(admin_db)
    assert (late.delivery_id, late.tries, late.event_id) == (second.delivery_id, 1, second.event_id)
    await end_leases(admin_db)
    [again] = await take(admin_db, OTHER)
    await settle(admin_db, WORKER, [outcome(late, "failed")])
    assert (await states(admin_db))[1] == "pending"
    assert await take(admin_db, uuid4()) == [], "it is still the other's"
    await settle(admin_db, WORKER, [outcome(late, "delivered")])
    assert (await states(admin_db))[1] == "delivered", "what arrived has arrived"
    await settle(admin_db, OTHER, [outcome(again, "failed")])
    assert (await states(admin_db))[1] == "delivered"
    tries = await admin_db.fetch_value(
        "SELECT count(*) FROM webhook_attempts WHERE delivery_id = $1", late.delivery_id
    )
    assert tries == 4, "each try is in the log, whoever made it"


async def test_what_may_be_settled_already_is_settled_again(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    """A worker whose connection was lost while it committed does not know."""
    await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 3)
    first, second, third = await take(admin_db)
    sent = [outcome(first, "delivered"), outcome(second, "pending", delay=60)]
    await settle(admin_db, WORKER, sent)
    await settle(admin_db, WORKER, [*sent, outcome(third, "delivered")])
    assert await states(admin_db) == ["delivered", "pending", "delivered"]
    tries = await admin_db.fetch("SELECT tries FROM webhook_deliveries ORDER BY delivery_id")
    assert [row["tries"] for row in tries] == [1, 1, 1]
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_attempts") == 3


async def test_what_is_given_back_can_be_taken_at_once(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 2)
    await take(admin_db, limit=1)
    await take(admin_db, OTHER, limit=1)
    await release(admin_db, WORKER)
    [taken] = await take(admin_db, OTHER)
    assert taken.tries == 0


async def test_endpoints_are_served_in_turn_and_none_takes_all(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    busy = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 20)
    quiet = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 1)
    assert {one.endpoint_id for one in await take(admin_db, limit=4, of_endpoint_max=3)} == {
        busy.endpoint_id,
        quiet.endpoint_id,
    }
    assert await take(admin_db, OTHER, of_endpoint_max=3) == [], "three are under way"
    assert len(await take(admin_db, OTHER, of_endpoint_max=5)) == 2


async def test_an_ordered_endpoint_gets_one_at_a_time_in_order(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    chosen = NewEndpoint(url=endpoint.url, events=endpoint.events, ordered=True)
    await change_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id, chosen)
    await emit_many(admin_db, org.org_id, 3)
    seen = []
    for _ in range(3):
        [one] = await take(admin_db)
        assert await take(admin_db, OTHER) == []
        await settle(admin_db, WORKER, [outcome(one, "pending", delay=60)])
        assert await take(admin_db) == [], "the next waits for this one"
        await admin_db.execute("UPDATE webhook_deliveries SET due_at = now()")
        [one] = await take(admin_db)
        await settle(admin_db, WORKER, [outcome(one, "delivered")])
        seen.append(one.delivery_id)
    assert seen == sorted(seen)
    assert len(set(seen)) == 3


async def test_a_disabled_endpoint_waits_and_goes_on(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 1)
    [one] = await take(admin_db)
    await settle(admin_db, WORKER, [outcome(one, "pending", delay=3600)])
    await disable_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id)
    await emit_many(admin_db, org.org_id, 1)
    await admin_db.execute("UPDATE webhook_deliveries SET due_at = now()")
    assert await take(admin_db) == []
    await enable_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id)
    assert [one.tries for one in await take(admin_db)] == [1], "what came meanwhile was never told"


async def test_an_endpoint_that_only_fails_is_told_of_after_days(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 4)
    taken = iter(await take(admin_db))
    assert await settle(admin_db, WORKER, [outcome(next(taken), "pending", delay=1)]) == []
    await admin_db.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '5 days 1 minute'")
    assert await settle(admin_db, WORKER, [outcome(next(taken), "pending", delay=1)]) == [
        endpoint.endpoint_id
    ]
    assert await settle(admin_db, WORKER, [outcome(next(taken), "delivered")]) == []
    assert await settle(admin_db, WORKER, [outcome(next(taken), "failed")]) == []
    row = await admin_db.fetch_row(
        "SELECT failures, failing_since > now() - interval '1 h' AS new FROM webhook_endpoints"
    )
    assert row is not None
    assert (row["failures"], row["new"]) == (1, True)


async def test_old_events_and_spent_secrets_go(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 3)
    await settle(admin_db, WORKER, [outcome(one, "failed") for one in (await take(admin_db))[:1]])
    await owner_db.execute("UPDATE webhook_events SET created_at = now() - interval '31 days' WHERE seq < 3")
    await rotate_secret(admin_db, actor, master_keys, org.org_id, endpoint.endpoint_id, overlap_seconds=1)
    await owner_db.execute("UPDATE webhook_secrets SET ends_at = now() WHERE ends_at IS NOT NULL")
    assert await sweep(admin_db) == 2
    assert await sweep(admin_db) == 0
    assert len(await states(admin_db)) == 1
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_attempts") == 0
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_secrets") == 1


async def test_a_deleted_endpoint_is_gone_at_once_and_its_log_in_batches(
    admin_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = await listen(admin_db, actor, master_keys, org.org_id, url="https://kept.example.com/")
    endpoint = await listen(admin_db, actor, master_keys, org.org_id)
    await emit_many(admin_db, org.org_id, 5)
    taken = [one for one in await take(admin_db) if one.endpoint_id == endpoint.endpoint_id]
    await settle(admin_db, WORKER, [outcome(one, "delivered") for one in taken[:4]])
    await delete_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id)
    # Not in the statement that people wait for; yet nobody finds it, and nothing more is sent.
    assert len(await states(admin_db)) == 10
    with pytest.raises(NotFound):
        await enable_endpoint(admin_db, actor, org.org_id, endpoint.endpoint_id)
    assert [one.endpoint_id for one in await select_endpoints(admin_db, org.org_id)] == [kept.endpoint_id]
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_secrets") == 1
    # A try that was under way is settled as ever.
    await settle(admin_db, WORKER, [outcome(taken[4], "pending")])
    await emit_many(admin_db, org.org_id, 1)
    assert not [one for one in await take(admin_db) if one.endpoint_id == endpoint.endpoint_id]
    monkeypatch.setattr(webhook_deliveries, "SWEEP_ROWS_MAX", 2)
    swept = []
    while gone := await sweep_deleted(admin_db):
        swept.append(gone)
    assert swept == [2, 2, 1, 1]
    assert len(await states(admin_db)) == 6
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_attempts") == 0
    assert await admin_db.fetch_value("SELECT array_agg(endpoint_id) FROM webhook_endpoints") == [
        kept.endpoint_id
    ]


@pytest.mark.parametrize("seed", range(2))
async def test_any_course_of_workers_keeps_what_is_promised(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys, seed: int
) -> None:
    """Random claims, deaths, answers and stops: nothing lost, nothing delivered without a 2xx, one holder."""
    import random

    chance = random.Random(seed)
    for number in range(3):
        await listen(admin_db, actor, master_keys, org.org_id, url=f"https://e{number}.example.com/")
    await admin_db.execute(
        "UPDATE webhook_endpoints SET ordered = true WHERE url = 'https://e0.example.com/'"
    )
    await emit_many(admin_db, org.org_id, 6)
    workers = [uuid4() for _ in range(3)]
    held: dict[UUID, list[Claimed]] = {worker: [] for worker in workers}
    arrived: set[int] = set()
    for step in itertools.count():
        worker = chance.choice(workers)
        match chance.choice(("claim", "claim", "settle", "settle", "die", "stop")):
            case "claim":
                taken = await take(admin_db, worker, limit=4, of_endpoint_max=2)
                assert not {one.delivery_id for one in taken} & {
                    one.delivery_id for own in held.values() for one in own
                }
                held[worker] += taken
            case "settle" if held[worker]:
                one = held[worker].pop()
                good = chance.random() < 0.6
                if good:
                    arrived.add(one.delivery_id)
                await settle(admin_db, worker, [outcome(one, "delivered" if good else "pending")])
            case "die":
                held[worker] = []
                await admin_db.execute(
                    "UPDATE webhook_deliveries SET due_at = now() WHERE claim = $1", worker
                )
            case "stop":
                held[worker] = []
                await release(admin_db, worker)
        kept = await admin_db.fetch("SELECT delivery_id FROM webhook_deliveries WHERE state = 'delivered'")
        assert {row["delivery_id"] for row in kept} == arrived
        if len(arrived) == 18:
            break
        assert step < 600


def test_the_lease_outlives_a_try() -> None:
    from admin.webhooks import dialing

    assert dialing.SECONDS_MAX * 2 < webhook_deliveries.LEASE_SECONDS
