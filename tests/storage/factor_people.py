"""What tests of second factors start from."""

from __future__ import annotations

from uuid import UUID, uuid4

from storage.bridge import Database
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.outbox import Letter
from storage.passkeys import Passkey
from storage.sessions import create_session
from tests.storage.test_sessions import later

LETTER = Letter(kind=LetterKind.FACTOR_ADDED, recipient="ada@example.com", facts={"what": "A passkey"})
HERE, ELSEWHERE = bytes(32), bytes([1]) * 32
"""Digests of two sessions."""


async def sign_in_here(db: Database, actor: Actor, user_id: UUID, digest: bytes = HERE) -> None:
    """Factors change in a session that lives."""
    await create_session(db, actor, user_id, digest, later(hours=1))


def make_passkey(user_id: UUID, credential_id: bytes = b"one", sign_count: int = 0) -> Passkey:
    return Passkey(
        credential_id=credential_id,
        passkey_id=uuid4(),
        user_id=user_id,
        name="Laptop",
        public_key=b"public",
        sign_count=sign_count,
        backed_up=False,
        created_at=later(),
        last_used_at=None,
    )
