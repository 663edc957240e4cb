"""The ledger against a real PostgreSQL: waiting, losing it, ending. Many of them are in `test_storm`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import trio
import trio.testing

from gateway.quota import Ledger, Reason, Shortage
from gateway.refill import Refill, wall_us
from gateway.reservation import Reservation
from storage.bridge import Database, open_database
from storage.leases import PRUNE_ROWS_MAX
from storage.limits import LimitScope, select_limits, set_limit
from storage.model import Actor, ActorKind, Limit, LimitKind, Organization, Period, Plan
from storage.organizations import create_organization

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
PATIENCE_SECONDS = 60


@pytest.fixture
async def org(admin_db: Database) -> Organization:
    return await create_organization(admin_db, ACTOR, name="Example", plan=Plan.PRO)


async def make_limit(db: Database, org: Organization, kind: LimitKind, period: Period, amount: int) -> Limit:
    return await set_limit(db, ACTOR, LimitScope(org_id=org.org_id, kind=kind, period=period), amount)


@pytest.fixture
async def tokens(admin_db: Database, org: Organization) -> Limit:
    return await make_limit(admin_db, org, LimitKind.TOKENS, Period.DAY, 1000)


@pytest.fixture
async def refill(gateway_db: Database) -> AsyncIterator[Refill]:
    refill = Refill(gateway_db, uuid4(), turn=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refill.run)
        yield refill
        nursery.cancel_scope.cancel()


async def held(db: Database, limit: Limit) -> int:
    [found] = [told.held for told in await select_limits(db, limit.org_id) if told.limit == limit]
    return found


async def test_a_request_waits_for_a_refill(refill: Refill, tokens: Limit, admin_db: Database) -> None:
    found = await refill.reserve([tokens], None, wall_us(), 100, 0)
    assert isinstance(found, Reservation)
    found.settle(10, 0)
    assert await held(admin_db, tokens) >= 100
    refused = await refill.reserve([tokens], None, wall_us(), 1001, 0)
    assert isinstance(refused, Shortage)
    assert refused.reason is Reason.TOO_LARGE
    found = await refill.reserve([tokens], None, wall_us(), 990, 0)
    assert isinstance(found, Reservation)
    found.settle(990, 0)
    refused = await refill.reserve([tokens], None, wall_us(), 1, 0)
    assert isinstance(refused, Shortage)
    assert refused.reason is Reason.EXHAUSTED


async def test_all_windows_that_are_over_go(gateway_db: Database, owner_db: Database, tokens: Limit) -> None:
    """However many there are, or they would pile up."""
    await owner_db.execute(
        """
        INSERT INTO quota_windows (limit_id, window_start)
        SELECT $1::bigint, now() - interval '1 year' - n * interval '1 hour'
          FROM generate_series(1, $2::integer) n
        """,
        tokens.limit_id,
        2 * PRUNE_ROWS_MAX + 1,
    )
    await Refill(gateway_db, uuid4(), turn=0).prune()
    left = "SELECT count(*) FROM quota_windows WHERE window_start < now() - interval '1 year'"
    assert await owner_db.fetch_value(left) == 0


async def test_no_refill_waits_for_pruning(
    monkeypatch: pytest.MonkeyPatch, gateway_db: Database, owner_db: Database, tokens: Limit
) -> None:
    monkeypatch.setattr("gateway.refill.PRUNE_SECONDS", 0.0)
    await owner_db.execute(
        """
        CREATE OR REPLACE FUNCTION prune_quota(rows_max integer) RETURNS integer LANGUAGE sql
        AS $$ SELECT 0 FROM (SELECT pg_sleep(60)) slept $$
        """
    )
    pruning = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%prune_quota%' AND wait_event = 'PgSleep'"
    )
    async with trio.open_nursery() as nursery:
        refill = Refill(gateway_db, uuid4(), turn=0)
        nursery.start_soon(refill.run)
        with trio.fail_after(PATIENCE_SECONDS):
            while not await owner_db.fetch_value(pruning):
                await trio.sleep(0.01)
        assert isinstance(await refill.reserve([tokens], None, wall_us(), 100, 0), Reservation)
        nursery.cancel_scope.cancel()


async def test_pruning_that_takes_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gateway_db: Database,
    owner_db: Database,
) -> None:
    monkeypatch.setattr("gateway.refill.PRUNE_SECONDS", 0.1)
    await owner_db.execute(
        """
        CREATE OR REPLACE FUNCTION prune_quota(rows_max integer) RETURNS integer LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'as at the end of its time' USING ERRCODE = 'query_canceled'; END $$
        """
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Refill(gateway_db, uuid4(), turn=0).run)
        with trio.fail_after(PATIENCE_SECONDS):
            while "windows that are over cannot be deleted" not in caplog.text:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_many_wait_for_the_same_refill(refill: Refill, tokens: Limit) -> None:
    reservations = []

    async def ask() -> None:
        reservations.append(await refill.reserve([tokens], None, wall_us(), 10, 0))

    async with trio.open_nursery() as nursery:
        for _ in range(120):
            nursery.start_soon(ask)
    assert sum(isinstance(one, Reservation) for one in reservations) == 100
    assert refill.refills < 20


async def test_a_database_that_is_slow_refuses_nobody(
    gateway_db: Database, owner_db: Database, tokens: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key's first request meets a call that began without it, and waits for that one and its own."""
    monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", PATIENCE_SECONDS)
    refill = Refill(gateway_db, uuid4(), turn=0)
    refill.ledger.reserve([tokens], None, wall_us(), 1, 0)
    found: list[Reservation | Shortage] = []

    async def ask() -> None:
        found.append(await refill.reserve([tokens], None, wall_us(), 600, 0))

    async with trio.open_nursery() as nursery:
        async with owner_db.transaction() as tx:
            await tx.fetch("LOCK TABLE quota_windows")
            nursery.start_soon(refill.run)
            nursery.start_soon(ask)
            # Longer than a healthy call ever takes, and yet within what a call may take.
            await trio.sleep(2.1)
        with trio.fail_after(PATIENCE_SECONDS):
            while not found:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert isinstance(found[0], Reservation)
    assert refill.failures == 0


