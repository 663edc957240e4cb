from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from storage import passkeys
from storage.bridge import Database
from storage.errors import Conflict, NotFound, SessionEnded
from storage.model import Actor, User
from storage.passkeys import (
    CHALLENGES_MAX,
    ChallengePurpose,
    create_challenge,
    ensure_handle,
    insert_passkey,
    note_passkey_used,
    remove_passkey,
    select_passkey,
    select_passkeys,
    take_challenge,
)
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.signed_in import select_signed_in
from storage.users import create_user
from tests.storage.factor_people import ELSEWHERE, HERE, LETTER, make_passkey, sign_in_here
from tests.storage.test_sessions import user

__all__ = ["user"]
SIGN_IN, PROOF = ChallengePurpose.SIGN_IN, ChallengePurpose.PROOF


async def test_a_challenge_is_used_once_by_its_browser_for_its_purpose(admin_db: Database) -> None:
    challenge = await create_challenge(admin_db, SIGN_IN, HERE)
    for purpose, holder, tried in (
        (PROOF, HERE, challenge),
        (SIGN_IN, ELSEWHERE, challenge),
        (SIGN_IN, HERE, HERE),
    ):
        with pytest.raises(NotFound):
            await take_challenge(admin_db, purpose, holder, tried)
    taken = 0

    async def take() -> None:
        nonlocal taken
        try:
            await take_challenge(admin_db, SIGN_IN, HERE, challenge)
            taken += 1
        except NotFound:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(take)
    assert taken == 1


async def test_challenges_grow_old_and_are_few(admin_db: Database) -> None:
    old = await create_challenge(admin_db, SIGN_IN, HERE)
    await admin_db.execute("UPDATE passkey_challenges SET expires_at = now() - interval '1 second'")
    with pytest.raises(NotFound):
        await take_challenge(admin_db, SIGN_IN, HERE, old)
    made = [await create_challenge(admin_db, SIGN_IN, HERE) for _ in range(CHALLENGES_MAX + 5)]
    await create_challenge(admin_db, SIGN_IN, ELSEWHERE)
    assert await admin_db.fetch_value("SELECT count(*) FROM passkey_challenges") == CHALLENGES_MAX + 1
    await take_challenge(admin_db, SIGN_IN, HERE, made[-1])


async def test_a_handle_is_made_once(admin_db: Database, user: User) -> None:
    handle = await ensure_handle(admin_db, user.user_id)
    assert len(handle) == 64
    assert await ensure_handle(admin_db, user.user_id) == handle
    with pytest.raises(NotFound):
        await ensure_handle(admin_db, uuid4())


async def test_passkeys_are_kept_and_removed(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    for digest in (HERE, ELSEWHERE):
        await sign_in_here(admin_db, actor, user.user_id, digest)
    handle = await ensure_handle(admin_db, user.user_id)
    given = make_passkey(user.user_id)
    await insert_passkey(admin_db, actor, master_keys, given, LETTER, keep_session=HERE)
    assert await select_signed_in(admin_db, ELSEWHERE) is None
    (kept,) = await select_passkeys(admin_db, user.user_id)
    assert (kept.credential_id, kept.name, kept.public_key) == (b"one", "Laptop", b"public")
    assert await select_passkey(admin_db, b"one") == (kept, handle)
    with pytest.raises(NotFound):
        await select_passkey(admin_db, b"two")
    eve = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    await sign_in_here(admin_db, actor, eve.user_id, ELSEWHERE)
    with pytest.raises(Conflict):
        stolen = make_passkey(eve.user_id)
        await insert_passkey(admin_db, actor, master_keys, stolen, LETTER, keep_session=ELSEWHERE)
    arguments = (admin_db, actor, master_keys)
    with pytest.raises(NotFound):
        await remove_passkey(*arguments, eve.user_id, kept.passkey_id, LETTER, keep_session=ELSEWHERE)
    await remove_passkey(*arguments, user.user_id, kept.passkey_id, LETTER, keep_session=HERE)
    assert await select_passkeys(admin_db, user.user_id) == []


async def test_a_session_that_has_ended_meanwhile_changes_no_passkey(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    # Such as by a reset, while a thief's request was under way.
    await sign_in_here(admin_db, actor, user.user_id)
    given = make_passkey(user.user_id)
    arguments = (admin_db, actor, master_keys)
    with pytest.raises(SessionEnded):
        await insert_passkey(*arguments, given, LETTER, keep_session=ELSEWHERE)
    assert await select_passkeys(admin_db, user.user_id) == []
    await insert_passkey(*arguments, given, LETTER, keep_session=HERE)
    [kept] = await select_passkeys(admin_db, user.user_id)
    with pytest.raises(SessionEnded):
        await remove_passkey(*arguments, user.user_id, kept.passkey_id, LETTER, keep_session=ELSEWHERE)
    assert await select_passkeys(admin_db, user.user_id) == [kept]


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [(0, 0, True), (0, 1, True), (5, 6, True), (5, 5, False), (5, 4, False), (5, 0, False)],
)
async def test_a_counter_grows_or_was_never_there(
    admin_db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    user: User,
    before: int,
    after: int,
    taken: bool,
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    given = make_passkey(user.user_id, sign_count=before)
    await insert_passkey(admin_db, actor, master_keys, given, LETTER, keep_session=HERE)
    assert await note_passkey_used(admin_db, b"one", after, True) is taken
    (kept,) = await select_passkeys(admin_db, user.user_id)
    assert kept.sign_count == (after if taken else before)
    assert (kept.last_used_at is not None) is taken


async def test_nobody_has_too_many(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passkeys, "PASSKEYS_MAX", 2)
    await sign_in_here(admin_db, actor, user.user_id)
    refused = []

    async def add(number: int) -> None:
        given = make_passkey(user.user_id, bytes([number]))
        try:
            await insert_passkey(admin_db, actor, master_keys, given, LETTER, keep_session=HERE)
        except Conflict:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(add, number)
    assert len(refused) == 3
