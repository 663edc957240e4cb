"""Moves everything sealed under the newest master key, so that older ones can go.

Sealed are provider keys and secrets of webhooks (their data keys are wrapped anew, the ciphertext stays), the
secrets of authenticator apps, mail that waits, and the keys that sign the audit log. Programs that run must
know the new key before: they open what is moved at once.

Strategy: batches, each its own transaction with its own audit row, by the owner of the schema; no role of the
programs may read all of it. Afterwards the table of provider keys is written anew, since its old pages hold
what the old master key opens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from storage import audit, sealing
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.credentials import shred
from storage.errors import SealError
from storage.model import Actor, SealedCredential
from storage.queries import Record
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys
from storage.webhooks import sealed_secret

BATCH_ROWS_MAX = 200
_NOTHING = UUID(int=0)


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved, and what did not open: that was sealed under a key that is not among those given."""

    version: int
    credentials: int
    webhook_secrets: int
    totp_secrets: int
    messages: int
    signing_keys: int
    unopened: int

    @property
    def complete(self) -> bool:
        """Older master keys can go."""
        return self.unopened == 0


async def rotate_master_key(owner_db: Database, actor: Actor, master_keys: MasterKeys) -> Rotation:
    """All of it; doing it again moves what is left, or nothing. Raises StorageError."""
    move = {
        "credentials": _move_credentials,
        "webhook_secrets": _move_webhook_secrets,
        "totp_secrets": _move_totp_secrets,
        "messages": _move_messages,
    }
    moved = dict.fromkeys((*move, "signing_keys"), 0)
    unopened = 0
    for kind, move_batch in move.items():
        done, failed = await _move_all(owner_db, actor, master_keys, kind, move_batch)
        moved[kind] = done
        unopened += failed
    moved["signing_keys"], failed = await _move_signing_keys(owner_db, actor, master_keys)
    unopened += failed
    await shred(owner_db)
    return Rotation(version=master_keys.primary_version, unopened=unopened, **moved)


_Mover = Callable[[Transaction, MasterKeys, UUID], Awaitable[tuple[list[UUID], int]]]
"""Moves some rows from behind an id; tells their ids, whether moved or not, and how many did not open."""


async def _move_all(
    db: Database, actor: Actor, master_keys: MasterKeys, kind: str, move: _Mover
) -> tuple[int, int]:
    after, moved, unopened = _NOTHING, 0, 0
    while True:
        async with db.transaction() as tx:
            seen, failed = await move(tx, master_keys, after)
            if not seen:
                return moved, unopened
            done = len(seen) - failed
            if done:
                details = {"kind": kind, "rows": done, "version": master_keys.primary_version}
                await audit.record(tx, actor, Event.MASTER_KEY_ROTATED, None, kind, details)
        after, moved, unopened = seen[-1], moved + done, unopened + failed


async def _move_credentials(tx: Transaction, master_keys: MasterKeys, after: UUID) -> tuple[list[UUID], int]:
    rows = await tx.fetch(
        """
        SELECT c.credential_id, c.org_id, c.provider, c.master_key_version, o.salt, c.wrapped_key,
               c.ciphertext
          FROM provider_credentials c JOIN organizations o USING (org_id)
         WHERE c.revoked_at IS NULL AND c.master_key_version <> $1 AND c.credential_id > $2
         ORDER BY c.credential_id LIMIT $3
           FOR UPDATE OF c
        """,
        master_keys.primary_version,
        after,
        BATCH_ROWS_MAX,
    )
    failed = 0
    for row in rows:
        sealed = SealedCredential(
            credential_id=row["credential_id"],
            org_id=row["org_id"],
            provider=row["provider"],
            master_key_version=row["master_key_version"],
            org_salt=row["salt"],
            wrapped_key=row["wrapped_key"],
            ciphertext=row["ciphertext"],
        )
        try:
            version, wrapped_key = sealing.rewrap(master_keys, sealed)
        except SealError:
            failed += 1
            continue
        await tx.execute(
            """
            UPDATE provider_credentials SET master_key_version = $2, wrapped_key = $3, shred_due = true
             WHERE credential_id = $1
            """,
            sealed.credential_id,
            version,
            wrapped_key,
        )
    return [row["credential_id"] for row in rows], failed


