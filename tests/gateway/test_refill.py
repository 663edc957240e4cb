"""The ledger against a real PostgreSQL: waiting, losing it, ending; and many workers in a storm."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from gateway.quota import Reason, Shortage
from gateway.refill import Refill, wall_us
from gateway.reservation import Reservation
from storage.bridge import Database, open_database
from storage.leases import PRUNE_ROWS_MAX, release_owner
from storage.limits import LimitScope, select_limits, set_limit
from storage.model import Actor, ActorKind, Limit, LimitKind, Organization, Period, Plan, UsageRecord
from storage.organizations import create_organization
from storage.usage_rows import insert_usage
from tests.storage.usage_records import usage

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    refill = Refill(gateway_db, uuid4())
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
    await Refill(gateway_db, uuid4()).prune()
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
        refill = Refill(gateway_db, uuid4())
        nursery.start_soon(refill.run)
        with trio.fail_after(PATIENCE_SECONDS):
            while not await owner_db.fetch_value(pruning):
                await trio.sleep(0.01)
        assert isinstance(await refill.reserve([tokens], None, wall_us(), 100, 0), Reservation)
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


async def test_the_database_is_away(tokens: Limit) -> None:
    async with open_database("postgresql://nobody@127.0.0.1:1/none", role=None) as away:
        refill = Refill(away, uuid4())
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
    refill = Refill(gateway_db, uuid4())
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


class Worker:
    """A gateway worker's part in this: it admits, keeps a journal, ships it; and may be killed."""

    def __init__(self, db: Database, limits: list[Limit], choose: random.Random) -> None:
        self.db = db
        self.limits = limits
        self.choose = choose
        self.owner = uuid4()
        self.journal: list[UsageRecord] = []
        self.rows: list[UsageRecord] = []
        self.step_us = 0
        self.refill = Refill(db, self.owner, clock_us=self.clock_us)
        self.refused_at = 0
        self.life = trio.CancelScope()

    def clock_us(self) -> int:
        return wall_us() + self.step_us

    async def live(self, requests: int) -> None:
        with self.life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.refill.run)
                nursery.start_soon(self.ship_regularly)
                async with trio.open_nursery() as traffic:
                    for _ in range(4):
                        traffic.start_soon(self.send, requests // 4)
                nursery.cancel_scope.cancel()

    async def send(self, requests: int) -> None:
        for _ in range(requests):
            started_us = self.clock_us()
            need = self.choose.randint(1, 60)
            found = await self.refill.reserve(self.limits, None, started_us, need, need * 1000)
            if isinstance(found, Reservation):
                # The answer: a few turns of the others.
                for _ in range(self.choose.randint(0, 3)):
                    await trio.lowlevel.checkpoint()
                used = self.choose.randint(0, need)
                found.settle(used, used * 1000)
                self.write(started_us, used)
            await trio.sleep(0.001)

    def write(self, started_us: int, used: int) -> None:
        record = usage(
            org_id=self.limits[0].org_id,
            started_at=EPOCH + timedelta(microseconds=started_us),
            input_tokens=used,
            charged_picodollars=used * 1000,
            **dict.fromkeys(("output_tokens", "cache_read_tokens"), 0),
            **dict.fromkeys(("cache_write_5m_tokens", "cache_write_1h_tokens"), 0),
        )
        self.journal.append(record)
        self.rows.append(record)

    async def ship_regularly(self) -> None:
        while True:
            await self.ship()
            await trio.sleep(0.05)

    async def ship(self) -> None:
        batch = self.journal[:]
        await insert_usage(self.db, batch, self.owner)
        del self.journal[: len(batch)]


def sums(workers: list[Worker], limits: list[Limit]) -> dict[tuple[int, datetime], int]:
    """What was used of each limit's windows, as the journals tell it."""
    found: dict[tuple[int, datetime], int] = {}
    for worker in workers:
        for row in worker.rows:
            for limit in limits:
                amount = {
                    LimitKind.REQUESTS: 1,
                    LimitKind.TOKENS: row.input_tokens,
                    LimitKind.MONEY: row.charged_picodollars,
                }.get(limit.kind, 0)
                start = row.started_at.replace(second=0, microsecond=0)
                if limit.period is Period.DAY:
                    start = start.replace(hour=0, minute=0)
                key = limit.limit_id, start
                found[key] = found.get(key, 0) + amount
    return found


async def test_a_storm(database_url: str, admin_db: Database, owner_db: Database, org: Organization) -> None:
    """Workers that are killed, whose clocks step, and whose leases run out under them: no window ever holds
    more than its limit, and when all is told, all that was not used is back."""
    choose = random.Random(11)
    limits = [
        await make_limit(admin_db, org, LimitKind.TOKENS, Period.DAY, 9_000),
        await make_limit(admin_db, org, LimitKind.MONEY, Period.DAY, 8_500_000),
        await make_limit(admin_db, org, LimitKind.REQUESTS, Period.MINUTE, 700),
        await make_limit(admin_db, org, LimitKind.CONCURRENT, Period.NONE, 10),
    ]
    everyone: list[Worker] = []

    async def one_after_the_other() -> None:
        async with open_database(database_url, role="karta_gateway") as db:
            await lives(db)

    async def lives(db: Database) -> None:
        predecessors: list[Worker] = []
        for life in range(4):
            worker = Worker(db, limits, choose)
            everyone.append(worker)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trouble, worker, life < 3)
                await worker.live(200)
                nursery.cancel_scope.cancel()
            predecessors.append(worker)
            if choose.random() < 0.5:
                await bury(predecessors.pop(0))
        for worker in predecessors:
            await bury(worker)

    async def trouble(worker: Worker, kill: bool) -> None:
        for _ in range(choose.randint(2, 5)):
            await trio.sleep(choose.uniform(0.01, 0.2))
            if choose.random() < 0.5:
                worker.step_us = choose.choice([-90, -1, 0, 1, 50]) * 1_000_000
            else:
                async with owner_db.transaction() as tx:
                    # Leases are changed only by who has locked their windows.
                    await tx.fetch("SELECT FROM quota_windows ORDER BY limit_id, window_start FOR UPDATE")
                    sql = "UPDATE quota_leases SET expires_at = now() - interval '1 second' WHERE owner = $1"
                    await tx.execute(sql, worker.owner)
        if kill:
            worker.life.cancel()

    async def bury(worker: Worker) -> None:
        """What a successor does with the journal of a dead worker."""
        await worker.ship()
        await release_owner(worker.db, worker.owner)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one_after_the_other)

    used = sums(everyone, limits)
    assert sum(len(worker.rows) for worker in everyone) > 300
    for (limit_id, _), amount in used.items():
        [limit] = [one for one in limits if one.limit_id == limit_id]
        assert limit.kind is LimitKind.CONCURRENT or amount <= limit.amount
    rows = await owner_db.fetch("SELECT limit_id, window_start, settled, written_off FROM quota_windows")
    told = {(row["limit_id"], row["window_start"]): row["settled"] for row in rows if row["settled"]}
    assert told == {key: amount for key, amount in used.items() if amount}
    assert all(row["written_off"] == 0 for row in rows)
    assert await owner_db.fetch_value("SELECT count(*) FROM quota_leases") == 0


async def test_little_is_stranded(gateway_db: Database, admin_db: Database, org: Organization) -> None:
    """Four workers under a steady load use a limit up, all but a twentieth."""
    limit = await make_limit(admin_db, org, LimitKind.TOKENS, Period.DAY, 60_000)
    choose = random.Random(5)
    workers = [Worker(gateway_db, [limit], choose) for _ in range(4)]

    def used() -> int:
        return sum(row.input_tokens for worker in workers for row in worker.rows)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.live, 1_000_000)
            while used() < 0.95 * limit.amount:
                await trio.sleep(0.05)
            for worker in workers:
                worker.life.cancel()
    assert used() <= limit.amount
