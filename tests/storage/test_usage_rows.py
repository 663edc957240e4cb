"""Usage on a real server: kept whole, once, whatever it holds; and counted as often as it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from storage.api_keys import select_keys
from storage.bridge import Database, open_database
from storage.errors import Denied, InvalidValue
from storage.model import Organization, UsageRecord
from storage.usage_rows import BATCH_BYTES_MAX, COLUMNS, LATE_PREFIX, ingest
from storage.usage_tuple import fit_tuple, split_tuples
from tests.storage.lock_waits import until_waiting
from tests.storage.usage_records import ORG, START, insert_usage, usage
from tests.storage.usage_tuples import encode_tuple


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
    # Or twice in one batch, which was never sent before.
    twice = [usage()] * 2
    assert await insert_usage(gateway_db, twice) == 1
    assert await admin_db.fetch_value("SELECT sum(requests) FROM usage_hourly") == 51


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


async def test_two_workers_sending_the_same_in_two_orders(
    database_url: str, gateway_db: Database, admin_db: Database
) -> None:
    """Each waits for a row of the other's. Who gives up stores what is left, and does not fail."""
    one, other = sorted((usage() for _ in range(2)), key=lambda it: it.request_id)
    names = ", ".join(COLUMNS)
    copy = f"INSERT INTO usage ({names}) SELECT {names} FROM copies WHERE request_id = $1"
    stored: list[int] = []

    async def send() -> None:
        stored.append(await insert_usage(gateway_db, [other, one]))

    assert await insert_usage(gateway_db, [one, other]) == 2
    async with open_database(database_url, role=None, connections_max=2) as db:
        await db.execute("CREATE TABLE copies AS SELECT * FROM usage")
        await db.execute("DELETE FROM usage")
        async with trio.open_nursery() as nursery, db.transaction() as tx:
            # Who looks for deadlocks is who finds one, and gives up.
            await tx.execute("SET LOCAL deadlock_timeout = '60s'")
            await tx.execute(copy, UUID(one.request_id))
            nursery.start_soon(send)
            await until_waiting(db)
            await tx.execute(copy, UUID(other.request_id))
    assert stored == [0]
    assert await admin_db.fetch_value("SELECT count(*) FROM usage") == 2


async def test_late_work_is_counted_once_whenever_it_is_looked_at(
    gateway_db: Database, admin_db: Database, owner_db: Database
) -> None:
    first = [usage(request_id=f"{LATE_PREFIX}{number:024x}") for number in range(3)]
    later = [msgspec.structs.replace(one, started_at=START + timedelta(days=40)) for one in first]
    # Also within a batch, and beside requests of its own kind.
    assert await insert_usage(gateway_db, [*later[:1], *first[:2], usage()]) == 3
    assert await insert_usage(gateway_db, later[:2]) == 0
    assert await insert_usage(gateway_db, [*first, *later, usage()]) == 2
    rows = await admin_db.fetch("SELECT started_at FROM usage ORDER BY 1")
    assert [row["started_at"] for row in rows] == [START] * 5
    # Ordinary ids leave no trace there.
    await insert_usage(gateway_db, [usage(request_id=f"{number:x}" * 32) for number in range(16)])
    assert await owner_db.fetch_value("SELECT count(*) FROM late_usage") == 3


async def test_two_workers_sending_the_same_late_work(gateway_db: Database, admin_db: Database) -> None:
    ids = [f"{LATE_PREFIX}{number:024x}" for number in range(100)]
    counts: list[int] = []

    async def send(seconds: int) -> None:
        started_at = START + timedelta(seconds=seconds)
        records = [usage(request_id=one, started_at=started_at) for one in ids]
        counts.append(await insert_usage(gateway_db, records))

    async with trio.open_nursery() as nursery:
        for seconds in range(3):
            nursery.start_soon(send, seconds)
    assert sum(counts) == 100
    assert await admin_db.fetch_value("SELECT count(DISTINCT request_id) FROM usage") == 100


def spoilt(column: str, content: bytes | None, **changes: Any) -> bytes:
    """A tuple whose one field is these bytes."""
    [fields] = split_tuples(encode_tuple(usage(**changes)), len(COLUMNS))
    fields[list(COLUMNS).index(column)] = content
    return len(COLUMNS).to_bytes(2, "big") + b"".join(
        b"\xff\xff\xff\xff" if field is None else len(field).to_bytes(4, "big") + field for field in fields
    )


