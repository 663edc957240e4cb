"""What is known of keys stays true: told of changes at once, and asked for them when nobody tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio

from gateway.limits import Limits
from gateway.prices import Prices
from gateway.snapshot import Snapshot
from gateway.watchdog import Watchdog
from storage import staff
from storage.api_keys import revoke_key, rotate_key
from storage.bridge import Database, open_database
from storage.changes import CHANNEL
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.support.database_line import database_line
from tests.support.gateway import PATIENCE_SECONDS, RunningGateway, poll
from tests.support.no_library import NoLibrary
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering


async def until_answered(gateway: RunningGateway, token: str, status: int) -> None:
    """Ask until that is the answer."""
    with trio.fail_after(PATIENCE_SECONDS):
        while (await gateway.ask(post(token))).status != status:
            await trio.sleep(0.01)


async def heard(gateway: RunningGateway) -> None:
    await poll(lambda: gateway.worker.snapshot.listening)


async def revoke(db: Database, tenant: Tenant) -> None:
    await revoke_key(db, ACTOR, tenant.key_id)


async def revoke_by_a_clock_ahead(db: Database, tenant: Tenant) -> None:
    """As the gateway's own clock finds it when it is an hour behind the database's."""
    sql = "UPDATE api_keys SET revoked_at = now() + interval '1 hour' WHERE key_id = $1"
    await db.execute(sql, tenant.key_id)


async def rotate(db: Database, tenant: Tenant) -> None:
    await rotate_key(db, ACTOR, tenant.key_id)


async def expire(db: Database, tenant: Tenant) -> None:
    sql = "UPDATE api_keys SET expires_at = now() + interval '100 ms' WHERE key_id = $1"
    await db.execute(sql, tenant.key_id)


async def delete(db: Database, tenant: Tenant) -> None:
    await db.execute("DELETE FROM api_keys WHERE key_id = $1", tenant.key_id)


async def suspend(db: Database, tenant: Tenant) -> None:
    await staff.suspend(db, ACTOR, tenant.org_id, "unpaid")


Change = Callable[[Database, Tenant], Awaitable[None]]
CHANGES: dict[Change, int] = {
    revoke: 401,
    revoke_by_a_clock_ahead: 401,
    rotate: 401,
    expire: 401,
    delete: 401,
    suspend: 403,
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_change_is_heard_at_once(change: Change, stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await heard(gateway)
        assert (await gateway.ask(post(own_tenant.token))).status == 200
        await change(gateway.db, own_tenant)
        await until_answered(gateway, own_tenant.token, CHANGES[change])


async def test_an_organization_comes_back(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await heard(gateway)
        await suspend(gateway.db, own_tenant)
        await until_answered(gateway, own_tenant.token, 403)
        await staff.lift(gateway.db, ACTOR, own_tenant.org_id)
        await until_answered(gateway, own_tenant.token, 200)


async def test_a_change_is_known_although_the_listener_was_ended(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await heard(gateway)
        # In one statement, so that the notice comes when nobody listens.
        ended = await gateway.db.fetch_value(
            """
            WITH ended AS (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE datname = current_database() AND query ILIKE 'LISTEN%'),
                 revoked AS (UPDATE api_keys SET revoked_at = now() WHERE key_id = $1)
            SELECT count(*) FROM ended
            """,
            own_tenant.key_id,
        )
        assert ended == 1
        await until_answered(gateway, own_tenant.token, 401)


async def test_a_change_is_known_although_the_database_was_away(stage: Stage, own_tenant: Tenant) -> None:
    async with (
        database_line(own_tenant.database_url) as line,
        stage(answering(ANSWER), of=own_tenant, database_url=line.url, owner_url=own_tenant.database_url) as (
            gateway,
            _,
        ),
    ):
        await heard(gateway)
        line.cut()
        await poll(lambda: not gateway.worker.snapshot.listening)
        await revoke(gateway.db, own_tenant)
        assert (await gateway.ask(post(own_tenant.token))).status == 200
        await line.mend()
        await until_answered(gateway, own_tenant.token, 401)


async def test_strange_notices_do_no_harm(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await heard(gateway)
        for payload in ("", "not JSON", '{"table":"users"}', '{"table":"api_keys","org_id":1}'):
            await gateway.db.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        assert (await gateway.ask(post(own_tenant.token))).status == 200
        await heard(gateway)
        await revoke(gateway.db, own_tenant)
        await until_answered(gateway, own_tenant.token, 401)


async def test_many_changes_at_once_are_taken_together(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await heard(gateway)
        for _ in range(20):
            await suspend(gateway.db, own_tenant)
            await staff.lift(gateway.db, ACTOR, own_tenant.org_id)
        await revoke(gateway.db, own_tenant)
        await until_answered(gateway, own_tenant.token, 401)


class _Held:
    """A database whose answers to a look-up come when the test says so."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.answers: list[trio.Event] = []

    async def fetch(self, sql: str, *args: Any) -> Any:
        rows = await self._db.fetch(sql, *args)
        released = trio.Event()
        self.answers.append(released)
        await released.wait()
        return rows


async def test_an_older_reading_does_not_undo_a_newer(own_tenant: Tenant) -> None:
    async with (
        open_database(own_tenant.database_url, role=None) as db,
        trio.open_nursery() as nursery,
    ):
        held = _Held(db)
        snapshot = Snapshot(cast(Database, held), Limits(), Watchdog(), Prices(NoLibrary(), 0))
        nursery.start_soon(_keep, snapshot, own_tenant.key_id)
        await poll(lambda: len(held.answers) == 1)
        held.answers[0].set()
        await poll(lambda: snapshot._records)
        record = snapshot._records[own_tenant.key_id]
        # Two readings, one before and one after a revocation; the later one answers first.
        nursery.start_soon(snapshot.refresh, [own_tenant.key_id])
        await poll(lambda: len(held.answers) == 2)
        await revoke_key(db, ACTOR, own_tenant.key_id)
        nursery.start_soon(snapshot.refresh, [own_tenant.key_id])
        await poll(lambda: len(held.answers) == 3)
        held.answers[2].set()
        await poll(lambda: record.key.revoked_at)
        held.answers[1].set()
        await poll(lambda: not nursery.child_tasks)
        assert record.key.revoked_at is not None


async def _keep(snapshot: Snapshot, key_id: str) -> None:
    record = await snapshot.read(key_id)
    assert record is not None
    snapshot.keep(record)


async def test_many_keys_are_read_in_parts(gateway_db: Database) -> None:
    """An answer is taken in one go, and nobody is served meanwhile."""
    parts: list[int] = []

    class Counting(Database):
        def __init__(self) -> None:
            """The other's connections."""

        async def _query(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
            parts.append(len(args[0]))
            return await gateway_db._query(method, sql, args)

    snapshot = Snapshot(Counting(), Limits(), Watchdog(), Prices(NoLibrary(), 0))
    assert await snapshot.read_many([f"{number:012}" for number in range(450)]) == {}
    assert sum(parts) == 450
    assert max(parts) <= 200