async def test_a_call_that_is_not_answered_once_refuses_nobody_and_two_do(
    gateway_db: Database, owner_db: Database, tokens: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that stalls for seconds is no outage; what stays silent for a second call is one."""
    refill = Refill(gateway_db, uuid4(), turn=0)
    found: list[Reservation | Shortage] = []

    async def ask() -> None:
        found.append(await refill.reserve([tokens], None, wall_us(), 10, 0))

    async def fail_while_locked(times: int) -> None:
        """A request asks, and is heard only after so many calls."""
        monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", PATIENCE_SECONDS)
        failed = trio.Event()
        failures: list[bool] = []
        fail = refill.ledger.fail

        def count(*, away: bool = True) -> None:
            fail(away=away)
            failures.append(away)
            if len(failures) == times:
                monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", PATIENCE_SECONDS)
                failed.set()

        monkeypatch.setattr(refill.ledger, "fail", count)
        async with trio.open_nursery() as nursery:
            async with owner_db.transaction() as tx:
                await tx.fetch("LOCK TABLE quota_windows")
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", 0.2)
                nursery.start_soon(refill.run)
                with trio.fail_after(PATIENCE_SECONDS):
                    await failed.wait()
            with trio.fail_after(PATIENCE_SECONDS):
                while not found:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    await fail_while_locked(1)
    reserved = found.pop()
    assert isinstance(reserved, Reservation)
    await refill.give_back()
    refill.ledger = Ledger(wall_us())
    await fail_while_locked(2)
    refused = found.pop()
    assert isinstance(refused, Shortage)
    assert refused.reason is Reason.UNAVAILABLE


async def test_giving_back_at_the_end(refill: Refill, tokens: Limit, admin_db: Database) -> None:
    running = await refill.reserve([tokens], None, wall_us(), 100, 0)
    await refill.give_back()
    assert await held(admin_db, tokens) == 100
    assert isinstance(running, Reservation)
    running.release()
    await refill.give_back()
    await refill.give_back()
    assert await held(admin_db, tokens) == 0
    await refill.release()


async def test_what_was_granted_by_a_call_that_was_cut_off_goes_back_at_the_end(
    gateway_db: Database, admin_db: Database, tokens: Limit
) -> None:
    """The stop of a worker may come while it asks."""
    refill = Refill(gateway_db, uuid4(), turn=0)
    assert isinstance(refill.ledger.reserve([tokens], None, wall_us(), 100, 0), Shortage)
    # As if the answer had not arrived before the task was cancelled.
    refill.ledger.apply = lambda *_: None  # type: ignore[method-assign,assignment]
    assert await refill.refill()
    assert await held(admin_db, tokens) >= 100
    assert await refill.give_back(whole=True)
    assert await held(admin_db, tokens) == 0
    # A journal whose rows wait for the database is not given up for stored.
    async with open_database("postgresql://nobody@127.0.0.1:1/none", role=None) as away:
        assert not await Refill(away, uuid4(), turn=0).give_back(whole=True)


async def test_the_database_is_away(tokens: Limit) -> None:
    async with open_database("postgresql://nobody@127.0.0.1:1/none", role=None) as away:
        refill = Refill(away, uuid4(), turn=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refill.run)
            for _ in range(2):
                found = await refill.reserve([tokens], None, wall_us(), 1, 0)
                assert isinstance(found, Shortage)
                assert found.reason is Reason.UNAVAILABLE
            nursery.cancel_scope.cancel()
        assert refill.failures >= 1


async def test_an_answer_that_does_not_come_in_time_is_made_good(
    gateway_db: Database,
    owner_db: Database,
    admin_db: Database,
    tokens: Limit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refill = Refill(gateway_db, uuid4(), turn=0)
    assert isinstance(refill.ledger.reserve([tokens], None, wall_us(), 100, 0), Shortage)
    assert await refill.refill()
    before = await held(admin_db, tokens)
    monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", 0.2)
    assert isinstance(refill.ledger.reserve([tokens], None, wall_us(), 700, 0), Shortage)
    async with owner_db.transaction() as tx:
        await tx.fetch("SELECT * FROM quota_windows FOR UPDATE")
        assert not await refill.refill()
    monkeypatch.setattr("gateway.refill.CALL_SECONDS_MAX", 20)
    assert isinstance(refill.ledger.reserve([tokens], None, wall_us(), 100, 0), Reservation)
    assert await refill.refill()
    left, _ = refill.ledger.remaining(tokens, wall_us())
    assert await held(admin_db, tokens) >= before
    assert left + 100 == 1000
