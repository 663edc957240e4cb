"""Old months leave; what is young, or does not verify, stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from storage.audit import AuditRow, first_hash, hash_row, select_audit_rows
from storage.audit_chain import verify_chain
from storage.audit_checkpoints import SigningKey, ensure_signing_key
from storage.audit_retention import drop_audit
from storage.bridge import Database
from storage.errors import AppendOnly, Conflict, Denied, InvalidValue
from storage.model import Actor
from storage.sealing import MasterKeys
from tests.storage.test_audit import ORG, append

NOW = datetime.now(UTC)
TIMES = [datetime(2023, 1, 5, tzinfo=UTC), datetime(2023, 1, 9, tzinfo=UTC), datetime(2023, 2, 3, tzinfo=UTC)]
COLUMNS = "org_id, seq, created_at, event, actor_kind, actor_id, subject, details, prev_hash, hash"
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


async def test_nothing_goes_while_an_older_row_is_outside_of_any_month(
    aged: None, owner_db: Database, actor: Actor, master_keys: MasterKeys, key: SigningKey
) -> None:
    await owner_db.execute("ALTER TABLE audit_log_default DISABLE TRIGGER ALL")
    values = "gen_random_uuid(), 1, '2022-01-01', 'a:b', 'cli', 'x', 'y', '{}', '', ''"
    await owner_db.execute(f"INSERT INTO audit_log_default ({COLUMNS}) VALUES ({values})")
    assert await drop_audit(owner_db, actor, master_keys, key) == []


async def test_no_program_can_let_anything_go(admin_db: Database, gateway_db: Database) -> None:
    for db in (admin_db, gateway_db):
        with pytest.raises(Denied):
            await db.fetch("SELECT drop_audit_months($1)", NOW - timedelta(days=400))
