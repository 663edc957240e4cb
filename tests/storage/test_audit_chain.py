"""What was done to a chain shows, and the first bad row is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from storage import audit_chain
from storage.audit import SYSTEM_CHAIN, first_hash, hash_row, select_audit_rows
from storage.audit_chain import chains, sign_heads, verify_chain
from storage.audit_checkpoints import (
    Checkpoint,
    SigningKey,
    ensure_signing_key,
    insert_checkpoint,
    select_last_checkpoint,
    trusted_keys,
)
from storage.bridge import Database
from storage.errors import AppendOnly
from storage.model import Actor
from storage.sealing import MasterKeys
from tests.storage.test_audit import MONTH, ORG, append, tamper


@pytest.fixture
async def key(admin_db: Database, actor: Actor, master_keys: MasterKeys) -> SigningKey:
    return await ensure_signing_key(admin_db, actor, master_keys)


async def sign(db: Database, key: SigningKey) -> list[Checkpoint]:
    signed, problems = await sign_heads(db, key)
    assert problems == []
    return [one for one in signed if one.org_id == ORG]


async def rewrite(owner_db: Database, since: int) -> None:
    """All rows from a number on, told otherwise and chained anew, head and all: only checkpoints show it."""
    rows = await select_audit_rows(owner_db, ORG)
    before = rows[since - 2].hash if since > 1 else first_hash(ORG)
    statements = []
    for row in rows[since - 1 :]:
        forged = msgspec.structs.replace(row, subject="forged", prev_hash=before)
        before = hash_row(forged)
        statements.append(
            f"UPDATE audit_log SET subject = 'forged', prev_hash = '\\x{forged.prev_hash.hex()}',"
            f" hash = '\\x{before.hex()}' WHERE org_id = '{ORG}' AND seq = {row.seq}"
        )
    statements.append(f"UPDATE audit_heads SET hash = '\\x{before.hex()}' WHERE org_id = '{ORG}'")
    await tamper(owner_db, "; ".join(statements))


async def test_windows_of_any_size_find_the_same(owner_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(owner_db, count=7)
    await tamper(owner_db, "UPDATE audit_log SET subject = 'x' WHERE seq = 5")
    for size in (1, 2, 4, 5, 7, 100):
        monkeypatch.setattr(audit_chain, "WINDOW_ROWS", size)
        report = await verify_chain(owner_db, ORG)
        assert (report.problem_seq, report.rows) == (5, 4)
    await tamper(owner_db, f"UPDATE audit_log SET subject = 'key4' WHERE seq = 5 AND org_id = '{ORG}'")
    for size in (1, 2, 7):
        monkeypatch.setattr(audit_chain, "WINDOW_ROWS", size)
        assert (await verify_chain(owner_db, ORG)).intact


async def test_halves_side_by_side_name_the_first_bad_row(
    owner_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_chain, "WINDOW_ROWS", 2)
    await append(owner_db, count=8)
    rows = await select_audit_rows(owner_db, ORG)
    for bad in rows:
        # A row that is as its hash says, which is not what the next one follows: above all at the seam.
        forged = msgspec.structs.replace(bad, subject="forged")
        await tamper(
            owner_db,
            f"UPDATE audit_log SET subject = 'forged', hash = '\\x{hash_row(forged).hex()}'"
            f" WHERE seq = {bad.seq}",
        )
        report = await verify_chain(owner_db, ORG)
        if bad.seq < 8:
            assert report.problem == f"row {bad.seq + 1} does not follow the row before it"
        else:
            assert "the chain's head is not the hash of row 8" in str(report.problem)
        assert (report.problem_seq, report.rows) == (bad.seq + 1, bad.seq)
        # In both halves: the first counts.
        await tamper(owner_db, "UPDATE audit_log SET subject = 'x' WHERE seq = 7")
        report = await verify_chain(owner_db, ORG)
        assert report.problem_seq == min(bad.seq + 1, 7)
        for row in (bad, rows[6]):
            await tamper(
                owner_db,
                f"UPDATE audit_log SET subject = '{row.subject}', hash = '\\x{row.hash.hex()}'"
                f" WHERE seq = {row.seq}",
            )
    assert (await verify_chain(owner_db, ORG)).intact
    await tamper(owner_db, "DELETE FROM audit_log WHERE seq = 4")
    report = await verify_chain(owner_db, ORG)
    assert (report.problem_seq, report.problem) == (4, "row 4 is missing")


async def test_database_and_python_agree_on_the_canonical_form(owner_db: Database) -> None:
    """With everything that a row can hold: what is no ASCII, what is empty, and what is not there."""
    await owner_db.execute(
        """
        INSERT INTO audit_log (org_id, event, actor_kind, actor_id, subject, address, user_agent, details)
        VALUES ($1, 'a:b', 'cli', 'Ünï ✓', '', '', NULL, '{"b": [1.50, "é"], "a": null}')
        """,
        ORG,
    )
    [row] = await select_audit_rows(owner_db, ORG)
    assert hash_row(row) == row.hash
    assert (await verify_chain(owner_db, ORG)).intact


async def test_a_chain_that_was_written_anew_does_not_meet_its_checkpoints(
    owner_db: Database, admin_db: Database, key: SigningKey
) -> None:
    await append(admin_db, count=3)
    await sign(admin_db, key)
    await append(admin_db, count=3)
    await sign(admin_db, key)
    await append(admin_db, count=2)
    assert (await verify_chain(admin_db, ORG)).checkpoints == 2
    await rewrite(owner_db, 7)
    assert (await verify_chain(admin_db, ORG)).intact, "behind the last checkpoint nothing vouches for it"
    await rewrite(owner_db, 5)
    report = await verify_chain(admin_db, ORG)
    assert report.problem_seq == 4
    assert "rows 4 to 6 are not those that were signed" in str(report.problem)
    await rewrite(owner_db, 1)
    assert (await verify_chain(admin_db, ORG)).problem_seq == 1


async def test_a_tail_that_was_cut_off_with_its_head_is_noticed(
    owner_db: Database, admin_db: Database, key: SigningKey
) -> None:
    await append(admin_db, count=5)
    [checkpoint] = await sign(admin_db, key)
    hash_of_3 = (await select_audit_rows(admin_db, ORG))[2].hash.hex()
    cut = f"DELETE FROM audit_log WHERE org_id = '{ORG}' AND seq > 3"
    head = f"UPDATE audit_heads SET seq = 3, hash = '\\x{hash_of_3}' WHERE org_id = '{ORG}'"
    await tamper(owner_db, f"{cut}; {head}")
    report = await verify_chain(admin_db, ORG)
    assert (report.problem_seq, report.rows) == (4, 3)
    assert "newest rows are missing" in str(report.problem)
    # Whoever takes the checkpoints away as well is found by those that were kept elsewhere.
    await owner_db.execute("ALTER TABLE audit_checkpoints DISABLE TRIGGER ALL; DELETE FROM audit_checkpoints")
    assert (await verify_chain(admin_db, ORG)).intact
    assert (await verify_chain(admin_db, ORG, kept=[checkpoint])).problem_seq == 4


async def test_all_of_a_chain_gone(owner_db: Database, admin_db: Database, key: SigningKey) -> None:
    await append(admin_db, count=2)
    await sign(admin_db, key)
    for table in ("audit_log", "audit_heads"):
        await tamper(owner_db, f"DELETE FROM {table} WHERE org_id = '{ORG}'")
    assert ORG in [found async for found in chains(admin_db)]
    assert (await verify_chain(admin_db, ORG)).problem_seq == 1


async def test_only_what_karta_signed_counts(
    owner_db: Database, admin_db: Database, key: SigningKey, master_keys: MasterKeys
) -> None:
    await append(admin_db, count=2)
    last = (await select_audit_rows(admin_db, ORG))[-1]
    good = key.sign(ORG, last.seq, last.hash)
    await insert_checkpoint(admin_db, msgspec.structs.replace(good, signature=bytes(64)))
    report = await verify_chain(admin_db, ORG)
    assert report.problem_seq == 2
    assert "at row 2 is not signed by Karta's key" in str(report.problem)


async def test_a_key_that_was_slipped_in_does_not_count(
    owner_db: Database, admin_db: Database, key: SigningKey, actor: Actor, master_keys: MasterKeys
) -> None:
    """Somebody who owns the database, but has no master key, signs their own story by a key of their own."""
    await append(admin_db, count=2)
    await owner_db.execute("ALTER TABLE audit_signing_keys DISABLE TRIGGER ALL")
    await owner_db.execute("DELETE FROM audit_signing_keys")
    theirs = await ensure_signing_key(admin_db, actor, MasterKeys({9: bytes(32)}))
    await sign(admin_db, theirs)
    assert (await verify_chain(admin_db, ORG)).intact
    keys = await trusted_keys(admin_db, master_keys)
    assert keys == {}
    assert (await verify_chain(admin_db, ORG, keys)).problem_seq == 2


async def test_what_is_wrong_is_not_signed(owner_db: Database, admin_db: Database, key: SigningKey) -> None:
    await append(admin_db, count=4)
    other = uuid4()
    await append(admin_db, other)
    await tamper(owner_db, f"UPDATE audit_log SET subject = 'x' WHERE seq = 3 AND org_id = '{ORG}'")
    signed, problems = await sign_heads(admin_db, key)
    assert other in {one.org_id for one in signed}
    assert ORG not in {one.org_id for one in signed}
    assert [(one.seq, str(ORG) in one.text) for one in problems] == [(3, True)]
    assert await select_last_checkpoint(admin_db, ORG) is None


async def test_what_is_signed_already_is_not_signed_again(admin_db: Database, key: SigningKey) -> None:
    await append(admin_db)
    assert len(await sign(admin_db, key)) == 1
    assert await sign(admin_db, key) == []
    await append(admin_db)
    [second] = await sign(admin_db, key)
    assert second.seq == 2


async def test_every_chain_is_found(admin_db: Database) -> None:
    ids = [UUID(int=number) for number in (5, 3, 9)]
    for org_id in ids:
        await append(admin_db, org_id, 2)
    assert [found async for found in chains(admin_db)] == sorted(ids)
    await append(admin_db, None)
    assert [found async for found in chains(admin_db)] == [SYSTEM_CHAIN, *sorted(ids)]


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        (f"ALTER TABLE audit_log DETACH PARTITION {MONTH}", 1),
        (f"DROP TABLE {MONTH}", 1),
        ("UPDATE audit_log SET seq = 4 - seq WHERE seq IN (1, 3)", 1),
    ],
)
async def test_what_the_owner_can_do_to_partitions_shows(sql: str, seq: int, owner_db: Database) -> None:
    await append(owner_db, count=5)
    await owner_db.execute(
        f"ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE {MONTH} DISABLE TRIGGER ALL; {sql}"
    )
    assert (await verify_chain(owner_db, ORG)).problem_seq == seq


async def test_a_row_that_is_there_twice(owner_db: Database) -> None:
    await append(owner_db, count=5)
    again = "created_at + interval '1 second', event, actor_kind, actor_id, subject, address, user_agent"
    await tamper(
        owner_db,
        f"INSERT INTO audit_log SELECT org_id, seq, {again}, request_id, details, prev_hash, hash"
        f" FROM audit_log WHERE seq = 3 AND org_id = '{ORG}'",
    )
    report = await verify_chain(owner_db, ORG)
    assert report.problem_seq in (3, 4)


async def test_what_is_copied_in_is_chained_anew_or_refused(owner_db: Database) -> None:
    """COPY goes through the same triggers, also for the owner: no number, time or hash can be chosen."""
    await append(owner_db, count=2)
    columns = "org_id, seq, event, actor_kind, actor_id, subject, prev_hash, hash"
    await owner_db.execute(f"CREATE TABLE forged AS SELECT {columns}, created_at FROM audit_log")
    await owner_db.execute("UPDATE forged SET created_at = now() - interval '1 day'")
    with pytest.raises(AppendOnly):
        await owner_db.execute(
            f"INSERT INTO audit_log ({columns}, created_at) SELECT {columns}, created_at FROM forged"
        )
    await owner_db.execute(f"INSERT INTO audit_log ({columns}) SELECT {columns} FROM forged")
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.rows) == (True, 4)


async def test_a_copy_over_what_is_there(owner_db: Database) -> None:
    await append(owner_db, count=2)
    with pytest.raises(AppendOnly):
        async with owner_db.transaction() as tx:
            await tx.execute("SET LOCAL session_replication_role = replica")
            await tx.copy_binary("audit_log", COPIED, forged_tuple(datetime(2020, 1, 1, tzinfo=UTC)))
    async with owner_db.transaction() as tx:
        await tx.copy_binary("audit_log", COPIED[:-1], forged_tuple(None))
    rows = await select_audit_rows(owner_db, ORG)
    assert [row.seq for row in rows] == [1, 2, 3], "the number 1 that was copied in is not kept"
    assert (await verify_chain(owner_db, ORG)).intact


async def test_a_partition_that_was_forged_and_attached_shows(owner_db: Database) -> None:
    await append(owner_db, count=3)
    await owner_db.execute(
        "CREATE TABLE forged (LIKE audit_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
        " INSERT INTO forged SELECT org_id, 4, '2020-01-05', event, actor_kind, actor_id, subject, address,"
        " user_agent, request_id, details, hash, hash FROM audit_log WHERE seq = 3;"
        " ALTER TABLE audit_log ATTACH PARTITION forged FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
    )
    assert (await verify_chain(owner_db, ORG)).problem_seq == 4


COPIED = ("org_id", "event", "actor_kind", "actor_id", "subject", "seq", "created_at")


def forged_tuple(created_at: datetime | None) -> bytes:
    """One row in COPY's binary form that says it is number 1."""
    fields = [ORG.bytes, b"a:b", b"cli", b"x", b"forged", (1).to_bytes(8, "big")]
    if created_at is not None:
        micros = (created_at - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        fields.append(micros.to_bytes(8, "big"))
    return len(fields).to_bytes(2, "big") + b"".join(len(one).to_bytes(4, "big") + one for one in fields)
