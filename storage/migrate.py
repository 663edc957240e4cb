"""Brings a database to this release's schema: forward only, plain SQL, timid.

Strategy. Files `migrations/NNNN_name.sql`, numbered without gaps, each applied once and in one transaction,
under an advisory lock, so that any number of migrators may start at once. Each waits four seconds at most for
a lock and runs no statement longer than five: a migration that would stop running programs fails instead, and
nothing has happened. What was applied is kept with its SHA-256, and a file that changed afterwards is
refused; so is a database which a newer release has migrated. Rolling back is done by a new migration.

The database roles of the two programs are made here as well, because they belong to the whole server and may
already be there when the database is not.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import msgspec

from storage import errors
from storage.bridge import Database, Transaction, open_database
from storage.queries import Queries

ROLES = ("karta_gateway", "karta_admin")
"""What the two programs run as. They cannot log in: the login in the database URL is a member of them."""

LOCK_WAIT_SECONDS_MAX = 60
"""How long to wait for another migrator: it is doing our work."""
LOCK_SECONDS_MAX = 4
"""How long a migration may queue for a table, with all of its readers queueing up behind it."""
STATEMENT_SECONDS_MAX = 5
"""How long one statement of a migration may hold what it has locked."""
POSTGRES_VERSION_MIN = 15
"""The first where triggers that are always on are passed to partitions as such."""
PARTITION_MONTHS_AHEAD = 3
"""Partitions are made this far ahead, so that a quarter may pass between two calls; after that, the default
holds."""

_ADVISORY_LOCK = 4738126500000
"""Arbitrary, and ours: all Karta migrators of one database queue up behind this number."""
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One file: `name` is without number and suffix, `checksum` the SHA-256 of its bytes."""

    number: int
    name: str
    sql: str
    checksum: bytes


class MigrationReport(msgspec.Struct, frozen=True):
    """The schema's version now, and the names of the migrations that this call applied."""

    version: int
    applied: tuple[str, ...]


def load_migrations() -> tuple[Migration, ...]:
    """The migrations of this release, in order. Raises MigrationChanged when the numbers have gaps or
    doubles."""
    found = []
    for file in resources.files("storage").joinpath("migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            content = file.read_bytes()
            checksum = hashlib.sha256(content).digest()
            found.append(Migration(int(match[1]), match[2], content.decode(), checksum))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise errors.MigrationChanged(
            "storage/migrations must be numbered 0001, 0002, … without gaps or doubles"
        )
    return tuple(found)


async def migrate(url: str, *, create_roles: bool = True) -> MigrationReport:
    """Applies what is pending, as the owner that `url` logs in as; safe to call at any time and concurrently.

    Args:
      url: of a login that may create tables in the database and, with `create_roles`, roles in the server.
      create_roles: False where an operator has made the roles of `ROLES` already.

    Raises DatabaseTooNew, MigrationChanged, DatabaseUnavailable, DatabaseBusy (a lock was not to be had: try
    again).
    """
    migrations = load_migrations()
    applied = []
    async with open_database(
        url, role=None, connections_max=1, query_seconds_max=LOCK_WAIT_SECONDS_MAX + 5
    ) as db:
        await _require_version(db)
        while True:
            async with db.transaction() as tx:
                await _lock(tx)
                if create_roles:
                    await _create_roles(tx)
                pending = await _pending(tx, migrations)
                if not pending:
                    break
                await _apply(tx, pending[0])
                applied.append(pending[0].name)
        await db.fetch_value("SELECT make_partitions($1)", PARTITION_MONTHS_AHEAD)
    return MigrationReport(version=len(migrations), applied=tuple(applied))


async def check_schema(db: Queries) -> None:
    """Raises MigrationsPending, DatabaseTooNew or MigrationChanged unless the schema is the one of this
    release."""
    if not await db.fetch_value("SELECT to_regclass('public.schema_migrations') IS NOT NULL"):
        raise errors.MigrationsPending("the database has no Karta schema: run `karta migrate`")
    if pending := await _pending(db, load_migrations()):
        raise errors.MigrationsPending(
            f"the database lacks {len(pending)} migration(s), from {pending[0].name}: run `karta migrate`"
        )


async def _require_version(db: Database) -> None:
    version = int(await db.fetch_value("SELECT current_setting('server_version_num')::integer")) // 10_000
    if version < POSTGRES_VERSION_MIN:
        raise errors.SchemaMismatch(
            f"Karta needs PostgreSQL {POSTGRES_VERSION_MIN} or newer; this is {version}"
        )


async def _lock(tx: Transaction) -> None:
    await tx.execute(f"SET LOCAL statement_timeout = '{LOCK_WAIT_SECONDS_MAX}s'")
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
    await tx.execute(
        f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS_MAX}s';"
        f" SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'"
    )
    await tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " number integer PRIMARY KEY, name text NOT NULL, checksum bytea NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )


async def _pending(db: Queries, migrations: tuple[Migration, ...]) -> list[Migration]:
    rows = await db.fetch("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    if rows and rows[-1]["number"] > len(migrations):
        raise errors.DatabaseTooNew(
            f"the database is at migration {rows[-1]['number']}, this release knows {len(migrations)}:"
            " install the newer release"
        )
    for row in rows:
        migration = migrations[row["number"] - 1]
        if row["checksum"] != migration.checksum:
            raise errors.MigrationChanged(
                f"migration {migration.number:04}_{migration.name} is not the one that was applied"
                f" ({row['name']}): write a new migration instead of changing an old one"
            )
    done = {row["number"] for row in rows}
    return [migration for migration in migrations if migration.number not in done]


async def _apply(tx: Transaction, migration: Migration) -> None:
    await tx.execute(migration.sql)
    await tx.execute(
        "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
        migration.number,
        migration.name,
        migration.checksum,
    )


async def _create_roles(tx: Transaction) -> None:
    for role in ROLES:
        # Another database of the same server may be migrated at this moment: both try, one wins, neither
        # fails.
        await tx.execute(
            f"""
            DO $$
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                    CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
                END IF;
                IF NOT pg_has_role(current_user, '{role}', CASE
                    WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
                    ELSE 'SET' END)
                THEN
                    EXECUTE format('GRANT {role} TO %I', current_user);
                END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END
            $$
            """
        )
