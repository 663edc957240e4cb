"""Recovery codes: what signs somebody in who has lost their other second factors, each once.

A code has 120 random bits, so a fast digest is enough (SHA-256, over the user's id as well).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from uuid import UUID

from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.model import Actor
from storage.outbox import Letter, post
from storage.queries import Queries
from storage.sealing import MasterKeys
from storage.sessions import require_session
from storage.users import record_account_change

CODES = 10
_CODE_BYTES = 15
_GROUP_CHARS = 6


async def replace_recovery_codes(db: Database, actor: Actor, user_id: UUID, *, session: bytes) -> list[str]:
    """New codes, in place of all older ones. They are nowhere else and never again to be had. Raises
    SessionEnded when the session they were asked for in has ended."""
    codes = [_make() for _ in range(CODES)]
    async with db.transaction() as tx:
        await require_session(tx, user_id, session)
        await tx.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
        await tx.execute(
            "INSERT INTO recovery_codes (user_id, code_digest) SELECT $1, unnest($2::bytea[])",
            user_id,
            [_digest(user_id, code) for code in codes],
        )
        await record_account_change(tx, actor, Event.RECOVERY_CODES_MADE, user_id, {"codes": CODES})
    return codes


async def use_recovery_code(
    db: Database, actor: Actor, master_keys: MasterKeys, user_id: UUID, code: str, letter: Letter
) -> bool:
    """Whether the code is one of the user's, in any spelling; it is spent then, and the user is told."""
    async with db.transaction() as tx:
        spent = await tx.fetch_value(
            "DELETE FROM recovery_codes WHERE user_id = $1 AND code_digest = $2 RETURNING true",
            user_id,
            _digest(user_id, code),
        )
        if not spent:
            return False
        await post(tx, master_keys, letter)
        await record_account_change(tx, actor, Event.RECOVERY_CODE_USED, user_id, {})
    return True


async def count_recovery_codes(db: Queries, user_id: UUID) -> int:
    """How many are left."""
    left: int = await db.fetch_value("SELECT count(*) FROM recovery_codes WHERE user_id = $1", user_id)
    return left


async def drop_idle_codes(tx: Transaction, user_id: UUID) -> None:
    """Forgets the codes of a user who has no second factor left for them to stand in for."""
    await tx.execute(
        """
        DELETE FROM recovery_codes
         WHERE user_id = $1
           AND NOT EXISTS (SELECT FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL)
           AND NOT EXISTS (SELECT FROM passkeys WHERE user_id = $1)
        """,
        user_id,
    )


def _make() -> str:
    text = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower()
    return "-".join(text[at : at + _GROUP_CHARS] for at in range(0, len(text), _GROUP_CHARS))


def _digest(user_id: UUID, code: str) -> bytes:
    # Of a code that was typed only so much is looked at: a whole one and its dashes.
    plain = "".join(char for char in code[:64].lower() if char.isalnum())
    return hashlib.sha256(
        b"karta recovery code\0" + user_id.bytes + plain.encode("utf-8", "replace")
    ).digest()
