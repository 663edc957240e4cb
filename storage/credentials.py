"""Provider keys that organizations bring: sealed before they are written, shredded when they go.

Shredding has two halves. In the transaction of the change the old material is set to NULL: from its commit on
no query can read it. But PostgreSQL keeps old row versions in the table's file, and VACUUM frees their space
without clearing it; so right after the commit the file is written anew (`shred_credentials` in SQL), and the
old one is emptied. When that cannot have the table to itself within a second, it stays due (`shred_due`) and
is tried again by the next change and by each round of housekeeping. Write-ahead log, replicas and backups
hold copies until they are recycled; those open only with the master key.

No role that writes here can read sealed material back: only the data plane can.
"""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

from storage import audit, sealing
from storage.acting import ADMINS, require_role
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, DatabaseUnavailable, InvalidValue, NotFound
from storage.model import Actor, ProviderCredential
from storage.plans import SUSPENDED_KEPT, Feature, require_feature
from storage.queries import Queries, Record
from storage.sealing import PLAINTEXT_BYTES_MAX, MasterKeys

CREDENTIALS_MAX = 1000
"""The most that one listing returns."""
SECRET_BYTES_MIN = 12
"""Shorter, and the last four shown would tell a good part of it."""

_COLUMNS = "credential_id, org_id, provider, last_four, created_at, revoked_at, verified_at, suspended_at"
_FORGET = "wrapped_key = NULL, ciphertext = NULL, revoked_at = now(), shred_due = true"
_log = logging.getLogger("karta.storage")


async def set_credential(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    *,
    org_id: UUID,
    provider: str,
    secret: bytearray,
    verified: bool = False,
) -> ProviderCredential:
    """Seals an organization's key of one provider, in place of the one it had. Wipes `secret` in any case.
    `verified` says that the provider has just let it in.

    Raises PlanRefused where the plan lacks them, NotFound for an unknown organization, NotAllowed,
    InvalidValue for a secret that could not be sent in a header, CheckFailed for a malformed provider name.
    """
    try:
        last_four = _last_four(secret)
        credential_id = uuid4()
        async with db.transaction() as tx:
            # Locked, so that two of these do not both find nothing to replace.
            salt = await _require_byok(tx, org_id)
            await require_role(tx, actor, org_id, ADMINS)
            version, wrapped_key, ciphertext = sealing.seal(
                master_keys,
                org_id=org_id,
                org_salt=salt,
                provider=provider,
                credential_id=credential_id,
                plaintext=secret,
            )
            replaced = await tx.fetch_row(
                f"""
                UPDATE provider_credentials SET {_FORGET}
                 WHERE org_id = $1 AND provider = $2 AND revoked_at IS NULL
                RETURNING credential_id, last_four
                """,  # noqa: S608
                org_id,
                provider,
            )
            row = await tx.fetch_row(
                f"""
                INSERT INTO provider_credentials
                       (credential_id, org_id, provider, last_four, master_key_version,
                        wrapped_key, ciphertext, verified_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8::boolean THEN now() END)
                RETURNING {_COLUMNS}
                """,  # noqa: S608
                credential_id,
                org_id,
                provider,
                last_four,
                version,
                wrapped_key,
                ciphertext,
                verified,
            )
            details = {"provider": provider, "last_four": last_four, "verified": verified}
            details["master_key_version"] = version
            if replaced is not None:
                old = {"credential_id": str(replaced["credential_id"]), "last_four": replaced["last_four"]}
                details["replaces"] = old
            event = Event.CREDENTIAL_SET if replaced is None else Event.CREDENTIAL_REPLACED
            await audit.record(tx, actor, event, org_id, str(credential_id), details)
    finally:
        sealing.wipe(secret)
    if replaced is not None:
        await shred_now(db)
    assert row is not None
    return _to_credential(row)


