"""Sign-ins that wait for a second factor: for how long, what ends them, and that no reset slips in."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from storage.bridge import Database
from storage.errors import NotFound
from storage.model import Actor, User
from storage.passwords import REFERENCE_DIGEST
from storage.pending_sign_ins import create_pending_sign_in, select_pending_user, spend_pending_sign_in
from storage.sessions import create_session, end_sessions
from tests.storage.lock_waits import until_waiting
from tests.storage.test_sessions import TOKEN_DIGEST, later, user

__all__ = ["user"]
DIGEST = bytes(32)


async def spend(db: Database, user: User) -> None:
    async with db.transaction() as tx:
        await spend_pending_sign_in(tx, user.user_id, DIGEST)


async def test_it_waits_for_the_rest_and_ends_once(admin_db: Database, user: User) -> None:
    assert await select_pending_user(admin_db, DIGEST) is None
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    assert await select_pending_user(admin_db, DIGEST) == user
    await spend(admin_db, user)
    assert await select_pending_user(admin_db, DIGEST) is None
    with pytest.raises(NotFound):
        await spend(admin_db, user)


async def test_it_is_nobody_elses(admin_db: Database, user: User) -> None:
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    with pytest.raises(NotFound):
        async with admin_db.transaction() as tx:
            await spend_pending_sign_in(tx, uuid4(), DIGEST)
    assert await select_pending_user(admin_db, DIGEST) == user


async def test_but_not_for_long(admin_db: Database, user: User) -> None:
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    await admin_db.execute("UPDATE pending_sign_ins SET expires_at = now() - interval '1 second'")
    assert await select_pending_user(admin_db, DIGEST) is None
    with pytest.raises(NotFound):
        await spend(admin_db, user)
    await create_pending_sign_in(admin_db, user.user_id, bytes([1]) * 32, REFERENCE_DIGEST)
    assert await admin_db.fetch_value("SELECT count(*) FROM pending_sign_ins") == 1


async def test_none_begins_by_a_password_that_was_changed(admin_db: Database, user: User) -> None:
    with pytest.raises(NotFound):
        await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST[:-1] + b"K")
    assert await admin_db.fetch_value("SELECT count(*) FROM pending_sign_ins") == 0


async def test_no_session_comes_of_one_that_a_reset_is_ending(
    admin_db: Database, owner_db: Database, actor: Actor, user: User
) -> None:
    """The second factor was right, and the reset has its locks: the session waits, and is not made."""
    await create_pending_sign_in(admin_db, user.user_id, DIGEST, REFERENCE_DIGEST)
    refused = False

    async def sign_in() -> None:
        nonlocal refused
        with pytest.raises(NotFound):
            await create_session(
                admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1), pending_digest=DIGEST
            )
        refused = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await tx.execute("UPDATE users SET password_digest = $1", REFERENCE_DIGEST[:-1] + b"K")
        nursery.start_soon(sign_in)
        await until_waiting(owner_db)
        assert not refused
        await tx.execute("DELETE FROM pending_sign_ins")
        await end_sessions(tx, user.user_id)
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 0
