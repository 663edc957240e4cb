from __future__ import annotations

import pytest

from storage.bridge import Database
from storage.errors import NotFound
from storage.model import User
from storage.passwords import REFERENCE_DIGEST
from storage.pending_sign_ins import complete_pending_sign_in, create_pending_sign_in, select_pending_user
from tests.storage.test_sessions import user

__all__ = ["user"]
DIGEST = bytes(32)


async def test_it_waits_for_the_rest_and_ends_once(admin_db: Database, user: User) -> None:
    assert await select_pending_user(admin_db, DIGEST) is None
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    assert await select_pending_user(admin_db, DIGEST) == user
    await complete_pending_sign_in(admin_db, DIGEST)
    assert await select_pending_user(admin_db, DIGEST) is None
    with pytest.raises(NotFound):
        await complete_pending_sign_in(admin_db, DIGEST)


async def test_but_not_for_long(admin_db: Database, user: User) -> None:
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    await admin_db.execute("UPDATE pending_sign_ins SET expires_at = now() - interval '1 second'")
    assert await select_pending_user(admin_db, DIGEST) is None
    with pytest.raises(NotFound):
        await complete_pending_sign_in(admin_db, DIGEST)
    await create_pending_sign_in(admin_db, user.user_id, bytes([1]) * 32, REFERENCE_DIGEST)
    assert await admin_db.fetch_value("SELECT count(*) FROM pending_sign_ins") == 1


async def test_none_begins_by_a_password_that_was_changed(admin_db: Database, user: User) -> None:
    with pytest.raises(NotFound):
        await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST[:-1] + b"K")
    assert await admin_db.fetch_value("SELECT count(*) FROM pending_sign_ins") == 0
