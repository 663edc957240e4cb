"""Row 24: the same thing told many times at once has one effect."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import uuid4

import trio

from storage.bridge import open_database
from storage.usage_rows import ingest
from storage.usage_tuple import COLUMNS, encode_tuple
from tests.faults.arena import arena, scaled
from tests.faults.conftest import Table
from tests.gateway.conftest import Tenant
from tests.storage.usage_records import usage

TIMES = 20
ROWS = scaled(500, 40)
CLIENTS = scaled(50, 8)


async def test_a_journal_that_is_told_many_times(own_tenant: Tenant, table: Table) -> None:
    """By twenty workers at once, and not in its order."""
    records = [usage(org_id=own_tenant.org_id, key_id=own_tenant.key_id) for _ in range(ROWS)]
    choose = random.Random(7)
    async with open_database(own_tenant.database_url, role=None, connections_max=TIMES) as db:

        async def tell() -> None:
            batch = b"".join(encode_tuple(record) for record in choose.sample(records, len(records)))
            await ingest(db, uuid4(), COLUMNS, batch)

        async with trio.open_nursery() as nursery:
            for _ in range(TIMES):
                nursery.start_soon(tell)
        assert await db.fetch_value("SELECT count(*) FROM usage") == ROWS
        hours = await db.fetch_value("SELECT sum(requests) FROM usage_hourly")
        assert hours == ROWS
    table.add(24, f"journal told {TIMES} times at once", f"{ROWS} rows, 0 doubled, roll-ups the same")


async def test_one_idempotency_key_many_times(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """It is the provider that knows what it has done already: the key reaches it as it was, each time; and
    each time is a request of its own, with one row."""
    async with arena(own_tenant, tmp_path) as stand, trio.open_nursery() as nursery:
        await stand.warm()
        asked = len(stand.history)

        async def ask(number: int) -> None:
            attempt, request = stand.request("tokens=1", stream=False)
            request = request.replace(b"\r\n", b"\r\nidempotency-key: the-same\r\n", 1)
            async with stand.client(number) as client:
                await client.send(request)
                answer = await client.read_answer()
            attempt.status = answer.status
            attempt.take_body(answer.body)

        async with trio.open_nursery() as clients:
            for number in range(CLIENTS):
                clients.start_soon(ask, number)
        attempts = stand.history[asked:]
        assert {one.status for one in attempts} == {200}
        await stand.rows_of(*attempts)
        found = await stand.findings()
        assert found.none, found
        told = (await stand.provider.look("/_sim/ledger?headers=1"))["entries"]
        keys = [dict(entry["headers"]).get("idempotency-key") for entry in told]
        assert keys.count("the-same") == CLIENTS
        nursery.cancel_scope.cancel()
    table.add(24, f"one Idempotency-Key {CLIENTS} times", f"{CLIENTS} went up with it; {CLIENTS} rows")
