"""Old months leave; what is young, or does not verify, stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import trio

from storage.audit import AuditRow, Event, first_hash, hash_row, record, select_audit_rows
from storage.audit_chain import verify_chain
from storage.audit_checkpoints import SigningKey, ensure_signing_key
from storage.audit_retention import drop_audit, move_strays
from storage.bridge import Database
from storage.errors import AppendOnly, Conflict, Denied, InvalidValue
from storage.model import Actor
from storage.sealing import MasterKeys
from tests.storage.test_audit import ORG, append

NOW = datetime.now(UTC)
TIMES = [datetime(2023, 1, 5, tzinfo=UTC), datetime(2023, 1, 9, tzinfo=UTC), datetime(2023, 2, 3, tzinfo=UTC)]
COLUMNS = "org_id, seq, created_at, event, actor_kind, actor_id, subject, details, prev_hash, hash"
WAITS_FOR_THE_LOG = """
    SELECT EXISTS (SELECT FROM pg_locks
                    WHERE relation = 'audit_log'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted)
"""
OLD = (NOW - datetime(2023, 2, 15, tzinfo=UTC)).days
"""As long ago as the middle of the second month."""


@pytest.fixture
async def key(admin_db: Database, actor: Actor, master_keys: MasterKeys) -> SigningKey:
    return await ensure_signing_key(admin_db, actor, master_keys)


@pytest.fixture
async def aged(owner_db: Database) -> None:
    """Three rows of two months long ago, and two of today, in one chain that verifies."""
    for month, after in (("2023_01", "2023-02-01"), ("2023_02", "2023-03-01")):
        begins = month.replace("_", "-") + "-01"
        await owner_db.execute(
            f"CREATE TABLE audit_log_{month} PARTITION OF audit_log"
            f" FOR VALUES FROM ('{begins} 00:00Z') TO ('{after} 00:00Z');"
            f" SELECT guard_audit_partition('audit_log_{month}')"
        )
        await owner_db.execute(f"ALTER TABLE audit_log_{month} DISABLE TRIGGER ALL")
    before = first_hash(ORG)
    for seq, moment in enumerate(TIMES, 1):
        row = AuditRow(
            org_id=ORG,
            seq=seq,
            created_at=moment,
            event="a:b",
            actor_kind="cli",
            actor_id="x",
            subject="y",
            address=None,
            user_agent=None,
            request_id=None,
            details="{}",
            prev_hash=before,
            hash=b"",
        )
        before = hash_row(row)
        row = msgspec.structs.replace(row, hash=before)
        await owner_db.execute(
            f"INSERT INTO audit_log_{moment:%Y_%m} ({COLUMNS})"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, '{}', $8, $9)",
            *(row.org_id, row.seq, row.created_at, row.event, row.actor_kind, row.actor_id, row.subject),
            *(row.prev_hash, row.hash),
        )
    await owner_db.execute("INSERT INTO audit_heads VALUES ($1, 3, $2)", ORG, before)
    await append(owner_db, count=2)


async def test_old_months_go_and_the_chain_still_verifies(
    aged: None, owner_db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey
) -> None:
    assert (await verify_chain(owner_db, ORG)).rows == 5
    assert await drop_audit(owner_db, actor, master_keys, key, OLD) == ["audit_log_2023_01"]
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.first_seq, report.rows, report.head_seq) == (True, 3, 3, 5)
    assert await drop_audit(owner_db, actor, master_keys, key, OLD) == []
    assert await drop_audit(owner_db, actor, master_keys, key) == ["audit_log_2023_02"]
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.first_seq, report.rows) == (True, 4, 2)
    last = (await select_audit_rows(owner_db, None))[-1]
    assert last.event == "audit:dropped"
    assert "audit_log_2023_02" in last.details


async def test_what_somebody_else_dropped_is_missing(aged: None, owner_db: Database) -> None:
    await owner_db.execute("DROP TABLE audit_log_2023_01")
    report = await verify_chain(owner_db, ORG)
    assert (report.problem_seq, report.problem) == (1, "row 1 is missing")


async def test_a_chain_that_does_not_verify_keeps_everything(
    aged: None, owner_db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey
) -> None:
    await owner_db.execute("UPDATE audit_log_2023_01 SET subject = 'x' WHERE seq = 2 AND false")
    await owner_db.execute("ALTER TABLE audit_log DISABLE TRIGGER ALL")
    await owner_db.execute("UPDATE audit_log_2023_01 SET subject = 'x' WHERE seq = 2")
    with pytest.raises(Conflict, match="row 2 is not as it was written"):
        await drop_audit(owner_db, actor, master_keys, key, OLD)
    assert await owner_db.fetch_value("SELECT count(*) FROM audit_log_2023_01") == 2


async def test_what_is_younger_than_a_year_stays(
    owner_db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey
) -> None:
    with pytest.raises(InvalidValue, match="365 days at least"):
        await drop_audit(owner_db, actor, master_keys, key, 364)
    for function in ("audit_months", "drop_audit_months"):
        with pytest.raises(AppendOnly):
            await owner_db.fetch(f"SELECT * FROM {function}($1)", NOW - timedelta(days=364))


async def test_the_database_wants_a_signed_base(aged: None, owner_db: Database) -> None:
    with pytest.raises(AppendOnly, match="without a signed base"):
        await owner_db.fetch("SELECT drop_audit_months($1)", NOW - timedelta(days=400))


@pytest.fixture
async def strayed(aged: None, owner_db: Database) -> None:
    """The same, as if no partition had been made: all rows are in the default one, under its guard."""
    tables = ["audit_log_2023_01", "audit_log_2023_02", f"audit_log_{NOW:%Y_%m}"]
    await owner_db.execute("; ".join(f"ALTER TABLE audit_log DETACH PARTITION {table}" for table in tables))
    await owner_db.execute("ALTER TABLE audit_log_default DISABLE TRIGGER ALL")
    for table in tables:
        await owner_db.execute(f"INSERT INTO audit_log_default SELECT * FROM {table}")
        await owner_db.execute(f"DROP TABLE {table}")
    for trigger in ("audit_log_chain", "audit_log_refuse_row", "audit_log_refuse_statement"):
        await owner_db.execute(f"ALTER TABLE audit_log_default ENABLE ALWAYS TRIGGER {trigger}")


async def partitions(db: Database) -> dict[str, int]:
    rows = await db.fetch(
        "SELECT tableoid::regclass::text AS name, count(*) AS count FROM audit_log"
        " WHERE org_id = $1 GROUP BY 1",
        ORG,
    )
    return {row["name"]: row["count"] for row in rows}


async def test_rows_outside_of_any_month_get_theirs(
    strayed: None, owner_db: Database, admin_db: Database, actor: Actor
) -> None:
    assert await partitions(owner_db) == {"audit_log_default": 5}
    assert await owner_db.fetch_value("SELECT make_partitions(0)") == 0
    before = await select_audit_rows(owner_db, ORG)
    this = f"audit_log_{NOW:%Y_%m}"
    assert await move_strays(owner_db, actor) == ["audit_log_2023_01", "audit_log_2023_02", this]
    assert await partitions(owner_db) == {"audit_log_2023_01": 2, "audit_log_2023_02": 1, this: 2}
    assert await select_audit_rows(owner_db, ORG) == before
    assert (await select_audit_rows(owner_db, None))[-1].event == "audit:moved"
    assert await move_strays(owner_db, actor) == []
    # As well guarded as any, also what is new; and the log goes on.
    for table in (*await partitions(owner_db), "audit_log_default"):
        for sql in (f"UPDATE {table} SET subject = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            for prefix in ("", "SET LOCAL session_replication_role = replica; "):
                with pytest.raises(AppendOnly):
                    await owner_db.execute(prefix + sql)
    await append(admin_db, count=2)
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.rows, report.head_seq) == (True, 7, 7)


async def test_the_database_drops_nothing_while_an_older_row_is_outside_of_any_month(
    aged: None, owner_db: Database
) -> None:
    await owner_db.execute("ALTER TABLE audit_log_default DISABLE TRIGGER ALL")
    values = "gen_random_uuid(), 1, '2022-01-01', 'a:b', 'cli', 'x', 'y', '{}', '', ''"
    await owner_db.execute(f"INSERT INTO audit_log_default ({COLUMNS}) VALUES ({values})")
    assert await owner_db.fetch_value("SELECT drop_audit_months($1)", NOW - timedelta(days=400)) == []


async def test_retention_heals_what_lies_outside_of_any_month(
    strayed: None, owner_db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey
) -> None:
    assert await drop_audit(owner_db, actor, master_keys, key) == ["audit_log_2023_01", "audit_log_2023_02"]
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.first_seq, report.rows) == (True, 4, 2)


async def test_moving_waits_for_writers_and_loses_nothing(
    strayed: None, owner_db: Database, admin_db: Database, actor: Actor
) -> None:
    """A row is written, and not committed, while all others are copied."""
    moved: list[str] = []

    async def move() -> None:
        moved.extend(await move_strays(owner_db, actor))

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await record(tx, actor, Event.KEY_MINTED, ORG, "late", {})
        nursery.start_soon(move)
        while not await admin_db.fetch_value(WAITS_FOR_THE_LOG):
            await trio.sleep(0.01)
    assert len(moved) == 3
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.rows) == (True, 6)
    assert await owner_db.fetch_value("SELECT count(*) FROM audit_log_default") == 0


async def test_no_program_can_let_anything_go(admin_db: Database, gateway_db: Database) -> None:
    for db in (admin_db, gateway_db):
        with pytest.raises(Denied):
            await db.fetch("SELECT drop_audit_months($1)", NOW - timedelta(days=400))
        with pytest.raises(Denied):
            await db.fetch("SELECT move_audit_strays()")
