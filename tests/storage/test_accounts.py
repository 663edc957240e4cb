"""Accounts: each change with its mail and its audit row, or not at all."""

from __future__ import annotations

import pytest
import trio

from storage import accounts
from storage.accounts import Letters
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.email_links import LinkPurpose, create_link
from storage.errors import CheckFailed, Conflict, InvalidValue, NotFound, SessionEnded
from storage.letter_kinds import LetterKind
from storage.management_keys import Scope, mint_management_key, select_management_keys
from storage.model import Actor, Organization, Plan, Role, User
from storage.organizations import select_organizations_by_user
from storage.outbox import Letter, select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.sessions import create_session
from storage.signed_in import select_signed_in
from storage.users import add_member, create_user, select_user, select_user_by_email
from tests.storage.test_sessions import later

DIGEST, OTHER = bytes(32), bytes([1]) * 32
PASSWORD_DIGEST = REFERENCE_DIGEST[:-1] + b"K"

CHANGED, DELETED = LetterKind.PASSWORD_CHANGED, LetterKind.ACCOUNT_DELETED


def letter(kind: LetterKind, recipient: str = "ada@example.com") -> Letter:
    return Letter(kind=kind, recipient=recipient)


LETTERS = Letters(letter(LetterKind.ALREADY_SIGNED_UP), letter(LetterKind.SIGN_UP))


@pytest.fixture
async def user(admin_db: Database, actor: Actor) -> User:
    return await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)


async def kinds(db: Database, master_keys: MasterKeys) -> list[str]:
    waiting = reversed(await select_waiting(db, master_keys))
    return [message.letter.kind for message in waiting if message.letter is not None]


