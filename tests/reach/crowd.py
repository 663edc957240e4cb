"""A hundred thousand organizations in a real database: `python -m tests.reach.crowd`, or `tox -e crowd`.

Fills the tables (three limits on each key), then does what workers do, with their own code: reads keys,
takes leases as many owners, ships usage of many keys at once, prunes windows, hears notifications, and keeps
house. Printed are CPU of the server and of the client for each key, lease and row, memory of what a worker
remembers, and bytes that a row takes: the coefficients of `bench/capacity/coefficients.toml`.

CPU is each process's own, so a busy machine blurs these figures less than any wall clock; it still blurs
them. What cannot be had within the statement timeout is printed as such, and is a finding.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import trio

from admin.bookkeeping import post_due
from bench.process_watch import cpu_seconds, resident_bytes
from gateway.limits import Limits
from gateway.price_library import Library
from gateway.prices import Prices
from gateway.quota import Ledger
from gateway.snapshot import Snapshot
from gateway.watchdog import Watchdog
from storage.audit_chain import sign_heads
from storage.audit_checkpoints import ensure_signing_key
from storage.bridge import Database, open_database
from storage.changes import CHANNEL
from storage.leases import LeaseAnswer, LeaseRequest, LeaseState, prune_quota, settle_leases
from storage.migrate import migrate
from storage.model import Actor, ActorKind, Limit, LimitKind, Period
from storage.organization_end import select_due
from storage.plans import renew_ceilings
from storage.sealing import MasterKeys
from storage.usage_rows import COLUMNS, ingest
from tests.reach.filled import DATABASE, FILL, Crowd, key_id, org_id
from tests.reach.stand import tell
from tests.storage.usage_records import usage
from tests.storage.usage_tuples import encode_tuple
from tests.support.postgres import PostgresServer, running_server

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="crowd")
BATCH_ROWS = 5000
PAGE = 1000

AUDIT = """
INSERT INTO audit_log (org_id, event, actor_kind, actor_id, subject, details)
SELECT org_id, 'organization:created', 'system', 'crowd', org_id::text, '{{}}' FROM organizations LIMIT {orgs}
"""
WINDOWS = """
INSERT INTO quota_windows (limit_id, window_start)
SELECT limit_id, date_trunc('minute', now()) - make_interval(mins => n)
  FROM limits CROSS JOIN generate_series({first}, {last}) n WHERE period = 'minute'
ON CONFLICT DO NOTHING
"""


async def measure(url: str, server: PostgresServer, given: argparse.Namespace) -> None:
    await migrate(url)
    began = time.perf_counter()
    await trio.to_thread.run_sync(server.sql, FILL.format(orgs=given.orgs, keys=given.keys), DATABASE)
    await trio.to_thread.run_sync(server.sql, "VACUUM ANALYZE", DATABASE)
    tell(
        "filled", f"{given.orgs:,} organizations, {given.keys:,} keys in {time.perf_counter() - began:.0f} s"
    )
    async with (
        open_database(url, role="karta_admin", connections_max=1) as admin,
        open_database(url, role="karta_gateway", connections_max=1) as gateway,
    ):
        crowd = Crowd(server, admin, gateway, given)
        for part in PARTS:
            if given.only is None or part.__name__ in given.only.split(","):
                await part(crowd, given)


async def snapshot(crowd: Crowd, given: argparse.Namespace) -> None:
    """What keys cost that a worker remembers: to read, to read again, and to keep."""
    limits = Limits()
    snapshot = Snapshot(crowd.gateway, limits, Watchdog(), Prices(Library(), 0))
    ids = [key_id(number) for number in range(1, 1 + min(crowd.keys, given.remembered))]
    await snapshot.read_many(ids[:PAGE])
    gc.collect()
    before = resident_bytes([os.getpid()])
    async with crowd.spent("a key read by a worker", len(ids)):
        records = await snapshot.read_many(ids)
    for record in records.values():
        snapshot.keep(record)
    gc.collect()
    kept = (resident_bytes([os.getpid()]) - before) / len(ids)
    tell("memory of a remembered key with 3 limits", f"{kept / 1024:.1f} KiB")
    async with crowd.spent("a key read again", len(ids)):
        await snapshot.refresh(ids)
    pages = [ids[start : start + PAGE] for start in range(0, min(len(ids), 10 * PAGE), PAGE)]
    stalls = [await longest_stall(partial(snapshot.refresh, page)) for page in pages]
    tell("longest stretch of CPU in a refresh", f"{sorted(stalls)[len(stalls) // 2] * 1000:.1f} ms, median")


async def longest_stall(do: Callable[[], Awaitable[None]]) -> float:
    """The most CPU that this process used between two turns of another task of it, in seconds."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        last = time.process_time()
        while True:
            await trio.lowlevel.checkpoint()
            now = time.process_time()
            longest, last = max(longest, now - last), now

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await do()
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return longest