async def _move_webhook_secrets(
    tx: Transaction, master_keys: MasterKeys, after: UUID
) -> tuple[list[UUID], int]:
    rows = await tx.fetch(
        """
        SELECT s.secret_id, e.org_id, o.salt, s.master_key_version, s.wrapped_key, s.ciphertext
          FROM webhook_secrets s JOIN webhook_endpoints e USING (endpoint_id)
          JOIN organizations o USING (org_id)
         WHERE s.master_key_version <> $1 AND s.secret_id > $2
         ORDER BY s.secret_id LIMIT $3
           FOR UPDATE OF s
        """,
        master_keys.primary_version,
        after,
        BATCH_ROWS_MAX,
    )
    failed = 0
    for row in rows:
        try:
            version, wrapped_key = sealing.rewrap(master_keys, sealed_secret(row))
        except SealError:
            failed += 1
            continue
        await tx.execute(
            "UPDATE webhook_secrets SET master_key_version = $2, wrapped_key = $3 WHERE secret_id = $1",
            row["secret_id"],
            version,
            wrapped_key,
        )
    return [row["secret_id"] for row in rows], failed


async def _move_totp_secrets(tx: Transaction, master_keys: MasterKeys, after: UUID) -> tuple[list[UUID], int]:
    rows = await tx.fetch(
        """
        SELECT user_id AS place, sealed_secret AS box FROM totp_factors
         WHERE substr(sealed_secret, 2, 4) <> $1 AND user_id > $2
         ORDER BY user_id LIMIT $3
           FOR UPDATE
        """,
        *_selection(master_keys, after),
    )
    boxes, failed = _reseal(master_keys, Purpose.TOTP_SECRET, rows)
    for user_id, box in boxes.items():
        await tx.execute("UPDATE totp_factors SET sealed_secret = $2 WHERE user_id = $1", user_id, box)
    return [row["place"] for row in rows], failed


async def _move_messages(tx: Transaction, master_keys: MasterKeys, after: UUID) -> tuple[list[UUID], int]:
    rows = await tx.fetch(
        """
        SELECT message_id AS place, sealed AS box FROM outbox
         WHERE sealed IS NOT NULL AND substr(sealed, 2, 4) <> $1 AND message_id > $2
         ORDER BY message_id LIMIT $3
           FOR UPDATE
        """,
        *_selection(master_keys, after),
    )
    boxes, failed = _reseal(master_keys, Purpose.OUTBOX_MESSAGE, rows)
    for message_id, box in boxes.items():
        await tx.execute("UPDATE outbox SET sealed = $2 WHERE message_id = $1", message_id, box)
    return [row["place"] for row in rows], failed


async def _move_signing_keys(db: Database, actor: Actor, master_keys: MasterKeys) -> tuple[int, int]:
    """The few that sign the audit log; how many were moved, and how many did not open. (The health job's key
    is made anew where it does not open.)"""
    moved = failed = 0
    async with db.transaction() as tx:
        version, _, limit = _selection(master_keys, _NOTHING)
        for row in await tx.fetch(
            "SELECT key_id, sealed FROM audit_signing_keys WHERE substr(sealed, 2, 4) <> $1 LIMIT $2"
            " FOR UPDATE",
            version,
            limit,
        ):
            purpose, place = Purpose.AUDIT_SIGNING_KEY, row["key_id"].encode()
            try:
                content = open_box(master_keys, purpose, place, row["sealed"])
            except SealError:
                failed += 1
                continue
            sealed = seal_box(master_keys, purpose, place, content)
            await tx.execute(
                "UPDATE audit_signing_keys SET sealed = $2 WHERE key_id = $1", row["key_id"], sealed
            )
            moved += 1
        if moved:
            details = {"kind": "signing_keys", "rows": moved, "version": master_keys.primary_version}
            await audit.record(tx, actor, Event.MASTER_KEY_ROTATED, None, "signing_keys", details)
    return moved, failed


def _selection(master_keys: MasterKeys, after: UUID) -> tuple[bytes, UUID, int]:
    """A box's version, as `sealed_box` writes it, is what tells whether it is to be moved."""
    return master_keys.primary_version.to_bytes(4, "big"), after, BATCH_ROWS_MAX


def _reseal(master_keys: MasterKeys, purpose: Purpose, rows: list[Record]) -> tuple[dict[UUID, bytes], int]:
    """The boxes sealed anew by their rows' ids, and how many did not open."""
    boxes = {}
    for row in rows:
        place: UUID = row["place"]
        try:
            content = open_box(master_keys, purpose, place.bytes, row["box"])
        except SealError:
            continue
        boxes[place] = seal_box(master_keys, purpose, place.bytes, content)
    return boxes, len(rows) - len(boxes)
