"""The audit log refuses to be rewritten, by anybody, and shows it when it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from storage import audit, errors
from storage.audit import SYSTEM_CHAIN, Event, hash_row, record, select_audit_rows
from storage.audit_chain import ChainReport, verify_chain
from storage.bridge import Database
from storage.model import Actor, ActorKind, Organization, Plan
from storage.organizations import create_organization, select_organizations, set_plan

ORG = UUID(int=7)
INSERT = """
    INSERT INTO audit_log (org_id, event, actor_kind, actor_id, subject{more})
    VALUES ($1, 'a:b', 'cli', 'x', 'y'{values})
"""
REPLICA = "SET session_replication_role = replica; "
MONTH = f"audit_log_{datetime.now(UTC):%Y_%m}"

FORGERIES = [
    "UPDATE audit_log SET actor_id = 'nobody'",
    "UPDATE audit_log SET actor_id = 'nobody' WHERE false",
    "DELETE FROM audit_log",
    "DELETE FROM audit_log WHERE false",
    "TRUNCATE audit_log",
    "TRUNCATE audit_log CASCADE",
    "TRUNCATE organizations, audit_log CASCADE",
    f"UPDATE {MONTH} SET actor_id = 'nobody'",
    f"DELETE FROM {MONTH}",
    f"TRUNCATE {MONTH}",
    "TRUNCATE audit_log_default",
    "MERGE INTO audit_log a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "MERGE INTO audit_log a USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET actor_id = ''",
    (
        "INSERT INTO audit_log SELECT * FROM audit_log"
        " ON CONFLICT (org_id, seq, created_at) DO UPDATE SET subject = ''"
    ),
    "WITH gone AS (DELETE FROM audit_log RETURNING 1) SELECT * FROM gone",
]


async def append(db: Database, org_id: UUID | None = ORG, count: int = 1, actor: Actor | None = None) -> None:
    actor = actor or Actor(kind=ActorKind.CLI, actor_id="tester")
    for number in range(count):
        async with db.transaction() as tx:
            await record(tx, actor, Event.KEY_MINTED, org_id, f"key{number}", {"number": number})


@pytest.mark.parametrize("prefix", ["", REPLICA], ids=["plain", "replica"])
async def test_not_even_the_owner_can_change_it(prefix: str, owner_db: Database) -> None:
    await append(owner_db)
    for sql in FORGERIES:
        with pytest.raises(errors.AppendOnly) as caught:
            await owner_db.execute(prefix + sql)
        assert str(caught.value) == "audit log is append-only", sql
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.rows) == (True, 1)


async def test_the_programs_may_not_even_try(admin_db: Database, gateway_db: Database) -> None:
    for sql in [*FORGERIES, "DROP TABLE audit_log", "ALTER TABLE audit_log DISABLE TRIGGER ALL"]:
        for db in (admin_db, gateway_db):
            with pytest.raises(errors.Denied):
                await db.execute(sql)


async def test_the_programs_cannot_turn_triggers_off(admin_db: Database, gateway_db: Database) -> None:
    for db in (admin_db, gateway_db):
        with pytest.raises(errors.Denied):
            await db.execute(REPLICA)


@pytest.mark.parametrize("column", ["created_at", "seq", "prev_hash", "hash"])
async def test_the_control_plane_cannot_choose_what_the_database_computes(
    column: str, admin_db: Database
) -> None:
    with pytest.raises(errors.Denied):
        await admin_db.execute(f"INSERT INTO audit_log (org_id, {column}) VALUES (gen_random_uuid(), NULL)")


async def test_the_data_plane_can_neither_read_nor_write_it(gateway_db: Database) -> None:
    for sql in (
        "SELECT * FROM audit_log",
        "SELECT * FROM audit_heads",
        "INSERT INTO audit_log DEFAULT VALUES",
    ):
        with pytest.raises(errors.Denied):
            await gateway_db.execute(sql)


@pytest.mark.parametrize("off", ["-1 day", "-1 minute", "1 minute", "10 years"])
async def test_history_cannot_be_added_to(off: str, owner_db: Database) -> None:
    sql = INSERT.format(more=", created_at", values=f", now() + interval '{off}'")
    for prefix in ("", REPLICA):
        with pytest.raises(errors.AppendOnly, match="audit log is append-only"):
            await owner_db.execute(prefix + sql.replace("$1", f"'{ORG}'"))


async def test_chosen_numbers_and_hashes_are_overruled(owner_db: Database) -> None:
    sql = INSERT.format(more=", seq, prev_hash, hash", values=", 99, '\\x00', '\\x00'")
    await owner_db.execute(sql, ORG)
    report = await verify_chain(owner_db, ORG)
    assert (report.intact, report.rows, report.head_seq) == (True, 1, 1)


async def test_every_partition_is_guarded_also_those_to_come(owner_db: Database) -> None:
    await owner_db.fetch_value("SELECT make_partitions(8)")
    rows = await owner_db.fetch(
        """
        SELECT relid::regclass::text AS name, array_agg(tgname::text ORDER BY tgname) AS triggers,
               bool_and(tgenabled = 'A') AS always
          FROM pg_partition_tree('audit_log') JOIN pg_trigger ON tgrelid = relid
         WHERE tgname <> 'audit_log_emit'
         GROUP BY relid
        """
    )
    assert len(rows) == 11
    names = ["audit_log_chain", "audit_log_refuse_row", "audit_log_refuse_statement"]
    assert all(row["triggers"] == names and row["always"] for row in rows)


async def test_rows_land_in_their_month(owner_db: Database) -> None:
    await append(owner_db)
    assert await owner_db.fetch_value(f"SELECT count(*) FROM {MONTH}") == 1
    assert await owner_db.fetch_value("SELECT count(*) FROM audit_log_default") == 0


async def test_a_chain_verifies_and_says_where_it_ends(admin_db: Database) -> None:
    assert await verify_chain(admin_db, ORG) == ChainReport(
        org_id=ORG, rows=0, first_seq=None, head_seq=0, head_hash=audit.first_hash(ORG)
    )
    await append(admin_db, count=3)
    rows = await select_audit_rows(admin_db, ORG)
    assert [row.seq for row in rows] == [1, 2, 3]
    assert rows[0].prev_hash == audit.first_hash(ORG)
    assert rows[2].prev_hash == rows[1].hash == hash_row(rows[1])
    assert await verify_chain(admin_db, ORG) == ChainReport(
        org_id=ORG, rows=3, first_seq=1, head_seq=3, head_hash=rows[2].hash
    )


async def test_long_chains_are_verified_page_by_page(
    admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_ROWS_MAX", 3)
    await append(admin_db, count=10)
    report = await verify_chain(admin_db, ORG)
    assert (report.intact, report.rows) == (True, 10)


async def test_chains_do_not_mix(admin_db: Database) -> None:
    other = uuid4()
    for org_id in (ORG, other, None, ORG, other, None, ORG):
        await append(admin_db, org_id)
    assert (await verify_chain(admin_db, ORG)).rows == 3
    assert (await verify_chain(admin_db, other)).rows == 2
    assert (await verify_chain(admin_db, None)).rows == (await verify_chain(admin_db, SYSTEM_CHAIN)).rows == 2


async def test_numbers_have_no_gaps_under_concurrency_and_rollbacks(admin_db: Database) -> None:
    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            async with admin_db.transaction() as tx:
                actor = Actor(kind=ActorKind.SYSTEM, actor_id="x")
                await record(tx, actor, Event.KEY_REVOKED, ORG, "k", {})
                raise ZeroDivisionError

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(append, admin_db, ORG, 2)
            nursery.start_soon(fail)
    report = await verify_chain(admin_db, ORG)
    assert (report.intact, report.rows, report.head_seq) == (True, 20, 20)


async def tamper(owner_db: Database, sql: str) -> None:
    """As the superuser with all triggers off: what nobody can prevent, and everybody can see afterwards."""
    triggers = "ALTER TABLE audit_log {} TRIGGER ALL; ALTER TABLE " + MONTH + " {} TRIGGER ALL; "
    await owner_db.execute(
        triggers.format("DISABLE", "DISABLE") + sql + "; " + triggers.format("ENABLE", "ENABLE")
    )


@pytest.mark.parametrize(
    ("sql", "seq", "problem"),
    [
        ("UPDATE audit_log SET event = 'a:c' WHERE seq = 3", 3, "not as it was written"),
        ("UPDATE audit_log SET actor_kind = 'user' WHERE seq = 1", 1, "not as it was written"),
        ("UPDATE audit_log SET actor_id = 'someone else' WHERE seq = 5", 5, "not as it was written"),
        ("UPDATE audit_log SET subject = 'another' WHERE seq = 2", 2, "not as it was written"),
        ("UPDATE audit_log SET address = '192.0.2.1' WHERE seq = 2", 2, "not as it was written"),
        ("UPDATE audit_log SET user_agent = '' WHERE seq = 2", 2, "not as it was written"),
        ("UPDATE audit_log SET request_id = 'x' WHERE seq = 2", 2, "not as it was written"),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 4", 4, "not as it was written"),
        (
            "UPDATE audit_log SET created_at = created_at + interval '1 microsecond' WHERE seq = 4",
            4,
            "not as it was written",
        ),
        ("UPDATE audit_log SET hash = '\\x00' WHERE seq = 4", 4, "not as it was written"),
        ("UPDATE audit_log SET prev_hash = '\\x00' WHERE seq = 4", 4, "does not follow"),
        ("DELETE FROM audit_log WHERE seq = 3", 3, "row 3 is missing"),
        ("DELETE FROM audit_log WHERE seq >= 4", 4, "newest rows are missing"),
        ("DELETE FROM audit_log", 1, "all rows are missing"),
        ("UPDATE audit_heads SET seq = 3", 4, "behind the chain's head"),
        ("DELETE FROM audit_heads", 1, "behind the chain's head"),
        ("UPDATE audit_heads SET hash = '\\x00'", 6, "newest rows are missing"),
        (
            "UPDATE audit_log SET seq = CASE seq WHEN 2 THEN 3 ELSE 2 END WHERE seq IN (2, 3)",
            2,
            "does not follow",
        ),
    ],
)
async def test_tampering_shows(sql: str, seq: int, problem: str, owner_db: Database) -> None:
    await append(owner_db, count=5)
    await tamper(owner_db, sql)
    report = await verify_chain(owner_db, ORG)
    assert not report.intact
    assert report.problem is not None
    assert problem in report.problem
    assert report.problem_seq == seq


async def test_without_its_audit_row_a_change_does_not_happen(
    owner_db: Database, admin_db: Database, actor: Actor, org: Organization
) -> None:
    await owner_db.execute("REVOKE INSERT ON audit_log FROM karta_admin")
    for grantee in ("event", "org_id", "actor_kind", "actor_id", "subject", "details"):
        await owner_db.execute(f"REVOKE INSERT ({grantee}) ON audit_log FROM karta_admin")
    with pytest.raises(errors.Denied):
        await create_organization(admin_db, actor, name="Unseen", plan=Plan.FREE)
    with pytest.raises(errors.Denied):
        await set_plan(admin_db, actor, org.org_id, Plan.FREE)
    assert await select_organizations(admin_db) == [org]


async def test_the_actor_is_told_whole(admin_db: Database, actor: Actor) -> None:
    before = datetime.now(UTC)
    await append(admin_db, actor=actor)
    [row] = await select_audit_rows(admin_db, ORG)
    assert (row.event, row.subject, row.details) == ("api_key:minted", "key0", '{"number": 0}')
    assert (row.actor_kind, row.actor_id) == ("cli", "tester")
    assert (row.address, row.user_agent, row.request_id) == ("192.0.2.7", "pytest", "req-1")
    assert abs(row.created_at - before) < timedelta(minutes=1)


async def test_nothing_in_a_row_can_forge_another(admin_db: Database) -> None:
    nasty = "a\nb\r\0\x1b[2J\u2028\u202e\ud800\U000e0041" + "é" + "x" * 10_000
    actor = Actor(kind=ActorKind.USER, actor_id=nasty, address=nasty, user_agent=nasty, request_id=nasty)
    async with admin_db.transaction() as tx:
        details = {"name\0": nasty, "list": [nasty, 1, None], "deep": {"er": nasty}}
        await record(tx, actor, Event.USER_CREATED, ORG, nasty, details)
    [row] = await select_audit_rows(admin_db, ORG)
    for text in (row.actor_id, row.address, row.user_agent, row.request_id, row.subject, row.details):
        assert text is not None
        assert text.isprintable()
        assert "\u202e" not in text
    assert row.actor_id.startswith(r"a\u000ab\u000d\u0000\u001b[2J\u2028\u202e\ud800\ue0041" + "é"[:0])
    assert (await verify_chain(admin_db, ORG)).intact


@given(st.text(max_size=300), st.integers(1, 300))
def test_shown_text_is_printable_and_bounded(text: str, chars_max: int) -> None:
    shown = audit.printable(text, chars_max)
    assert len(shown) <= chars_max
    assert shown.isprintable()
    shown.encode()


async def test_rows_out_of_bounds_are_refused_by_the_database(owner_db: Database) -> None:
    for column, value in (("event", "NoSuchForm"), ("actor_kind", "ghost"), ("actor_id", "x" * 201)):
        values = {"org_id": str(ORG), "event": "a:b", "actor_kind": "cli", "actor_id": "x", "subject": "y"}
        values[column] = value
        quoted = ", ".join(f"'{one}'" for one in values.values())
        with pytest.raises(errors.CheckFailed):
            await owner_db.execute(f"INSERT INTO audit_log ({', '.join(values)}) VALUES ({quoted})")
    assert (await verify_chain(owner_db, ORG)).rows == 0


def test_events_have_the_form_the_database_wants() -> None:
    for event in Event:
        thing, _, happened = event.value.partition(":")
        assert thing.replace("_", "").isalpha()
        assert happened.replace("_", "").isalpha()
        assert len(event.value) <= 64


def test_a_hash_covers_every_field() -> None:
    row = audit.AuditRow(
        org_id=ORG,
        seq=1,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        event="a:b",
        actor_kind="cli",
        actor_id="x",
        subject="y",
        address=None,
        user_agent=None,
        request_id=None,
        details="{}",
        prev_hash=b"0",
        hash=b"",
    )
    changes = {
        "org_id": UUID(int=8),
        "seq": 2,
        "created_at": datetime(2026, 1, 2, microsecond=1, tzinfo=UTC),
        "event": "a:c",
        "actor_kind": "user",
        "actor_id": "z",
        "subject": "z",
        "address": "",
        "user_agent": "",
        "request_id": "",
        "details": "[]",
        "prev_hash": b"1",
    }
    assert set(changes) | {"hash"} == set(row.__struct_fields__)
    hashes = {hash_row(msgspec.structs.replace(row, **{name: value})) for name, value in changes.items()}
    assert len(hashes | {hash_row(row)}) == len(changes) + 1