async def ledger(_crowd: Crowd, given: argparse.Namespace) -> None:
    """What a worker's own book of limits costs: memory, and looking it over each second."""
    count = min(given.accounts, 100_000)
    limits = [
        Limit(
            limit_id=n,
            org_id=UUID(int=n),
            key_id=None,
            model=None,
            kind=LimitKind.TOKENS,
            period=Period.MONTH,
            amount=10**15,
            hard=True,
            thresholds=(),
        )
        for n in range(1, count + 1)
    ]
    gc.collect()
    before = resident_bytes([os.getpid()])
    book, now = Ledger(1), time.time_ns() // 1000
    for limit in limits:
        book.reserve([limit], None, now, 1000, 0)
    asked = book.wanted(100.0, now)
    while asked:
        book.apply(
            [
                LeaseAnswer(one.limit_id, one.window_start, LeaseState.OPEN, one.wanted, 10**15, 1)
                for one in asked
            ],
            100.0,
        )
        asked = book.wanted(100.0, now)
    gc.collect()
    tell("memory of a limit in use", f"{(resident_bytes([os.getpid()]) - before) / count:.0f} bytes")
    for limit in limits:
        found = book.reserve([limit], None, now, 1000, 0)
        found.settle(1000, 0)  # type: ignore[union-attr]
    began = time.process_time()
    requests = book.wanted(101.5, now)
    spent = time.process_time() - began
    tell(
        "looking over a limit in use",
        f"{spent / count * 1e6:.2f} µs each; {spent * 1000:.0f} ms for {count:,}",
    )
    tell("then asked for", f"{len(requests):,} leases")