async def rotate_credential(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    credential_id: UUID,
    secret: bytearray,
    *,
    org_id: UUID | None = None,
    verified: bool = False,
) -> ProviderCredential:
    """Puts a new secret into a live credential, which keeps its id; the old material is shredded. Wipes
    `secret`. `verified` as in `set_credential`.

    Raises NotFound (also when `org_id` is given and the credential is not that organization's), Conflict when
    it was revoked, PlanRefused, NotAllowed and InvalidValue as `set_credential`.
    """
    try:
        last_four = _last_four(secret)
        async with db.transaction() as tx:
            found = await _find_credential(tx, credential_id, org_id)
            # The organization before its credential, as everywhere that locks both.
            salt = await _require_byok(tx, found.org_id)
            await require_role(tx, actor, found.org_id, ADMINS)
            before = await _find_credential(tx, credential_id, org_id, lock=True)
            if before.revoked_at is not None:
                raise Conflict(
                    f"credential {credential_id} was revoked: set a new one instead of rotating it"
                )
            version, wrapped_key, ciphertext = sealing.seal(
                master_keys,
                org_id=before.org_id,
                org_salt=salt,
                provider=before.provider,
                credential_id=credential_id,
                plaintext=secret,
            )
            row = await tx.fetch_row(
                f"""
                UPDATE provider_credentials
                   SET last_four = $2, master_key_version = $3, wrapped_key = $4, ciphertext = $5,
                       verified_at = CASE WHEN $6::boolean THEN now() END, shred_due = true
                 WHERE credential_id = $1
                RETURNING {_COLUMNS}
                """,  # noqa: S608
                credential_id,
                last_four,
                version,
                wrapped_key,
                ciphertext,
                verified,
            )
            details = {
                "provider": before.provider,
                "before": before.last_four,
                "after": last_four,
                "master_key_version": version,
                "verified": verified,
            }
            await audit.record(
                tx, actor, Event.CREDENTIAL_ROTATED, before.org_id, str(credential_id), details
            )
    finally:
        sealing.wipe(secret)
    await shred_now(db)
    assert row is not None
    return _to_credential(row)


async def revoke_credential(
    db: Database, actor: Actor, credential_id: UUID, *, org_id: UUID | None = None, reason: str = ""
) -> ProviderCredential:
    """Ends a credential and shreds its material. Revoking it again changes nothing. `reason` is for the audit
    log, where it was not somebody's wish.

    Raises NotFound, also when `org_id` is given and the credential is not that organization's.
    """
    async with db.transaction() as tx:
        before = await _find_credential(tx, credential_id, org_id, lock=True)
        if before.revoked_at is not None:
            return before
        row = await tx.fetch_row(
            f"UPDATE provider_credentials SET {_FORGET} WHERE credential_id = $1 RETURNING {_COLUMNS}",  # noqa: S608
            credential_id,
        )
        details = {"provider": before.provider, "last_four": before.last_four}
        details |= {"reason": reason} if reason else {}
        await audit.record(tx, actor, Event.CREDENTIAL_REVOKED, before.org_id, str(credential_id), details)
    await shred_now(db)
    assert row is not None
    return _to_credential(row)


async def forget_credentials(tx: Transaction, actor: Actor, org_id: UUID, reason: str) -> None:
    """Ends all of an organization's, in the transaction that calls for it, with the organization locked;
    `shred_now` is to follow its commit."""
    rows = await tx.fetch(
        f"""
        UPDATE provider_credentials SET {_FORGET} WHERE org_id = $1 AND revoked_at IS NULL
        RETURNING credential_id, provider, last_four
        """,  # noqa: S608
        org_id,
    )
    changes = [
        (
            str(row["credential_id"]),
            {"provider": row["provider"], "last_four": row["last_four"], "reason": reason},
        )
        for row in rows
    ]
    await audit.record_each(tx, actor, Event.CREDENTIAL_REVOKED, org_id, changes)


