from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, InvalidReference, NotFound, ProofRequired, SessionEnded
from storage.model import Actor, User
from storage.passwords import REFERENCE_DIGEST
from storage.sessions import (
    Method,
    create_session,
    delete_session,
    end_other_sessions,
    end_session,
    keep_interrupted,
    require_session,
    select_interrupted,
    select_sessions,
    step_up,
    touch_session,
)
from storage.signed_in import select_signed_in
from storage.users import create_user
from tests.storage.lock_waits import until_waiting

TOKEN_DIGEST = hashlib.sha256(b"token").digest()
ADD_PASSKEY = """
    INSERT INTO passkeys (credential_id, user_id, name, public_key, sign_count, backed_up)
    VALUES ('one', $1, 'Laptop', 'public', 0, false)
"""


@pytest.fixture
async def user(admin_db: Database, actor: Actor) -> User:
    return await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)


def later(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


async def test_a_session_lives_until_it_is_ended(admin_db: Database, actor: Actor, user: User) -> None:
    session = await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    found = await select_signed_in(admin_db, TOKEN_DIGEST)
    assert found is not None
    assert (found.session, found.user) == (session, user)
    assert await select_signed_in(admin_db, bytes(32)) is None
    assert await delete_session(admin_db, actor, TOKEN_DIGEST)
    assert not await delete_session(admin_db, actor, TOKEN_DIGEST)
    assert await select_signed_in(admin_db, TOKEN_DIGEST) is None
    rows = await select_audit_rows(admin_db, None, after_seq=1)
    assert [(row.event, row.subject) for row in rows] == [
        ("session:created", str(user.user_id)),
        ("sign_in:succeeded", str(user.user_id)),
        ("session:ended", str(user.user_id)),
    ]
    assert TOKEN_DIGEST.hex() not in "".join(row.details for row in rows)


async def test_an_expired_session_is_none_and_is_cleared_by_the_next(
    admin_db: Database, actor: Actor, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(seconds=-1))
    assert await select_signed_in(admin_db, TOKEN_DIGEST) is None
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


async def test_an_idle_session_is_none(admin_db: Database, actor: Actor, user: User) -> None:
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=9))
    await admin_db.execute("UPDATE sessions SET last_seen_at = now() - interval '20 minutes'")
    assert await select_signed_in(admin_db, TOKEN_DIGEST, 600) is None
    assert await select_sessions(admin_db, user.user_id, 600) == []
    assert await select_signed_in(admin_db, TOKEN_DIGEST, 1800) is not None
    await touch_session(admin_db, TOKEN_DIGEST)
    assert await select_signed_in(admin_db, TOKEN_DIGEST, 600) is not None


@pytest.mark.parametrize(
    ("stepped_up_at", "fresh"),
    [
        ("now() - interval '299 seconds'", True),
        ("now() - interval '301 seconds'", False),
        ("now() + interval '1 minute'", False),
        ("NULL", False),
    ],
)
async def test_proof_is_fresh_for_five_minutes(
    admin_db: Database, owner_db: Database, actor: Actor, user: User, stepped_up_at: str, fresh: bool
) -> None:
    assert (await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))).stepped_up
    await owner_db.execute(f"UPDATE sessions SET stepped_up_at = {stepped_up_at}")
    found = await select_signed_in(admin_db, TOKEN_DIGEST)
    assert found is not None
    assert found.session.stepped_up is fresh


async def test_proof_gives_the_session_a_new_token(admin_db: Database, actor: Actor, user: User) -> None:
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    await admin_db.execute("UPDATE sessions SET stepped_up_at = NULL")
    with pytest.raises(SessionEnded):
        await step_up(admin_db, actor, uuid4(), TOKEN_DIGEST, bytes(32))
    await step_up(admin_db, actor, user.user_id, TOKEN_DIGEST, bytes(32))
    assert await select_signed_in(admin_db, TOKEN_DIGEST) is None
    found = await select_signed_in(admin_db, bytes(32))
    assert found is not None
    assert found.session.stepped_up
    assert (await select_audit_rows(admin_db, None))[-1].event == "session:stepped_up"


