"""Migrations: once each, in order, together, timid; and the privileges they leave behind."""

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path

import msgspec
import pytest
import trio

from storage import errors, migrate
from storage.bridge import Database, open_database
from storage.migrate import Migration, MigrationReport, check_schema, load_migrations
from tests.support.postgres import PostgresServer, running_server


@pytest.fixture
def empty_url(postgres_server: PostgresServer, empty_database_name: str) -> str:
    return postgres_server.url(empty_database_name)


def with_extra(*sources: str) -> tuple[Migration, ...]:
    """This release's migrations and, after them, these."""
    known = load_migrations()
    extra = [
        Migration(len(known) + number, f"extra_{number}", sql, hashlib.sha256(sql.encode()).digest())
        for number, sql in enumerate(sources, 1)
    ]
    return (*known, *extra)


async def test_a_fresh_database_and_the_same_again(empty_url: str) -> None:
    names = tuple(migration.name for migration in load_migrations())
    assert await migrate.migrate(empty_url) == MigrationReport(len(names), names)
    assert await migrate.migrate(empty_url, create_roles=False) == MigrationReport(len(names), ())
    for role in (None, *migrate.ROLES):
        async with open_database(empty_url, role=role) as db:
            await check_schema(db)


async def test_many_at_once_apply_each_once(empty_url: str) -> None:
    applied: list[str] = []

    async def run() -> None:
        applied.extend((await migrate.migrate(empty_url)).applied)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(run)
    assert sorted(applied) == sorted(migration.name for migration in load_migrations())


async def test_a_database_without_a_schema(empty_url: str) -> None:
    async with open_database(empty_url, role=None) as db:
        with pytest.raises(errors.MigrationsPending, match="karta migrate"):
            await check_schema(db)