async def select_credentials(
    db: Queries,
    org_id: UUID,
    limit: int = CREDENTIALS_MAX,
    after: UUID | None = None,
    *,
    live: bool = False,
) -> list[ProviderCredential]:
    """An organization's credentials as they may be shown, oldest first, revoked ones too unless only `live`
    ones are wanted; `after` is the last id of the page before.

    Of those that live there is one for each provider, so they fit into one page; those that were revoked
    stay, and may fill any number.
    """
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS}
          FROM provider_credentials
         WHERE org_id = $1 {"AND revoked_at IS NULL" if live else ""}
           AND ($3::uuid IS NULL
                OR (created_at, credential_id)
                   > (SELECT created_at, credential_id FROM provider_credentials
                       WHERE credential_id = $3 AND org_id = $1))
         ORDER BY created_at, credential_id
         LIMIT $2
        """,  # noqa: S608
        org_id,
        min(limit, CREDENTIALS_MAX),
        after,
    )
    return [_to_credential(row) for row in rows]


async def shred_suspended(db: Database, actor: Actor) -> int:
    """Ends, and shreds, what has been suspended for `SUSPENDED_KEPT`; returns how many, `CREDENTIALS_MAX` at
    most. What is cut off is taken up by the next call."""
    rows = await db.fetch(
        """
        SELECT credential_id FROM provider_credentials
         WHERE suspended_at <= now() - $1::interval AND revoked_at IS NULL
         ORDER BY suspended_at LIMIT $2
        """,
        SUSPENDED_KEPT,
        CREDENTIALS_MAX,
    )
    for row in rows:
        reason = f"suspended for {SUSPENDED_KEPT.days} days"
        await revoke_credential(db, actor, row["credential_id"], reason=reason)
    return len(rows)


async def shred(db: Queries) -> bool:
    """Writes the table's file anew if any replaced or revoked material may linger in it; whether there was
    any.

    Raises DatabaseBusy when the table could not be had within a second: try again later.
    """
    done: bool = await db.fetch_value("SELECT shred_credentials()")
    return done


async def shred_now(db: Database) -> None:
    """The same right after a change, which is in force whether it comes to it or not."""
    try:
        await shred(db)
    except DatabaseUnavailable as exc:
        # The change itself is committed and in force; what is late is due, and stays due.
        _log.warning("old credential material is still to be shredded: %s", exc)


async def _require_byok(tx: Transaction, org_id: UUID) -> bytes:
    """The organization's salt, its row locked. Raises PlanRefused where the plan has no provider keys of its
    own."""
    await require_feature(tx, org_id, Feature.BYOK)
    salt: bytes = await tx.fetch_value("SELECT salt FROM organizations WHERE org_id = $1", org_id)
    return salt


async def _find_credential(
    tx: Transaction, credential_id: UUID, org_id: UUID | None, *, lock: bool = False
) -> ProviderCredential:
    """Raises NotFound, also for another organization's than the one that is given."""
    row = await tx.fetch_row(
        f"""
        SELECT {_COLUMNS}
          FROM provider_credentials
         WHERE credential_id = $1 AND ($2::uuid IS NULL OR org_id = $2)
           {"FOR NO KEY UPDATE" if lock else ""}
        """,  # noqa: S608
        credential_id,
        org_id,
    )
    if row is None:
        raise NotFound(f"there is no credential {credential_id}: see `karta byok list --org ORG`")
    return _to_credential(row)


def _last_four(secret: bytearray) -> str:
    if not SECRET_BYTES_MIN <= len(secret) <= PLAINTEXT_BYTES_MAX:
        raise InvalidValue(f"a provider key is {SECRET_BYTES_MIN} to {PLAINTEXT_BYTES_MAX} characters")
    if not all(0x21 <= byte <= 0x7E for byte in secret):
        raise InvalidValue("a provider key is printable ASCII without spaces or line ends")
    return secret[-4:].decode()


def _to_credential(row: Record) -> ProviderCredential:
    return ProviderCredential(
        credential_id=row["credential_id"],
        org_id=row["org_id"],
        provider=row["provider"],
        last_four=row["last_four"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        verified_at=row["verified_at"],
        suspended_at=row["suspended_at"],
    )
