"""Who looks on at a storm, in a process of its own: it sets limits, reads what the database has of them, lets
leases run out, and settles what is left at the end."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import trio

from gateway import journals
from gateway.journals import Leftovers
from gateway.spool import SETTLED_FILE
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.leases import LeaseRequest, release_owner, settle_leases
from storage.limits import LimitScope, set_limit
from storage.model import Actor, ActorKind, Limit, LimitKind, Period, Plan
from storage.organizations import create_organization
from tests.gateway.storm_worker import KEY_ID

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
SETTLE_SECONDS_MAX = 120.0


class Window(NamedTuple):
    """What the database has of one window; the sums are of its leases."""

    limit_id: int
    start_us: int
    settled: int
    written_off: int
    held: int
    leases_written_off: int
    leases: int


class Observer:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, amounts: list[tuple[LimitKind, Period, int]]) -> tuple[UUID, tuple[Limit, ...]]:
        """A new organization with limits."""
        org = await create_organization(self._db, ACTOR, name="Example", plan=Plan.PRO)
        limits = [
            await set_limit(self._db, ACTOR, LimitScope(org_id=org.org_id, kind=kind, period=period), amount)
            for kind, period, amount in amounts
        ]
        return org.org_id, tuple(limits)

    async def windows(self, limits: tuple[Limit, ...]) -> list[Window]:
        rows = await self._db.fetch(
            """
            SELECT w.limit_id, (extract(epoch FROM w.window_start) * 1000000)::bigint, w.settled,
                   w.written_off, coalesce(sum(q.held) FILTER (WHERE q.held > 0), 0)::bigint,
                   coalesce(sum(q.written_off), 0)::bigint, count(q.owner)
              FROM quota_windows w LEFT JOIN quota_leases q USING (limit_id, window_start)
             WHERE w.limit_id = ANY ($1::bigint[])
             GROUP BY w.limit_id, w.window_start
            """,
            [limit.limit_id for limit in limits],
        )
        return [Window(*row.values()) for row in rows]

    async def usage(self, org_id: UUID) -> dict[str, tuple[int, int, str]]:
        """Tokens, picodollars and outcome of each row, by request."""
        rows = await self._db.fetch(
            """
            SELECT request_id, input_tokens, charged_picodollars, outcome FROM usage
             WHERE org_id = $1 AND key_id = $2
            """,
            org_id,
            KEY_ID,
        )
        found = {
            row["request_id"].hex: (row["input_tokens"], row["charged_picodollars"], row["outcome"])
            for row in rows
        }
        assert len(found) == len(rows)
        return found

    async def run_out(self, owner: UUID) -> None:
        """As if an owner had been silent for a minute; not while one who is stopped holds the windows."""
        try:
            async with self._db.transaction() as tx:
                await tx.execute("SET LOCAL lock_timeout = '200ms'")
                # Leases are changed only by who has locked their windows.
                await tx.fetch(
                    """
                    SELECT FROM quota_windows w
                     WHERE EXISTS (SELECT FROM quota_leases q
                                    WHERE (q.limit_id, q.window_start) = (w.limit_id, w.window_start)
                                      AND q.owner = $1)
                     ORDER BY limit_id, window_start FOR NO KEY UPDATE
                    """,
                    owner,
                )
                sql = "UPDATE quota_leases SET expires_at = now() - interval '1 second' WHERE owner = $1"
                await tx.execute(sql, owner)
        except StorageError:
            return

    async def bury(self, home: Path) -> None:
        """Settle all journals, as whoever finds them does."""
        leftovers = Leftovers(home, self._db)
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leftovers.run)
                while not _is_settled(home):
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        if not _is_settled(home):
            busy = await self._db.fetch(
                "SELECT pid, state, wait_event, now() - xact_start AS since, left(query, 80) AS query"
                "  FROM pg_stat_activity WHERE datname = current_database()"
            )
            raise AssertionError(f"not settled: {_files(home)}; {[dict(row) for row in busy]}")

    async def most(self, limit: Limit, start_us: int, minimum: int) -> int:
        """How much one owner alone is granted who needs that much at least; it is given back."""
        owner = uuid4()
        request = LeaseRequest(limit.limit_id, start_us // 1_000_000, 1, 0, 0, limit.amount, minimum)
        [answer] = await settle_leases(self._db, owner, 1, [request])
        await release_owner(self._db, owner, 1)
        return answer.granted


def _files(home: Path) -> dict[str, int]:
    return {str(one.relative_to(home)): one.stat().st_size for one in sorted(home.rglob("*"))}


def _is_settled(home: Path) -> bool:
    """All journals that were begun: a worker that is killed at its start may leave an empty directory."""
    return all((one.parent / SETTLED_FILE).exists() for one in home.glob("worker-*/lock"))


def observe(connection: Connection, database_url: str) -> None:
    """Until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    journals.LOOK_SECONDS = 0.05
    trio.run(_observe, connection, database_url)


async def _observe(connection: Connection, database_url: str) -> None:
    async with open_database(database_url, role=None) as db:
        observer = Observer(db)
        while True:
            await trio.lowlevel.wait_readable(connection.fileno())
            try:
                name, *given = connection.recv()
            except EOFError:
                return
            found: Any = await getattr(observer, name)(*given)
            connection.send(found)
