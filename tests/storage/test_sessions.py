from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, InvalidReference
from storage.model import Actor, User
from storage.passwords import REFERENCE_DIGEST
from storage.sessions import create_session, delete_session, select_session
from storage.users import create_user

TOKEN_DIGEST = hashlib.sha256(b"token").digest()


@pytest.fixture
async def user(admin_db: Database, actor: Actor) -> User:
    return await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)


def later(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


async def test_a_session_lives_until_it_is_ended(admin_db: Database, actor: Actor, user: User) -> None:
    session = await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    assert await select_session(admin_db, TOKEN_DIGEST) == (session, user)
    assert await select_session(admin_db, bytes(32)) is None
    assert await delete_session(admin_db, actor, TOKEN_DIGEST)
    assert not await delete_session(admin_db, actor, TOKEN_DIGEST)
    assert await select_session(admin_db, TOKEN_DIGEST) is None
    rows = await select_audit_rows(admin_db, None, after_seq=1)
    assert [(row.event, row.subject) for row in rows] == [
        ("session:created", str(user.user_id)),
        ("session:ended", str(user.user_id)),
    ]
    assert TOKEN_DIGEST.hex() not in "".join(row.details for row in rows)


async def test_an_expired_session_is_none_and_is_cleared_by_the_next(
    admin_db: Database, actor: Actor, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(seconds=-1))
    assert await select_session(admin_db, TOKEN_DIGEST) is None
    await create_session(admin_db, actor, user.user_id, bytes(32), later(hours=1))
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 1


async def test_what_is_no_session(admin_db: Database, actor: Actor, user: User) -> None:
    with pytest.raises(InvalidReference):
        await create_session(admin_db, actor, uuid4(), TOKEN_DIGEST, later(hours=1))
    with pytest.raises(CheckFailed):
        await create_session(admin_db, actor, user.user_id, b"token itself", later(hours=1))
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    with pytest.raises(Conflict):
        await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
