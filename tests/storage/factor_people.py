"""What tests of second factors start from."""

from __future__ import annotations

from storage.letter_kinds import LetterKind
from storage.outbox import Letter
from storage.passkeys import Passkey
from tests.storage.test_sessions import later

LETTER = Letter(kind=LetterKind.FACTOR_ADDED, recipient="ada@example.com", facts={"what": "A passkey"})
HERE, ELSEWHERE = bytes(32), bytes([1]) * 32
"""Digests of two sessions."""


def make_passkey(user_id: object, credential_id: bytes = b"one", sign_count: int = 0) -> Passkey:
    from uuid import UUID, uuid4

    assert isinstance(user_id, UUID)
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
