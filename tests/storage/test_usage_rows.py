from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from storage.api_keys import select_keys
from storage.bridge import Database
from storage.errors import Denied, InvalidValue
from storage.model import CredentialKind, Organization, Outcome, UsageRecord
from storage.usage_rows import BATCH_ROWS_MAX, COLUMNS, Grouping, insert_usage, select_totals

ORG = UUID(int=7)
START = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)


def usage(**changes: Any) -> UsageRecord:
    record = UsageRecord(
        request_id=uuid4().hex,
        started_at=START,
        org_id=ORG,
        key_id="0123456789ab",
        credential_kind=CredentialKind.BYOK,
        credential_id=uuid4(),
        provider="anthropic",
        endpoint="messages",
        model_asked="claude-x",
        model_answered="claude-x-20260101",
        status=200,
        outcome=Outcome.COMPLETED,
        streamed=True,
        usage_complete=True,
        input_tokens=10,
        output_tokens=20,
        cache_read_tokens=1,
        cache_write_5m_tokens=2,
        cache_write_1h_tokens=3,
        reasoning_tokens=4,
        audio_tokens=5,
        server_tool_calls=6,
        provider_request_id="req_1",
        request_bytes=100,
        response_bytes=1000,
        verify_us=7,
        dial_us=8,
        first_byte_us=9,
        total_us=3_600_000_000,
    )
    return msgspec.structs.replace(record, **changes)


async def test_a_record_is_kept_whole(gateway_db: Database, admin_db: Database) -> None:
    record = usage(credential_id=None, model_answered=None, provider_request_id=None)
    assert await insert_usage(gateway_db, [record]) == 1
    row = await admin_db.fetch_row("SELECT * FROM usage")
    assert row is not None
    kept = {column: row[column] for column in COLUMNS}
    assert kept | {"request_id": kept["request_id"].hex} == msgspec.structs.asdict(record)


async def test_sending_again_adds_nothing(gateway_db: Database, admin_db: Database) -> None:
    batch = [usage() for _ in range(50)]
    assert await insert_usage(gateway_db, batch[:30]) == 30
    assert await insert_usage(gateway_db, batch) == 20
    assert await insert_usage(gateway_db, batch + batch) == 0
    assert await insert_usage(gateway_db, []) == 0
    assert await admin_db.fetch_value("SELECT count(*) FROM usage") == 50


async def test_two_workers_sending_the_same(gateway_db: Database, admin_db: Database) -> None:
    batch = [usage() for _ in range(200)]
    counts: list[int] = []

    async def send(records: list[UsageRecord]) -> None:
        counts.append(await insert_usage(gateway_db, records))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, batch)
        nursery.start_soon(send, batch[:150])
        nursery.start_soon(send, batch[50:])
    assert sum(counts) == 200
    assert await admin_db.fetch_value("SELECT count(*) FROM usage") == 200


async def test_odd_records_find_a_place_and_hold_up_nobody(gateway_db: Database, admin_db: Database) -> None:
    odd = [
        usage(model_asked="a\0b"),
        usage(model_asked="\ud800"),
        usage(model_asked="x" * 100_000, provider_request_id="y" * 100_000),
        usage(input_tokens=2**70, output_tokens=-5, status=2**40),
        usage(request_id="not a uuid \ud800"),
        usage(started_at=datetime(1971, 1, 1, tzinfo=UTC)),
        usage(started_at=datetime(9999, 1, 1, tzinfo=UTC)),
    ]
    assert await insert_usage(gateway_db, [*odd, usage()]) == 8
    assert await insert_usage(gateway_db, odd) == 0
    row = await admin_db.fetch_row("SELECT * FROM usage WHERE request_id = $1", odd[0].request_id)
    assert row is not None
    assert row["model_asked"] == "a\ufffdb"
    row = await admin_db.fetch_row("SELECT * FROM usage WHERE request_id = $1", odd[3].request_id)
    assert row is not None
    assert (row["input_tokens"], row["output_tokens"], row["status"]) == (2**63 - 1, 0, 2**31 - 1)
    assert await admin_db.fetch_value("SELECT max(length(model_asked)) FROM usage") == 256
    # Sums do not overflow.
    [total] = await select_totals(admin_db, ORG)
    assert total.input_tokens > 2**63 - 1