async def test_odd_rows_find_a_place_and_hold_up_nobody(gateway_db: Database, admin_db: Database) -> None:
    names = tuple(COLUMNS)
    odd = [
        spoilt("model_asked", b"a\0b", request_id=UUID(int=1).hex),
        spoilt("model_asked", b"\xed\xa0\x80"),
        spoilt("model_asked", b"x" * 100_000),
        spoilt("input_tokens", b"\xff" * 4, output_tokens=2**31 - 1, request_id=UUID(int=2).hex),
        spoilt("input_tokens", b"\0" * 8),
        spoilt("input_tokens", None),
        spoilt("streamed", b""),
        spoilt("request_id", b"no uuid"),
        spoilt("started_at", b"\x7f" + b"\xff" * 7),
        spoilt("started_at", b"\x80" + b"\0" * 7),
        spoilt("cost_picodollars", b"\x7f" + b"\xff" * 7, charged_picodollars=2**63 - 1),
        spoilt("cost_picodollars", b"\x7f" + b"\xff" * 7, charged_picodollars=2**63 - 1),
    ]
    assert await ingest(gateway_db, uuid4(), names, b"".join([*odd, encode_tuple(usage())])) == 13
    assert await ingest(gateway_db, uuid4(), names, b"".join(odd)) == 0
    # The same as a whole, now that nothing in it needs mending.
    rows = [*odd[:2], spoilt("cost_picodollars", b"\x7f" + b"\xff" * 7, charged_picodollars=2**63 - 1)]
    mended = [fit_tuple(names, next(split_tuples(row, len(names)))) for row in rows]
    assert await ingest(gateway_db, uuid4(), names, b"".join(mended)) == 1
    row = await admin_db.fetch_row("SELECT * FROM usage WHERE request_id = $1", UUID(int=1))
    assert row is not None
    assert row["model_asked"] == "a\ufffdb"
    row = await admin_db.fetch_row("SELECT * FROM usage WHERE request_id = $1", UUID(int=2))
    assert row is not None
    assert (row["input_tokens"], row["output_tokens"]) == (0, 2**31 - 1)
    assert await admin_db.fetch_value("SELECT max(length(model_asked)) FROM usage") == 256
    assert await admin_db.fetch_value("SELECT max(charged_picodollars) FROM usage_hourly") == 2**63 - 1


async def test_an_older_journal_lacks_columns(gateway_db: Database, admin_db: Database) -> None:
    names = [*list(COLUMNS)[:3], "outcome"]
    fields = next(split_tuples(encode_tuple(usage()), len(COLUMNS)))
    short = fit_tuple(names, [*fields[:3], b"completed"])
    assert await ingest(gateway_db, uuid4(), names, short) == 1
    row = await admin_db.fetch_row("SELECT * FROM usage")
    assert row is not None
    assert (row["org_id"], row["key_id"], row["total_us"], row["cost_picodollars"]) == (ORG, "", 0, None)


async def test_what_is_refused(gateway_db: Database, admin_db: Database) -> None:
    good, names = encode_tuple(usage()), tuple(COLUMNS)
    for columns, tuples in (
        (names, good * (BATCH_BYTES_MAX // len(good) + 1)),
        ((*names, "colour"), good),
        (names, good[:-1]),
        (names, good + good[:7]),
        (names[:-1], good),
    ):
        with pytest.raises(InvalidValue):
            await ingest(gateway_db, uuid4(), columns, tuples)
    assert await admin_db.fetch_value("SELECT count(*) FROM usage") == 0
    assert await ingest(gateway_db, uuid4(), names, b"") == 0


async def test_the_current_month_has_a_partition_of_its_own(gateway_db: Database, owner_db: Database) -> None:
    now = datetime.now(UTC)
    await insert_usage(gateway_db, [usage(started_at=now)])
    assert await owner_db.fetch_value(f"SELECT count(*) FROM usage_{now:%Y_%m}") == 1


async def test_the_data_plane_writes_and_does_not_read(gateway_db: Database) -> None:
    await insert_usage(gateway_db, [usage()])
    for sql in (
        *("SELECT * FROM usage", "SELECT org_id FROM usage", "SELECT * FROM usage_hourly"),
        *("UPDATE usage SET input_tokens = 0", "DELETE FROM usage"),
    ):
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


async def test_hours_add_up(gateway_db: Database, admin_db: Database) -> None:
    batch = [
        usage(),
        usage(usage_complete=False, cost_picodollars=None, started_at=START - timedelta(minutes=30)),
        usage(started_at=START + timedelta(microseconds=1)),
        usage(model_answered=None),
        usage(model_answered=None, model_asked=None),
        usage(key_id="other0000000"),
    ]
    await insert_usage(gateway_db, batch[:3])
    await insert_usage(gateway_db, batch)
    rows = await admin_db.fetch(
        "SELECT * FROM usage_hourly ORDER BY org_id, hour, key_id, model_asked, model"
    )
    assert [(row["hour"].hour, row["key_id"][:1], row["model"], row["requests"]) for row in rows] == [
        (23, "0", "", 1),
        (23, "0", "claude-x", 1),
        (23, "0", "claude-x-20260101", 2),
        (23, "o", "claude-x-20260101", 1),
        (0, "0", "claude-x-20260101", 1),
    ]
    row = rows[2]
    assert (row["incomplete"], row["unpriced"], row["input_tokens"], row["output_tokens"]) == (1, 1, 20, 40)
    assert (row["cost_picodollars"], row["charged_picodollars"]) == (1_234_500_000, 2 * 1_234_500_000)
    summed = [
        *("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens"),
        *("input_audio_tokens", "output_audio_tokens", "server_tool_calls"),
    ]
    assert [row[name] for name in summed] == [2, 4, 6, 8, 10, 12, 14]


def test_columns_are_the_records_fields_in_order() -> None:
    assert UsageRecord.__struct_fields__ == tuple(COLUMNS)


async def test_the_table_has_exactly_these_columns(owner_db: Database) -> None:
    rows = await owner_db.fetch(
        """
        SELECT attname::text AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
         WHERE attrelid = 'usage'::regclass AND attnum > 0
        """
    )
    types = {row["name"]: row["type"].replace("timestamp with time zone", "timestamptz") for row in rows}
    assert types == COLUMNS