async def test_an_account_is_made_when_its_address_is_confirmed(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    await accounts.request_sign_up(admin_db, actor, master_keys, " ADA@example.com", DIGEST, LETTERS)
    assert await kinds(admin_db, master_keys) == ["sign_up"]
    assert await select_user_by_email(admin_db, "ada@example.com") is None
    with pytest.raises(NotFound):
        await accounts.complete_sign_up(admin_db, actor, OTHER, PASSWORD_DIGEST, "Acme")
    with pytest.raises(CheckFailed):
        await accounts.complete_sign_up(admin_db, actor, DIGEST, PASSWORD_DIGEST, "")
    user, organization = await accounts.complete_sign_up(admin_db, actor, DIGEST, PASSWORD_DIGEST, "Acme")
    assert organization.plan is Plan.FREE
    assert await select_user_by_email(admin_db, "ada@example.com") == (user, PASSWORD_DIGEST)
    assert await select_organizations_by_user(admin_db, user.user_id) == [(organization, Role.OWNER)]
    with pytest.raises(NotFound):
        await accounts.complete_sign_up(admin_db, actor, DIGEST, PASSWORD_DIGEST, "Acme")


async def test_who_has_an_account_is_told_by_mail_alone(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await accounts.request_sign_up(admin_db, actor, master_keys, user.email, DIGEST, LETTERS)
    assert await kinds(admin_db, master_keys) == ["already_signed_up"]
    with pytest.raises(Conflict):
        await accounts.complete_sign_up(admin_db, actor, DIGEST, PASSWORD_DIGEST, "Acme")
    with pytest.raises(InvalidValue):
        await accounts.request_sign_up(admin_db, actor, master_keys, "nonsense", DIGEST, LETTERS)


async def test_a_reset_ends_every_session_and_other_link(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, OTHER, later(hours=1))
    async with admin_db.transaction() as tx:
        await create_link(tx, LinkPurpose.CHANGE_EMAIL, "new@example.com", user.user_id, OTHER)
    letters = Letters(letter(LetterKind.RESET_PASSWORD), None)
    await accounts.request_reset(admin_db, actor, master_keys, "nobody@example.com", DIGEST, letters)
    assert await kinds(admin_db, master_keys) == []
    await accounts.request_reset(admin_db, actor, master_keys, user.email, DIGEST, letters)
    changed = letter(CHANGED)
    with pytest.raises(NotFound):
        await accounts.reset_password(admin_db, actor, master_keys, OTHER, PASSWORD_DIGEST, changed)
    await accounts.reset_password(admin_db, actor, master_keys, DIGEST, PASSWORD_DIGEST, changed)
    assert await select_user_by_email(admin_db, user.email) == (user, PASSWORD_DIGEST)
    assert await select_signed_in(admin_db, OTHER) is None
    assert await kinds(admin_db, master_keys) == ["reset_password", "password_changed"]
    assert await admin_db.fetch_value("SELECT count(*) FROM email_links") == 0


async def test_a_new_password_keeps_the_session_it_was_set_in(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    for digest in (DIGEST, OTHER):
        await create_session(admin_db, actor, user.user_id, digest, later(hours=1))
    await accounts.change_password(
        admin_db,
        actor,
        master_keys,
        user.user_id,
        PASSWORD_DIGEST,
        letter(CHANGED),
        keep_session=DIGEST,
    )
    assert await select_signed_in(admin_db, DIGEST) is not None
    assert await select_signed_in(admin_db, OTHER) is None


async def test_a_session_that_has_ended_meanwhile_changes_no_password(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    # Such as by a reset, while the password that a thief wants was looked at.
    await create_session(admin_db, actor, user.user_id, DIGEST, later(hours=1))
    with pytest.raises(SessionEnded):
        await accounts.change_password(
            admin_db,
            actor,
            master_keys,
            user.user_id,
            PASSWORD_DIGEST,
            letter(CHANGED),
            keep_session=OTHER,
        )
    assert await select_user_by_email(admin_db, user.email) == (user, REFERENCE_DIGEST)
    assert await select_signed_in(admin_db, DIGEST) is not None


async def test_a_session_that_has_ended_meanwhile_changes_no_address_and_deletes_nothing(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, DIGEST, later(hours=1))
    given = (admin_db, actor, master_keys, user.user_id)
    with pytest.raises(SessionEnded):
        await accounts.request_email_change(*given, "new@example.com", DIGEST, LETTERS, session=OTHER)
    assert await admin_db.fetch_value("SELECT count(*) FROM email_links") == 0
    with pytest.raises(SessionEnded):
        await accounts.delete_account(*given, letter(DELETED), session=OTHER)
    assert await kinds(admin_db, master_keys) == []
    assert await select_signed_in(admin_db, DIGEST) is not None


async def test_an_address_changes_when_the_new_one_is_confirmed(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, OTHER, later(hours=1))
    arguments = (user.user_id, "new@example.com", DIGEST, LETTERS)
    await accounts.request_email_change(admin_db, actor, master_keys, *arguments, session=OTHER)
    assert (await select_user(admin_db, user.user_id)).email == user.email
    changed = await accounts.complete_email_change(
        admin_db, actor, master_keys, DIGEST, letter(CHANGED, "x@y")
    )
    assert changed.email == "new@example.com"
    newest, _ = await select_waiting(admin_db, master_keys)
    assert newest.letter is not None
    assert newest.letter.recipient == user.email
    with pytest.raises(NotFound):
        await accounts.complete_email_change(admin_db, actor, master_keys, DIGEST, letter(CHANGED))


async def test_an_address_that_is_taken_meanwhile_stays_theirs(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await create_session(admin_db, actor, user.user_id, OTHER, later(hours=1))
    arguments = (user.user_id, "eve@example.com", DIGEST, LETTERS)
    await accounts.request_email_change(admin_db, actor, master_keys, *arguments, session=OTHER)
    await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    with pytest.raises(Conflict):
        await accounts.complete_email_change(admin_db, actor, master_keys, DIGEST, letter(CHANGED))
    assert (await select_user(admin_db, user.user_id)).email == user.email


async def test_who_leaves_leaves_nothing_to_sign_in_with(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User, org: Organization
) -> None:
    other = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
    await create_session(admin_db, actor, user.user_id, DIGEST, later(hours=1))
    leaving = (admin_db, actor, master_keys, user.user_id, letter(DELETED))
    with pytest.raises(Conflict, match="owner"):
        await accounts.delete_account(*leaving, session=DIGEST)
    await add_member(admin_db, actor, org.org_id, other.user_id, Role.OWNER)
    key, _ = await mint_management_key(
        admin_db, actor, org_id=org.org_id, user_id=user.user_id, name="CI", scopes=list(Scope), days=1
    )
    await accounts.delete_account(*leaving, session=DIGEST)
    [ended] = await select_management_keys(admin_db, org.org_id)
    assert ended.key_id == key.key_id
    assert ended.revoked_at is not None
    assert await select_user_by_email(admin_db, user.email) is None
    assert await select_signed_in(admin_db, DIGEST) is None
    assert await select_organizations_by_user(admin_db, user.user_id) == []
    row = await admin_db.fetch_row("SELECT email FROM users WHERE user_id = $1", user.user_id)
    assert row is not None
    # Not "without her name": three letters of it are as good as an id's.
    assert row["email"] == f"deleted-{user.user_id}@invalid"
    with pytest.raises(NotFound):
        await accounts.change_password(
            admin_db,
            actor,
            master_keys,
            user.user_id,
            PASSWORD_DIGEST,
            letter(CHANGED),
            keep_session=None,
        )
    assert [row.event for row in await select_audit_rows(admin_db, org.org_id)][-2:] == [
        "management_key:revoked",
        "member:removed",
    ]


async def test_two_owners_cannot_both_leave(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> None:
    for number in range(8):
        pair = [
            await create_user(
                admin_db, actor, email=f"{name}{number}@example.com", password_digest=REFERENCE_DIGEST
            )
            for name in ("one", "two")
        ]
        refused: list[User] = []
        for one in pair:
            await add_member(admin_db, actor, org.org_id, one.user_id, Role.OWNER)
            await create_session(admin_db, actor, one.user_id, one.user_id.bytes * 2, later(hours=1))

        async def leave(one: User, refused: list[User] = refused) -> None:
            try:
                leaving = (admin_db, actor, master_keys, one.user_id, letter(DELETED))
                await accounts.delete_account(*leaving, session=one.user_id.bytes * 2)
            except Conflict:
                refused.append(one)

        async with trio.open_nursery() as nursery:
            for one in pair:
                nursery.start_soon(leave, one)
        assert len(refused) == 1
        await admin_db.execute("DELETE FROM memberships WHERE org_id = $1", org.org_id)