async def test_what_was_interrupted_is_kept_with_the_session(
    admin_db: Database, actor: Actor, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    assert await select_interrupted(admin_db, TOKEN_DIGEST) is None
    await keep_interrupted(admin_db, TOKEN_DIGEST, "{}")
    assert await select_interrupted(admin_db, TOKEN_DIGEST) == "{}"
    await keep_interrupted(admin_db, TOKEN_DIGEST, None)
    assert await select_interrupted(admin_db, TOKEN_DIGEST) is None


async def test_sessions_are_listed_and_ended(admin_db: Database, actor: Actor, user: User) -> None:
    digests = [bytes([number]) * 32 for number in range(4)]
    made = [await create_session(admin_db, actor, user.user_id, digest, later(hours=1)) for digest in digests]
    other = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    assert {one.session_id for one in await select_sessions(admin_db, user.user_id)} == {
        one.session_id for one in made
    }
    assert made[0].address == "192.0.2.7"
    with pytest.raises(NotFound):
        await end_session(admin_db, actor, other.user_id, made[0].session_id)
    await end_session(admin_db, actor, user.user_id, made[0].session_id)
    assert await end_other_sessions(admin_db, actor, user.user_id, digests[3]) == 2
    assert [one.session_id for one in await select_sessions(admin_db, user.user_id)] == [made[3].session_id]


async def test_no_session_begins_by_a_password_that_is_being_changed(
    admin_db: Database, owner_db: Database, actor: Actor, user: User
) -> None:
    refused = False

    async def sign_in() -> None:
        nonlocal refused
        with pytest.raises(NotFound):
            await create_session(
                admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1), password_digest=REFERENCE_DIGEST
            )
        refused = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await tx.execute("UPDATE users SET password_digest = $1", REFERENCE_DIGEST[:-1] + b"K")
        nursery.start_soon(sign_in)
        await until_waiting(owner_db)
        assert not refused
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 0


@pytest.fixture
async def elsewhere(admin_db: Database, actor: Actor, user: User) -> bytes:
    """The digest of the session in which the user changes how they sign in."""
    await create_session(admin_db, actor, user.user_id, bytes(32), later(hours=1))
    return bytes(32)


async def test_no_session_begins_by_a_password_alone_while_a_second_factor_is_added(
    admin_db: Database, owner_db: Database, actor: Actor, user: User, elsewhere: bytes
) -> None:
    refused = False

    async def sign_in() -> None:
        nonlocal refused
        with pytest.raises(ProofRequired):
            await create_session(
                admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1), password_digest=REFERENCE_DIGEST
            )
        refused = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await require_session(tx, user.user_id, elsewhere)
        nursery.start_soon(sign_in)
        await until_waiting(owner_db)
        assert not refused
        await tx.execute(ADD_PASSKEY, user.user_id)
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 1


async def test_no_session_begins_by_a_passkey_that_is_being_removed(
    admin_db: Database, owner_db: Database, actor: Actor, user: User, elsewhere: bytes
) -> None:
    await admin_db.execute(ADD_PASSKEY, user.user_id)
    refused = False

    async def sign_in() -> None:
        nonlocal refused
        with pytest.raises(NotFound):
            await create_session(
                admin_db,
                actor,
                user.user_id,
                TOKEN_DIGEST,
                later(hours=1),
                Method.PASSKEY,
                credential_id=b"one",
            )
        refused = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await require_session(tx, user.user_id, elsewhere)
        nursery.start_soon(sign_in)
        await until_waiting(owner_db)
        assert not refused
        await tx.execute("DELETE FROM passkeys")
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 1


async def test_a_passkey_is_its_own_users(admin_db: Database, actor: Actor, user: User) -> None:
    await admin_db.execute(ADD_PASSKEY, user.user_id)
    other = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    arguments = (TOKEN_DIGEST, later(hours=1), Method.PASSKEY)
    with pytest.raises(NotFound):
        await create_session(admin_db, actor, other.user_id, *arguments, credential_id=b"one")
    await create_session(admin_db, actor, user.user_id, *arguments, credential_id=b"one")


async def test_who_ends_a_session_waits_for_what_is_done_in_it(
    admin_db: Database, owner_db: Database, actor: Actor, user: User
) -> None:
    session = await create_session(admin_db, actor, user.user_id, TOKEN_DIGEST, later(hours=1))
    ended = False

    async def end() -> None:
        nonlocal ended
        await end_session(admin_db, actor, user.user_id, session.session_id)
        ended = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await require_session(tx, user.user_id, TOKEN_DIGEST)
        nursery.start_soon(end)
        await until_waiting(owner_db)
        assert not ended
    assert ended
    with pytest.raises(SessionEnded):
        await end_other_sessions(admin_db, actor, user.user_id, TOKEN_DIGEST)
