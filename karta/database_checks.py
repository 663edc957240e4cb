"""What `karta doctor` asks of a database that answers and has this release's schema: whether it is set up as
the documents on operation want it.

A check never raises. Each is told as its name, `ok`, `warning` or `failed`, and a sentence that names the
mend.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Literal

import trio

from admin.settings import DATABASE_CONNECTIONS_MAX, AdminSettings
from gateway.settings import GatewaySettings
from storage.bridge import Database
from storage.errors import StorageError
from storage.sealing import MasterKeys
from storage.settings import ServerSettings

Told = tuple[str, Literal["ok", "warning", "failed"], str]

HEARD_SECONDS_MAX = 2.0
SKEW_SECONDS_MAX = 2.0
CONNECTIONS_A_WORKER = 5
CONNECTIONS_BESIDE = 4
"""Of the health job, commands, and a backup."""
_CHANNEL = "karta_doctor"


async def check_database(
    db: Database, loaded: Iterable[ServerSettings], master_keys: MasterKeys | None
) -> AsyncIterator[Told]:
    """As the owner of the schema."""
    settings = list(loaded)
    production = any(one.env == "production" for one in settings)
    workers = max((one.workers for one in settings if isinstance(one, GatewaySettings)), default=1)
    pages = max((one.admin_processes for one in settings if isinstance(one, AdminSettings)), default=1)
    try:
        yield await _notifications(db)
        yield await _clock(db)
        yield await _connections(db, workers, pages)
        if production:
            yield await _archive(db)
            yield await _login(db)
        if (sealed := await _sealed(db, master_keys)) is not None:
            yield sealed
    except StorageError as error:
        yield "database", "failed", str(error)


async def _notifications(db: Database) -> Told:
    """Gateways learn of revoked keys by them; a pooler that changes connections loses them silently."""
    word = secrets.token_hex(8)
    mend = "a pooler by transaction? Pool by session, or connect directly (docs/how-to/pgbouncer.md)"
    with trio.move_on_after(HEARD_SECONDS_MAX):
        try:
            async with db.listen(_CHANNEL) as heard:
                await db.execute("SELECT pg_notify($1, $2)", _CHANNEL, word)
                async for told in heard:
                    if told == word:
                        return "notifications", "ok", "are heard"
        except StorageError as error:
            return "notifications", "failed", f"{error}; {mend}"
    return "notifications", "failed", f"are not heard: {mend}"


async def _clock(db: Database) -> Told:
    before = time.time()
    there = float(await db.fetch_value("SELECT extract(epoch FROM clock_timestamp())"))
    after = time.time()
    skew = max(before - there, there - after, 0.0)
    if skew <= SKEW_SECONDS_MAX:
        return "clock", "ok", "agrees with the database's"
    mend = "keys and limits end by it; run NTP on both"
    return "clock", "warning", f"{skew:.0f} s apart from the database's: {mend}"


async def _connections(db: Database, workers: int, pages: int) -> Told:
    there = int(await db.fetch_value("SHOW max_connections"))
    needed = workers * CONNECTIONS_A_WORKER + pages * DATABASE_CONNECTIONS_MAX + CONNECTIONS_BESIDE
    if needed <= there:
        return (
            "connections",
            "ok",
            f"{there} may be open; one host with these settings takes {needed} at most",
        )
    of = f"{workers} workers and {pages} of the admin pages" if pages > 1 else f"{workers} workers"
    told = f"one host with {of} may take {needed}, and max_connections is {there}: raise it"
    return "connections", "warning", told


async def _archive(db: Database) -> Told:
    if await db.fetch_value("SHOW archive_mode") != "off":
        return "archive", "ok", "the server archives its log"
    lost = "what is newer than the last backup is lost with the machine (docs/how-to/backup.md)"
    told = f"archive_mode is off: unless a standby or your provider keeps the log, {lost}"
    return "archive", "warning", told


async def _login(db: Database) -> Told:
    if await db.fetch_value("SELECT rolsuper FROM pg_roles WHERE rolname = session_user"):
        mend = "give the programs logins of their own, members of karta_gateway or karta_admin alone"
        told = f"is a superuser, who may change the audit log: {mend} (docs/how-to/production.md)"
        return "login", "warning", told
    return "login", "ok", "is no superuser"


async def _sealed(db: Database, master_keys: MasterKeys | None) -> Told | None:
    """Of all that `karta master-key rotate` moves, by the versions that stand there; nothing is opened. None
    where nothing is sealed, and nothing could be."""
    rows = await db.fetch(
        "SELECT version, count(*) AS sealed FROM ("
        " SELECT int4send(master_key_version) AS version FROM provider_credentials WHERE revoked_at IS NULL"
        " UNION ALL SELECT int4send(master_key_version) FROM webhook_secrets"
        # As `storage.sealed_box` writes it.
        " UNION ALL SELECT substr(sealed_secret, 2, 4) FROM totp_factors"
        " UNION ALL SELECT substr(sealed, 2, 4) FROM outbox WHERE sealed IS NOT NULL"
        " UNION ALL SELECT substr(sealed, 2, 4) FROM audit_signing_keys"
        ") AS sealed GROUP BY 1 ORDER BY 1 LIMIT 1000"
    )
    versions = () if master_keys is None else master_keys.versions
    sealed = {int.from_bytes(row["version"], "big"): row["sealed"] for row in rows}
    unknown = [
        f"{count} under version {version}" for version, count in sealed.items() if version not in versions
    ]
    if unknown:
        told = ", ".join(unknown)
        return "sealed", "failed", f"no master key is there for what is sealed, {told}: set that version, too"
    if master_keys is None:
        return None
    primary = master_keys.primary_version
    if old := sum(count for version, count in sealed.items() if version != primary):
        mend = "`karta master-key rotate`"
        return (
            "sealed",
            "warning",
            f"{old} secrets are under an older master key than version {primary}: {mend}",
        )
    return "sealed", "ok", f"all that is sealed is under version {primary} of the master key"
