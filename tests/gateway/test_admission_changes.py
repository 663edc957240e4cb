"""Limits that change while requests run, and a database that goes away under them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from storage.bridge import Database, open_database
from storage.limits import LimitScope, unset_limit
from storage.model import Limit, LimitKind, Period
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.gateway.limiting import DOLLAR, account_of, limit_tenant, until_agreed
from tests.support.database_line import DatabaseLine, database_line
from tests.support.gateway import PATIENCE_SECONDS, RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


async def status_of(client: RawClient, token: str) -> int:
    await client.send(post(token))
    return (await client.read_answer()).status


def known_limits(gateway: RunningGateway) -> tuple[Limit, ...]:
    (record,) = gateway.worker.snapshot._records.values()
    return record.hard_limits


async def test_a_limit_acts_as_soon_as_it_is_heard_of(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.listening)

        async def statuses(count: int) -> list[int]:
            return [await status_of(client, own_tenant.token) for _ in range(count)]

        async def change(amount: int, *, hard: bool = True) -> Limit:
            limit = await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, amount, hard=hard)
            # Heard of: nobody waits for the regular reading, which is 20 seconds apart.
            with trio.fail_after(15):
                while known_limits(gateway) != ((limit,) if hard else ()):
                    await trio.sleep(0.01)
            return limit

        assert await statuses(3) == [200] * 3
        await gateway.settled(3)
        # What was used of the day before the limit was set counts.
        limit = await change(5)
        assert await statuses(4) == [200, 200, 429, 429]
        # Raised, it lets pass at once; lowered, no more, whatever had been lent of the old amount.
        await change(8)
        assert await statuses(5) == [200] * 3 + [429] * 2
        await change(1_000)
        assert await statuses(20) == [200] * 20
        await change(30)
        assert await statuses(4) == [200, 200, 429, 429]
        await change(30, hard=False)
        assert await statuses(3) == [200] * 3
        await change(40)
        assert await statuses(8) == [200] * 7 + [429]
        await until_agreed(gateway, limit, settled=40)
        await unset_limit(
            admin, ACTOR, LimitScope(key_id=own_tenant.key_id, kind=LimitKind.REQUESTS, period=Period.DAY)
        )
        await poll(lambda: known_limits(gateway) == ())
        assert await statuses(2) == [200] * 2


async def test_a_limit_of_streams_at_once_may_be_lowered_below_what_runs(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.CONCURRENT, 5)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.listening)
        ledger = gateway.worker.refill
        running = []
        for _ in range(3):
            found = await ledger.reserve([limit], None, ledger._clock_us(), 0, 0)
            running.append(found)
        lower = await limit_tenant(admin, own_tenant, LimitKind.CONCURRENT, 2)
        await poll(lambda: known_limits(gateway) == (lower,))
        assert await status_of(client, own_tenant.token) == 429
        for one in running[:2]:
            one.release()  # type: ignore[union-attr]
        assert await status_of(client, own_tenant.token) == 200
        assert (await account_of(gateway, limit)).reserved == 1
        running[2].release()  # type: ignore[union-attr]
        await until_agreed(gateway, limit, settled=0)


@pytest.mark.parametrize("kind", [LimitKind.REQUESTS, LimitKind.MONEY])
@pytest.mark.parametrize("way", [DatabaseLine.cut, DatabaseLine.hang], ids=["cut", "hang"])
async def test_without_its_database_what_is_held_goes_on_and_then_hard_limits_wait(
    way: object, kind: LimitKind, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, kind, 1000 * DOLLAR if kind is LimitKind.MONEY else 1000)
    async with (
        database_line(own_tenant.database_url) as line,
        stage(
            answering(ANSWER),
            of=own_tenant,
            database_url=line.url,
            owner_url=own_tenant.database_url,
            query_seconds_max=0.5,
        ) as (gateway, _),
        gateway.client() as client,
    ):
        assert await status_of(client, own_tenant.token) == 200
        way(line)  # type: ignore[operator]
        passed = 1
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                await client.send(post(own_tenant.token))
                answer = await client.read_answer()
                if answer.status != 200:
                    break
                passed += 1
        # Four of its kind were lent with the first.
        assert passed >= 4
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert answer.headers["x-should-retry"] == "true"
        assert b"cannot ask for this key's limits" in answer.body
        await line.mend()
        with trio.fail_after(PATIENCE_SECONDS):
            while await status_of(client, own_tenant.token) != 200:
                await trio.sleep(0.05)
        await gateway.settled(passed + 1)
        settled = (passed + 1) * (1 if kind is LimitKind.REQUESTS else 7 * 100_000_000)
        await until_agreed(gateway, limit, settled=settled)


async def test_without_its_database_soft_limits_let_pass(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1, hard=False)
    async with (
        database_line(own_tenant.database_url) as line,
        stage(answering(ANSWER), of=own_tenant, database_url=line.url, owner_url=own_tenant.database_url) as (
            gateway,
            _,
        ),
        gateway.client() as client,
    ):
        await poll(lambda: gateway.worker.snapshot.listening)
        line.cut()
        assert [await status_of(client, own_tenant.token) for _ in range(12)] == [200] * 12
        await line.mend()
        with trio.fail_after(PATIENCE_SECONDS):
            while await gateway.db.fetch_value("SELECT count(*) FROM usage") < 12:
                await trio.sleep(0.05)
        assert (await account_of(gateway, limit)).settled == 12 * 7 * 100_000_000