async def test_batches_are_bounded(gateway_db: Database) -> None:
    with pytest.raises(InvalidValue):
        await insert_usage(gateway_db, [usage()] * (BATCH_ROWS_MAX + 1))


async def test_the_current_month_has_a_partition_of_its_own(gateway_db: Database, owner_db: Database) -> None:
    now = datetime.now(UTC)
    await insert_usage(gateway_db, [usage(started_at=now)])
    assert await owner_db.fetch_value(f"SELECT count(*) FROM usage_{now:%Y_%m}") == 1


async def test_the_data_plane_writes_and_does_not_read(gateway_db: Database) -> None:
    await insert_usage(gateway_db, [usage()])
    for sql in ("SELECT * FROM usage", "UPDATE usage SET input_tokens = 0", "DELETE FROM usage"):
        with pytest.raises(Denied):
            await gateway_db.execute(sql)


async def test_keys_learn_when_they_were_last_used(
    gateway_db: Database, admin_db: Database, owner_db: Database, org: Organization
) -> None:
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        VALUES ('0123456789ab', $1, 'k', 'live', 'abcd', $2)
        """,
        org.org_id,
        b"$2b$12$" + b"a" * 53,
    )

    async def last_used() -> datetime | None:
        return (await select_keys(admin_db, org.org_id))[0].last_used_at

    assert await last_used() is None
    await insert_usage(gateway_db, [usage(), usage(started_at=START - timedelta(days=1))])
    assert await last_used() == START
    await insert_usage(gateway_db, [usage(started_at=START + timedelta(seconds=30))])
    assert await last_used() == START
    await insert_usage(gateway_db, [usage(started_at=START + timedelta(minutes=2))])
    assert await last_used() == START + timedelta(minutes=2)
    async with owner_db.transaction() as tx:
        # Somebody is revoking it at this moment: usage does not wait for that.
        await tx.execute("UPDATE api_keys SET name = 'x'")
        await insert_usage(gateway_db, [usage(started_at=START + timedelta(minutes=9))])
    assert await last_used() == START + timedelta(minutes=2)


async def test_totals(gateway_db: Database, admin_db: Database) -> None:
    await insert_usage(
        gateway_db,
        [
            usage(),
            usage(key_id="other0000000", usage_complete=False, model_answered=None),
            usage(started_at=START + timedelta(microseconds=1), model_answered=None, model_asked=None),
            usage(org_id=UUID(int=8)),
        ],
    )
    [total] = await select_totals(admin_db, ORG)
    assert (total.group, total.requests, total.incomplete) == (None, 3, 1)
    assert (total.input_tokens, total.output_tokens, total.cache_read_tokens) == (30, 60, 3)
    assert (total.cache_write_5m_tokens, total.cache_write_1h_tokens) == (6, 9)

    async def groups(by: Grouping) -> dict[str | None, int]:
        return {total.group: total.requests for total in await select_totals(admin_db, ORG, by=by)}

    assert await groups(Grouping.DAY) == {"2026-01-31": 2, "2026-02-01": 1}
    assert await groups(Grouping.KEY) == {"0123456789ab": 2, "other0000000": 1}
    assert await groups(Grouping.MODEL) == {"claude-x-20260101": 1, "claude-x": 1, "": 1}
    [before] = await select_totals(admin_db, ORG, until=START + timedelta(microseconds=1))
    [after] = await select_totals(admin_db, ORG, since=START + timedelta(microseconds=1))
    assert (before.requests, after.requests) == (2, 1)
    [none] = await select_totals(admin_db, UUID(int=9))
    assert (none.requests, none.input_tokens) == (0, 0)
    assert await select_totals(admin_db, UUID(int=9), by=Grouping.DAY) == []


def test_columns_are_the_records_fields_in_order() -> None:
    assert UsageRecord.__struct_fields__ == COLUMNS


async def test_the_table_has_exactly_these_columns(owner_db: Database) -> None:
    rows = await owner_db.fetch(
        """
        SELECT attname::text AS name FROM pg_attribute
         WHERE attrelid = 'usage'::regclass AND attnum > 0 ORDER BY attnum
        """
    )
    assert tuple(row["name"] for row in rows) == COLUMNS