async def leases(crowd: Crowd, given: argparse.Namespace) -> None:
    """What a lease costs the server, by how many owners have one of the limit, and how many ask at once."""
    minute = int(time.time()) // 60 * 60
    rows = await crowd.admin.fetch("SELECT limit_id FROM limits WHERE period = 'minute' LIMIT 10000")
    ids = [row["limit_id"] for row in rows]

    def ask(some: list[int], turn: int) -> list[LeaseRequest]:
        return [LeaseRequest(one, minute, 1, 1000 * (turn - 1), 1000 * (turn - 1), 1000, 1) for one in some]

    async def settle(db: Database, owner: UUID, some: list[int], turn: int) -> None:
        await settle_leases(db, owner, turn, ask(some, turn))

    owner = uuid4()
    for size in (1, 100, 1000, len(ids)):
        some, times = ids[:size], max(3, 1000 // size)
        await settle(crowd.gateway, owner, some, size * 10_000 + 1)
        async with crowd.spent(f"a lease, in a call of {size}", size * times):
            for turn in range(2, times + 2):
                await settle(crowd.gateway, owner, some, size * 10_000 + turn)
    hot = ids[:100]
    for owners in given.owners:
        await crowd_owners(crowd, hot, owners, minute)
        async with crowd.spent(f"a lease of which {owners} others have one", 100 * 10):
            for turn in range(10**9 + owners * 100, 10**9 + owners * 100 + 10):
                await settle(crowd.gateway, owner, hot, turn)
    await contention(crowd, given, ids[0], minute)


async def crowd_owners(crowd: Crowd, ids: list[int], owners: int, minute: int) -> None:
    sql = f"""
        INSERT INTO quota_leases (limit_id, window_start, owner, held, acquired, opened, turn, expires_at)
        SELECT l, to_timestamp({minute}), lpad(to_hex(n), 32, '0')::uuid, 1, 1, 1, 1,
               now() + interval '1 hour'
          FROM unnest('{{{",".join(map(str, ids))}}}'::bigint[]) l, generate_series(1, {owners}) n
        ON CONFLICT DO NOTHING
    """
    await trio.to_thread.run_sync(crowd.server.sql, sql, DATABASE)
    # As autovacuum would within a minute.
    await trio.to_thread.run_sync(crowd.server.sql, "VACUUM ANALYZE quota_windows, quota_leases", DATABASE)


async def contention(crowd: Crowd, given: argparse.Namespace, hot: int, minute: int) -> None:
    """Many sessions that all refill one limit: how many refills a second its row allows."""
    url = crowd.server.url(DATABASE)
    for sessions in given.sessions:
        done = 0

        async def tick(db: Database) -> None:
            nonlocal done
            owner, turn = uuid4(), 0
            while True:
                turn += 1
                await settle_leases(db, owner, turn, [LeaseRequest(hot, minute, 1, turn, turn, 1, 1)])
                done += 1

        async with AsyncExitStack() as stack:
            dbs = [
                await stack.enter_async_context(open_database(url, role="karta_gateway", connections_max=1))
                for _ in range(sessions)
            ]
            for db in dbs:
                await db.fetch_value("SELECT 1")
            with trio.move_on_after(given.seconds):
                async with trio.open_nursery() as nursery:
                    for db in dbs:
                        nursery.start_soon(tick, db)
        tell(f"refills of one limit by {sessions} at once", f"{done / given.seconds:.0f} a second")


async def shipping(crowd: Crowd, given: argparse.Namespace) -> None:
    """What a usage row costs and takes where each is of another key, and where few keys have many."""
    owner, started = uuid4(), datetime.now(UTC)
    for keys in (20, min(crowd.keys, BATCH_ROWS)):
        batches = []
        for batch in range(given.batches + 1):
            numbers = [1 + (batch * BATCH_ROWS + n) % keys for n in range(BATCH_ROWS)]
            batches.append(
                b"".join(
                    encode_tuple(
                        usage(
                            org_id=org_id(number, crowd.orgs),
                            key_id=key_id(number),
                            started_at=started + timedelta(microseconds=n),
                        )
                    )
                    for n, number in enumerate(numbers)
                )
            )
        await ingest(crowd.gateway, owner, tuple(COLUMNS), batches[0])
        before = await sizes(crowd)
        async with crowd.spent(f"a usage row, {keys} keys in a batch", given.batches * BATCH_ROWS):
            for tuples in batches[1:]:
                await ingest(crowd.gateway, owner, tuple(COLUMNS), tuples)
        after = await sizes(crowd)
        rows = given.batches * BATCH_ROWS
        tell(
            "bytes a row: journal, log, table",
            f"{len(batches[1]) / BATCH_ROWS:.0f}, "
            f"{(after[0] - before[0]) / rows:.0f}, {(after[1] - before[1]) / rows:.0f}",
        )
    hourly = await crowd.admin.fetch_value("SELECT pg_total_relation_size('usage_hourly')")
    count = await crowd.admin.fetch_value("SELECT count(*) FROM usage_hourly")
    tell("bytes of an hourly sum", f"{hourly / max(count, 1):.0f} ({count:,} of them)")


async def sizes(crowd: Crowd) -> tuple[int, int]:
    """How far the log has come, and how large the requests' partitions are."""
    row = await crowd.admin.fetch_row(
        """
        SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS log,
               (SELECT sum(pg_total_relation_size(relid))
                  FROM pg_partition_tree('usage') WHERE isleaf) AS kept
        """
    )
    assert row is not None
    return int(row["log"]), int(row["kept"])


async def windows(crowd: Crowd, given: argparse.Namespace) -> None:
    """What the windows of minutes come to, and what it costs to let old ones go."""
    first, last = 61, 60 + given.minutes
    await trio.to_thread.run_sync(crowd.server.sql, WINDOWS.format(first=1, last=given.minutes), DATABASE)
    size = await crowd.admin.fetch_value("SELECT pg_total_relation_size('quota_windows')")
    count = await crowd.admin.fetch_value("SELECT count(*) FROM quota_windows")
    tell("bytes of a window", f"{size / count:.0f} ({count:,} of them)")
    async with crowd.spent("to find no window to prune", 1):
        await prune_quota(crowd.gateway)
    await trio.to_thread.run_sync(crowd.server.sql, WINDOWS.format(first=first, last=last), DATABASE)
    async with crowd.spent("to prune 1,000 windows", 10):
        for _ in range(10):
            await prune_quota(crowd.gateway)


async def notices(crowd: Crowd, given: argparse.Namespace) -> None:
    """What a notification costs by how many listen."""
    url = crowd.server.url(DATABASE)
    for listeners in given.sessions:
        async with AsyncExitStack() as stack:
            db = await stack.enter_async_context(open_database(url, role=None, connections_max=1))
            heard = [await stack.enter_async_context(db.listen(CHANNEL)) for _ in range(listeners)]
            pids = [row["pid"] for row in await db.fetch("SELECT pid FROM pg_stat_activity")]
            before, count = cpu_seconds(pids), 200
            for number in range(count):
                await db.execute("SELECT pg_notify($1, $2)", CHANNEL, str(number))
                for one in heard:
                    await one.receive()
            spent = (cpu_seconds(pids) - before) / count
        tell(f"a notification with {listeners} listeners", f"server {spent * 1e6:.0f} µs of CPU")


async def housekeeping(crowd: Crowd, given: argparse.Namespace) -> None:
    """What goes through all organizations, each once, as the admin programs do it by themselves."""
    await trio.to_thread.run_sync(crowd.server.sql, AUDIT.format(orgs=given.chains), DATABASE)
    admin = crowd.admin

    async def sign() -> None:
        await sign_heads(admin, await ensure_signing_key(admin, ACTOR, MasterKeys({1: bytes(32)})))

    rounds: tuple[tuple[str, int, Callable[[], Awaitable[object]]], ...] = (
        ("looking for organizations whose end is due", crowd.orgs, lambda: select_due(admin)),
        ("renewing ceilings, 500 at most", 500, lambda: renew_ceilings(admin, ACTOR)),
        ("signing a chain's head", given.chains, sign),
        ("nothing to sign", given.chains, sign),
        ("posting what is due, and the month's credit", crowd.orgs, lambda: post_due(admin)),
        ("posting again, with nothing due", crowd.orgs, lambda: post_due(admin)),
    )
    for what, count, do in rounds:
        async with crowd.spent(what, count, db=admin):
            await do()


async def backend(crowd: Crowd, given: argparse.Namespace) -> None:
    """Memory of a worker's session in the database, that nobody shares with it."""
    pid = await crowd.gateway.fetch_value("SELECT pg_backend_pid()")
    lines = (await trio.Path(f"/proc/{pid}/smaps_rollup").read_text()).splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    tell("private memory of a session", f"{private / 1024:.1f} MiB")


PARTS = (snapshot, ledger, leases, shipping, backend, notices, windows, housekeeping)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--orgs", type=int, default=100_000)
    made.add_argument("--keys", type=int, default=100_000)
    made.add_argument("--remembered", type=int, default=20_000, help="keys that one worker reads")
    made.add_argument("--accounts", type=int, default=60_000, help="limits in use of one worker")
    made.add_argument("--owners", type=int, nargs="*", default=[10, 100, 1000])
    made.add_argument("--sessions", type=int, nargs="*", default=[1, 10, 50])
    made.add_argument("--batches", type=int, default=6, help="of usage rows")
    made.add_argument("--minutes", type=int, default=10, help="of windows of each limit")
    made.add_argument(
        "--chains", type=int, default=10_000, help="organizations with something in their audit log"
    )
    made.add_argument("--seconds", type=float, default=2.0)
    made.add_argument("--only", help=f"some of {','.join(part.__name__ for part in PARTS)}")
    return made


def run(server: PostgresServer, given: argparse.Namespace) -> None:
    server.create_database(DATABASE)
    try:
        trio.run(measure, server.url(DATABASE), server, given)
    finally:
        server.drop_database(DATABASE)


def main() -> None:
    given = parser().parse_args()
    with running_server() as server:
        run(server, given)


if __name__ == "__main__":
    main()
