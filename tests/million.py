"""A million requests of one organization in a month: `python -m tests.million`, or `tox -e million`.

Shows what a report of the month costs, with its plan, and what shipping the rows cost: client and server CPU
of the very statements that the gateway runs, with three limits on each key. Figures, not a test: it fails
only when the report is ten times slower than it is meant to be.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import trio

from storage import usage_report
from storage.bridge import Database, open_database
from storage.limits import LimitScope, set_limit
from storage.migrate import migrate
from storage.model import Actor, ActorKind, LimitKind, Period, Plan
from storage.organizations import create_organization
from storage.queries import Record
from storage.usage_rows import COLUMNS, ingest
from tests.storage.usage_records import usage
from tests.storage.usage_tuples import encode_tuple
from tests.support.postgres import running_server

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="million")
REPORT_MS_MAX = 1000
TEMPLATES = 2000
"""Distinct rows that are made in Python; the others differ from them in id and time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--batch", type=int, default=5000)
    given = parser.parse_args()
    with running_server() as server:
        server.sql("CREATE DATABASE million")
        trio.run(measure, server.url("million"), given.rows, given.keys, given.batch)


async def measure(url: str, rows: int, keys: int, batch: int) -> None:
    await migrate(url)
    async with (
        open_database(url, role="karta_admin") as admin,
        open_database(url, role=None) as owner,
        open_database(url, role="karta_gateway", connections_max=1) as gateway,
    ):
        org = await create_organization(admin, ACTOR, name="Million", plan=Plan.PRO)
        key_ids = [f"key{number:09}" for number in range(keys)]
        for key_id in key_ids:
            await _make_key(owner, admin, org.org_id, key_id)
        await _ship(gateway, org.org_id, key_ids, rows, batch)
        await owner.execute("VACUUM ANALYZE")
        await _report(admin, org.org_id)


async def _make_key(owner: Database, admin: Database, org_id: UUID, key_id: str) -> None:
    await owner.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        VALUES ($1, $2, 'k', 'live', 'abcd', $3)
        """,
        key_id,
        org_id,
        b"$2b$12$" + b"a" * 53,
    )
    for kind, period in (
        (LimitKind.REQUESTS, Period.MINUTE),
        (LimitKind.TOKENS, Period.MINUTE),
        (LimitKind.MONEY, Period.MONTH),
    ):
        await set_limit(admin, ACTOR, LimitScope(key_id=key_id, kind=kind, period=period), 10**18)


async def _ship(db: Database, org_id: UUID, key_ids: list[str], rows: int, batch: int) -> None:
    """The rows in the order of their time, as they would come; figures for all of them."""
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    span_us = (now - month) // timedelta(microseconds=1)
    choose = random.Random(1)
    heads, tails = [], []
    for _ in range(TEMPLATES):
        model = choose.choice(["claude-fable-5", "claude-opus-5", "gpt-6", "gpt-6-mini"])
        record = usage(
            org_id=org_id,
            key_id=choose.choice(key_ids),
            model_asked=model,
            model_answered=f"{model}-2026",
            input_tokens=choose.randint(1, 50_000),
            output_tokens=choose.randint(1, 5000),
            cost_picodollars=choose.randint(1, 10**11),
        )
        encoded = encode_tuple(record)
        # Count, length and id; length and time; and the rest.
        heads.append(encoded[:6])
        tails.append(encoded[34:])
    first_us = (month - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    owner = uuid4()
    pid = await db.fetch_value("SELECT pg_backend_pid()")
    client, server, wall = 0.0, _cpu_seconds(pid), 0.0
    for start in range(0, rows, batch):
        tuples = bytearray()
        for number in range(start, min(start + batch, rows)):
            moment = (first_us + span_us * number // rows).to_bytes(8, "big")
            choice = choose.randrange(TEMPLATES)
            tuples += heads[choice] + os.urandom(16) + b"\0\0\0\x08" + moment + tails[choice]
        before, began = time.process_time(), time.perf_counter()
        await ingest(db, owner, tuple(COLUMNS), bytes(tuples))
        client += time.process_time() - before
        wall += time.perf_counter() - began
    server = _cpu_seconds(pid) - server
    print(f"{rows:,} rows in batches of {batch:,}, {len(key_ids)} keys with three limits each")
    print(f"shipping: client {client / rows * 1e6:.1f} µs, server {server / rows * 1e6:.1f} µs of CPU a row:")
    print(f"{rows / (client + server):,.0f} rows/s per core; {rows / wall:,.0f} rows/s by the wall clock")


async def _report(db: Database, org_id: UUID) -> None:
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    print(f"sums: {await db.fetch_value('SELECT count(*) FROM usage_hourly'):,}")
    slowest = 0.0
    for by in (None, *usage_report.Grouping):
        times = []
        for _ in range(9):
            began = time.perf_counter()
            await usage_report.select_totals(db, org_id, since=month, by=by)
            times.append((time.perf_counter() - began) * 1000)
        slowest = max(slowest, min(times))
        middle = statistics.median(times)
        print(
            f"report of the month by {by or 'nothing'}: {min(times):.0f} ms at best, {middle:.0f} as a rule"
        )
    explaining = _Explaining(db)
    # From within an hour, so that both parts of the query have something to do.
    since = month + timedelta(minutes=30)
    await usage_report.select_totals(explaining, org_id, since=since, by=usage_report.Grouping.DAY)
    if slowest > REPORT_MS_MAX:
        sys.exit("the report is far too slow")


class _Explaining(Database):
    """A database that shows the plans of what it is asked."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def _query(self, method: str, sql: str, args: tuple[object, ...]) -> list[Record]:
        for row in await self._db.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {sql}", *args):
            print(row["QUERY PLAN"])
        return []


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
