"""Signed checkpoints of audit chains: what each was at a moment, so that a tail that was cut off or a chain
that was written anew shows, also when whoever did it owned the database.

A checkpoint is an Ed25519 signature over a chain's id, a row's number and its hash. The signing key's private
half is sealed under the master key, which the database does not hold; its public half is shown to everybody.
Kept elsewhere (`karta audit checkpoint` prints them), checkpoints prove even against somebody who has both.

A head is signed only after the rows since the last one have been recomputed: nobody's change is signed as if
it had been there.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.errors import SealError
from storage.model import Actor
from storage.queries import Queries, Record
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys

KEY_ID_CHARS = 16
KEYS_MAX = 100
PAGE_ROWS_MAX = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = "org_id, seq, kind, hash, signed_at, key_id, signature"


class Kind(StrEnum):
    HEAD = "head"
    """The chain reached this row."""
    BASE = "base"
    """What went up to this row was dropped, being old; the next row follows it."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """`signature` is over `message`, by the key of `key_id`."""

    org_id: UUID
    seq: int
    kind: Kind
    hash: bytes
    signed_at: datetime
    key_id: str
    signature: bytes

    @property
    def message(self) -> bytes:
        """What is signed: lines of text, so that anybody can put it together again."""
        micros = (self.signed_at - _EPOCH) // timedelta(microseconds=1)
        lines = ("karta audit checkpoint 1", self.kind.value, self.org_id, self.seq, self.hash.hex(), micros)
        return "\n".join(map(str, lines)).encode()


class SigningKey:
    """A key that signs. Its repr shows the public half alone."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.key_id = name_key(self.public)

    def sign(self, org_id: UUID, seq: int, digest: bytes, kind: Kind = Kind.HEAD) -> Checkpoint:
        made = Checkpoint(
            org_id=org_id,
            seq=seq,
            kind=kind,
            hash=digest,
            signed_at=datetime.now(UTC),
            key_id=self.key_id,
            signature=b"",
        )
        return msgspec.structs.replace(made, signature=self._private.sign(made.message))

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r})"


class PublicKey(msgspec.Struct, frozen=True):
    """The public half of a signing key (32 bytes), as shown to everybody."""

    key_id: str
    public: bytes
    created_at: datetime


def name_key(public: bytes) -> str:
    """The id of a key: the beginning of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:KEY_ID_CHARS]


def is_signed(checkpoint: Checkpoint, keys: dict[str, bytes]) -> bool:
    """Whether one of `keys` (public halves by id) signed it."""
    public = keys.get(checkpoint.key_id)
    if public is None or name_key(public) != checkpoint.key_id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(checkpoint.signature, checkpoint.message)
    except InvalidSignature:
        return False
    return True


async def select_public_keys(db: Queries) -> list[PublicKey]:
    """All that ever signed, the newest first."""
    rows = await db.fetch(
        "SELECT key_id, public_key, created_at FROM audit_signing_keys"
        " ORDER BY created_at DESC, key_id LIMIT $1",
        KEYS_MAX,
    )
    return [PublicKey(row["key_id"], row["public_key"], row["created_at"]) for row in rows]


async def trusted_keys(db: Queries, master_keys: MasterKeys | None) -> dict[str, bytes]:
    """The public halves by id whose signatures count: with master keys, only of keys that we made ourselves
    (a private half that somebody slipped in does not open); without, all that there are."""
    rows = await db.fetch("SELECT key_id, public_key, sealed FROM audit_signing_keys LIMIT $1", KEYS_MAX)
    return {
        row["key_id"]: row["public_key"]
        for row in rows
        if master_keys is None or _open(master_keys, row) is not None
    }


async def ensure_signing_key(db: Database, actor: Actor, master_keys: MasterKeys) -> SigningKey:
    """The newest key that opens under these master keys; made when there is none. Raises SealError when
    there are keys, and none opens: those master keys belong to another database."""
    rows = await db.fetch(
        "SELECT key_id, public_key, sealed FROM audit_signing_keys ORDER BY created_at DESC LIMIT $1",
        KEYS_MAX,
    )
    for row in rows:
        if (key := _open(master_keys, row)) is not None:
            return key
    if rows:
        raise SealError("no audit signing key opens with these master keys: are they those of this database?")
    key = SigningKey(Ed25519PrivateKey.generate())
    sealed = seal_box(
        master_keys, Purpose.AUDIT_SIGNING_KEY, key.key_id.encode(), key._private.private_bytes_raw()
    )
    async with db.transaction() as tx:
        # Of two that start at once, one makes it.
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('audit_signing_keys', 0))")
        if await tx.fetch_value("SELECT EXISTS (SELECT FROM audit_signing_keys)"):
            made = False
        else:
            made = True
            await tx.execute(
                "INSERT INTO audit_signing_keys (key_id, public_key, sealed) VALUES ($1, $2, $3)",
                key.key_id,
                key.public,
                sealed,
            )
            details = {"public_key": key.public.hex()}
            await audit.record(tx, actor, Event.AUDIT_SIGNING_KEY_MADE, None, key.key_id, details)
    return key if made else await ensure_signing_key(db, actor, master_keys)


async def select_checkpoints(
    db: Queries, org_id: UUID, *, after_seq: int = 0, kind: Kind = Kind.HEAD, limit: int = PAGE_ROWS_MAX
) -> list[Checkpoint]:
    """Those of one chain in order, `limit` at most, from behind `after_seq`."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM audit_checkpoints"  # noqa: S608
        " WHERE org_id = $1 AND kind = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        org_id,
        kind.value,
        after_seq,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_checkpoint(row) for row in rows]


async def select_last_checkpoint(db: Queries, org_id: UUID, kind: Kind = Kind.HEAD) -> Checkpoint | None:
    """The one furthest along the chain."""
    row = await db.fetch_row(
        f"SELECT {_COLUMNS} FROM audit_checkpoints"  # noqa: S608
        " WHERE org_id = $1 AND kind = $2 ORDER BY seq DESC LIMIT 1",
        org_id,
        kind.value,
    )
    return None if row is None else _to_checkpoint(row)


async def insert_checkpoint(db: Queries, checkpoint: Checkpoint) -> bool:
    """Keeps one. False when there is one of that row already."""
    done = await db.fetch_value(
        f"INSERT INTO audit_checkpoints ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
        " ON CONFLICT DO NOTHING RETURNING true",
        checkpoint.org_id,
        checkpoint.seq,
        checkpoint.kind.value,
        checkpoint.hash,
        checkpoint.signed_at,
        checkpoint.key_id,
        checkpoint.signature,
    )
    return bool(done)


def _open(master_keys: MasterKeys, row: Record) -> SigningKey | None:
    try:
        box = open_box(master_keys, Purpose.AUDIT_SIGNING_KEY, row["key_id"].encode(), row["sealed"])
        key = SigningKey(Ed25519PrivateKey.from_private_bytes(box))
    except (SealError, ValueError):
        return None
    return key if (key.public, key.key_id) == (row["public_key"], row["key_id"]) else None


def _to_checkpoint(row: Record) -> Checkpoint:
    return Checkpoint(
        org_id=row["org_id"],
        seq=row["seq"],
        kind=Kind(row["kind"]),
        hash=row["hash"],
        signed_at=row["signed_at"],
        key_id=row["key_id"],
        signature=row["signature"],
    )