async def test_an_older_database(owner_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = with_extra("SELECT 1")
    monkeypatch.setattr(migrate, "load_migrations", lambda: newer)
    with pytest.raises(errors.MigrationsPending, match=r"lacks 1 migration.*extra_1"):
        await check_schema(owner_db)


async def test_a_newer_database(owner_db: Database, database_url: str) -> None:
    await owner_db.execute("INSERT INTO schema_migrations VALUES (999, 'from_the_future', '\\x00')")
    with pytest.raises(errors.DatabaseTooNew, match="install the newer release"):
        await migrate.migrate(database_url)
    with pytest.raises(errors.DatabaseTooNew):
        await check_schema(owner_db)


async def test_a_changed_migration(owner_db: Database, database_url: str) -> None:
    await owner_db.execute("UPDATE schema_migrations SET checksum = '\\x00' WHERE number = 2")
    with pytest.raises(errors.MigrationChanged, match="0002_audit_log"):
        await migrate.migrate(database_url)
    with pytest.raises(errors.MigrationChanged):
        await check_schema(owner_db)


async def test_a_failing_migration_leaves_nothing(
    owner_db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = with_extra("CREATE TABLE half (n integer); SELECT 1/0")
    monkeypatch.setattr(migrate, "load_migrations", lambda: bad)
    with pytest.raises(errors.StorageError):
        await migrate.migrate(database_url)
    assert await owner_db.fetch_value("SELECT to_regclass('half') IS NULL")
    mended = with_extra("CREATE TABLE half (n integer)")
    monkeypatch.setattr(migrate, "load_migrations", lambda: mended)
    assert (await migrate.migrate(database_url)).applied == ("extra_1",)


async def test_a_migration_does_not_queue_for_long(
    owner_db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS_MAX", 0.05)
    altered = with_extra("ALTER TABLE users ADD COLUMN n integer")
    monkeypatch.setattr(migrate, "load_migrations", lambda: altered)
    async with owner_db.transaction() as tx:
        await tx.fetch("SELECT * FROM users")
        with pytest.raises(errors.DatabaseBusy):
            await migrate.migrate(database_url)
    assert (await migrate.migrate(database_url)).applied == ("extra_1",)


async def test_a_migration_does_not_run_for_long(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "STATEMENT_SECONDS_MAX", 0.05)
    slow = with_extra("SELECT pg_sleep(5)")
    monkeypatch.setattr(migrate, "load_migrations", lambda: slow)
    with pytest.raises(errors.DatabaseBusy):
        await migrate.migrate(database_url)


async def test_a_server_that_is_too_old(owner_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "POSTGRES_VERSION_MIN", 99)
    with pytest.raises(errors.SchemaMismatch, match="needs PostgreSQL 99"):
        await migrate._require_version(owner_db)


async def test_roles_are_made_where_there_are_none(
    owner_db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "ROLES", ("karta_test_role",))
    await migrate.migrate(database_url, create_roles=False)
    exists = "SELECT count(*) FROM pg_roles WHERE rolname = 'karta_test_role' AND NOT rolcanlogin"
    assert await owner_db.fetch_value(exists) == 0
    await migrate.migrate(database_url)
    assert await owner_db.fetch_value(exists) == 1
    await owner_db.execute("DROP ROLE karta_test_role")


async def test_the_owner_need_not_be_a_superuser() -> None:
    """On a server of its own, because roles belong to the server: this owner makes them itself."""
    with running_server() as server:
        server.sql("CREATE ROLE modest LOGIN CREATEROLE")
        server.sql("CREATE DATABASE karta OWNER modest")
        url = server.url("karta", "modest")
        await migrate.migrate(url)
        for role in migrate.ROLES:
            async with open_database(url, role=role) as db:
                await check_schema(db)
        async with open_database(url, role="karta_admin") as db:
            assert await db.fetch_value("SELECT shred_credentials()") is False
            assert await db.fetch_value("SELECT make_partitions(4)") == 2


@pytest.mark.parametrize("numbers", [[1, 3], [2], [1, 1, 2]])
def test_numbers_have_no_gaps_or_doubles(
    numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    for position, number in enumerate(numbers):
        (folder / f"{number:04}_{'abc'[position]}.sql").write_text("SELECT 1")
    monkeypatch.setattr(importlib.resources, "files", lambda _package: tmp_path)
    with pytest.raises(errors.MigrationChanged, match="without gaps"):
        load_migrations()


def test_files_are_found_in_order() -> None:
    found = load_migrations()
    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
    assert all(len(migration.checksum) == 32 and migration.sql for migration in found)
    assert found[0].name == "accounts"
    assert msgspec.structs.asdict(found[0])["number"] == 1


async def test_partitions_are_made_ahead_and_once(owner_db: Database, admin_db: Database) -> None:
    count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage'::regclass"
    assert await owner_db.fetch_value(count) == migrate.PARTITION_MONTHS_AHEAD + 2
    assert await admin_db.fetch_value("SELECT make_partitions(3)") == 0
    assert await admin_db.fetch_value("SELECT make_partitions(5)") == 4
    with pytest.raises(errors.CheckFailed):
        await admin_db.fetch_value("SELECT make_partitions(1000)")


async def test_a_month_with_rows_in_the_default_stays_there(owner_db: Database) -> None:
    not_null = await owner_db.fetch(
        """
        SELECT attname::text AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
         WHERE attrelid = 'usage'::regclass AND attnum > 0 AND attnotnull AND attname <> 'started_at'
        """
    )
    names = ", ".join(row["name"] for row in not_null)
    zeros = {"uuid": "gen_random_uuid()", "text": "''", "boolean": "false"}
    values = ", ".join(zeros.get(row["type"], "0") for row in not_null)
    await owner_db.execute(
        f"INSERT INTO usage (started_at, {names}) SELECT now() + interval '5 months', {values}"
    )
    assert await owner_db.fetch_value("SELECT make_partitions(6)") == 5
    assert await owner_db.fetch_value("SELECT count(*) FROM usage_default") == 1


READABLE = {
    "karta_gateway": {
        *("organizations", "api_keys", "provider_credentials", "limits", "price_overrides"),
        "route_targets",
        "schema_migrations",
        *("usage", "late_usage"),  # which rows were new, and no more
    },
    "karta_admin": {
        "organizations",
        "users",
        "memberships",
        "sessions",
        *("email_links", "outbox", "throttles", "pending_sign_ins", "invitations"),
        *("totp_factors", "passkeys", "passkey_challenges", "recovery_codes"),
        *("management_keys", "idempotent_requests"),
        "api_keys",
        "provider_credentials",
        "price_overrides",
        "usage",
        "usage_expiry",
        "usage_hourly",
        *("billable_hourly", "ledger_transactions", "ledger_entries"),
        *("stripe_customers", "stripe_subscriptions", "stripe_checkouts", "stripe_invoices", "stripe_events"),
        "meter_reports",
        "limits",
        "quota_windows",
        "quota_leases",
        "budget_events",
        "route_targets",
        "audit_log",
        "audit_heads",
        *("audit_checkpoints", "audit_signing_keys", "staff"),
        *("mail_suppressions", "mail_opt_outs", "sign_in_places"),
        *("subscriptions", "announcements", "abuse_reports", "csp_violations"),
        *("health_rounds", "health_samples", "health_days", "health_key", "incidents", "incident_updates"),
        *("webhook_endpoints", "webhook_secrets", "webhook_events", "webhook_deliveries", "webhook_attempts"),
        "schema_migrations",
    },
}
SECRET_FROM = {
    "karta_gateway": {("organizations", "name"), ("api_keys", "name"), ("provider_credentials", "last_four")}
    | {("usage", "org_id"), ("usage", "cost_picodollars"), ("api_keys", "last_used_at")},
    "karta_admin": {
        ("api_keys", "secret_digest"),
        ("provider_credentials", "wrapped_key"),
        ("provider_credentials", "ciphertext"),
    },
}


@pytest.mark.parametrize("role", migrate.ROLES)
async def test_each_role_reads_what_it_needs(role: str, owner_db: Database) -> None:
    tables = await owner_db.fetch(
        """
        SELECT relname::text AS name, has_any_column_privilege($1, oid, 'SELECT') AS readable
          FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        """,
        role,
    )
    assert {table["name"] for table in tables if table["readable"]} == READABLE[role]
    for table, column in SECRET_FROM[role]:
        allowed = "SELECT has_column_privilege($1, $2, $3, 'SELECT')"
        assert not await owner_db.fetch_value(allowed, role, table, column)


# docs/explanation/threat-model.md says so: what the pages verify, and what they use.
SECRETS_OF_THE_PAGES = {
    *("users.password_digest", "sessions.token_digest", "pending_sign_ins.token_digest"),
    *("recovery_codes.code_digest", "management_keys.secret_digest"),
    *("email_links.token_digest", "invitations.token_digest", "subscriptions.token_digest"),
    *("totp_factors.sealed_secret", "outbox.sealed", "audit_signing_keys.sealed", "health_key.sealed"),
    *("webhook_secrets.wrapped_key", "webhook_secrets.ciphertext"),
}


async def test_of_secrets_the_pages_read_what_they_verify_and_use_themselves(owner_db: Database) -> None:
    rows = await owner_db.fetch(
        """
        SELECT c.relname || '.' || a.attname AS name
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND a.attname ~ '((secret|token|password|code)_digest|sealed|ciphertext|wrapped)'
           AND has_column_privilege('karta_admin', c.oid, a.attnum, 'SELECT')
        """
    )
    assert {row["name"] for row in rows} == SECRETS_OF_THE_PAGES


DELETABLE = {
    *("sessions", "memberships", "email_links", "outbox", "throttles", "pending_sign_ins"),
    *("subscriptions", "csp_violations", "health_rounds", "health_samples", "staff"),
    *("invitations", "totp_factors", "passkeys", "passkey_challenges", "recovery_codes"),
    *("idempotent_requests", "mail_opt_outs", "sign_in_places"),
    *("webhook_endpoints", "webhook_secrets", "webhook_events", "webhook_deliveries"),
    *("stripe_checkouts", "stripe_events"),
}


async def test_only_what_is_spent_can_be_deleted_and_nothing_truncated_or_owned(owner_db: Database) -> None:
    rows = await owner_db.fetch(
        """
        SELECT role, relname::text AS name, pg_get_userbyid(relowner)::text AS owner,
               has_table_privilege(role, c.oid, 'DELETE') AS deletes,
               has_table_privilege(role, c.oid, 'TRUNCATE, REFERENCES, TRIGGER') AS more
          FROM pg_class c, unnest($1::text[]) role
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        """,
        list(migrate.ROLES),
    )
    deletable = {(row["role"], row["name"]) for row in rows if row["deletes"]}
    assert deletable == {("karta_admin", name) for name in DELETABLE}
    assert not any(row["more"] for row in rows)
    assert not {row["owner"] for row in rows} & set(migrate.ROLES)


async def test_no_role_can_make_objects_or_run_the_owners_functions(owner_db: Database) -> None:
    for role in migrate.ROLES:
        assert not await owner_db.fetch_value("SELECT has_schema_privilege($1, 'public', 'CREATE')", role)
    rows = await owner_db.fetch(
        """
        SELECT proname::text AS name FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef AND prorettype <> 'trigger'::regtype
           AND has_function_privilege('karta_gateway', oid, 'EXECUTE')
        """
    )
    allowed = {"settle_leases", "release_owner", "prune_quota", "account_usage"}
    assert {row["name"] for row in rows} == allowed


async def test_functions_of_the_owner_fix_their_search_path(owner_db: Database) -> None:
    loose = await owner_db.fetch(
        """
        SELECT proname::text AS name FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace
           AND NOT coalesce(array_to_string(proconfig, ',') LIKE '%search_path=pg_catalog%', false)
        """
    )
    assert loose == []
