from __future__ import annotations

from uuid import uuid4

import pytest

from storage.accounts import change_password
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, InvalidReference, InvalidValue, NotFound
from storage.model import Actor, Organization, Plan, Role, User
from storage.organizations import create_organization
from storage.passkeys import insert_passkey, remove_passkey, select_passkeys
from storage.passwords import REFERENCE_DIGEST
from storage.recovery_codes import replace_recovery_codes
from storage.sealing import MasterKeys
from storage.users import (
    add_member,
    create_user,
    normalize_email,
    record_failed_sign_in,
    record_sign_in,
    select_user,
    select_user_by_email,
)
from tests.storage.factor_people import HERE, LETTER, make_passkey, sign_in_here


@pytest.fixture
async def user(admin_db: Database, actor: Actor) -> User:
    return await create_user(admin_db, actor, email=" Ada@Example.COM ", password_digest=REFERENCE_DIGEST)


async def test_a_user_is_found_by_any_spelling(admin_db: Database, user: User) -> None:
    assert user.email == "ada@example.com"
    for spelling in ("ada@example.com", "ADA@EXAMPLE.COM", "  ada@Example.com\n"):
        assert await select_user_by_email(admin_db, spelling) == (user, REFERENCE_DIGEST)
    assert await select_user_by_email(admin_db, "eve@example.com") is None
    assert await select_user_by_email(admin_db, "no address") is None
    assert await select_user(admin_db, user.user_id) == user
    with pytest.raises(NotFound):
        await select_user(admin_db, uuid4())


async def test_an_address_is_taken_once(admin_db: Database, actor: Actor, user: User) -> None:
    with pytest.raises(Conflict) as caught:
        await create_user(admin_db, actor, email="ADA@example.com", password_digest=REFERENCE_DIGEST)
    assert "ada" not in str(caught.value).lower()
    assert caught.value.constraint == "users_email_key"


@pytest.mark.parametrize(
    "email", ["", "@", "a@", "@b", "a b@c", "a@b@c", "a@b\n.c", "a\0@b", "x" * 300 + "@b", "\u202ea@b"]
)
async def test_what_is_no_address(email: str, admin_db: Database, actor: Actor) -> None:
    with pytest.raises(InvalidValue):
        normalize_email(email)
    with pytest.raises(InvalidValue):
        await create_user(admin_db, actor, email=email, password_digest=REFERENCE_DIGEST)


async def test_a_password_is_not_stored_for_a_digest(admin_db: Database, actor: Actor) -> None:
    with pytest.raises(CheckFailed):
        await create_user(admin_db, actor, email="a@example.com", password_digest=b"hunter2")


async def test_members_are_added_once(
    admin_db: Database, actor: Actor, org: Organization, user: User
) -> None:
    membership = await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
    assert (membership.user_id, membership.role) == (user.user_id, Role.OWNER)
    with pytest.raises(Conflict):
        await add_member(admin_db, actor, org.org_id, user.user_id, Role.VIEWER)
    with pytest.raises(InvalidReference):
        await add_member(admin_db, actor, uuid4(), user.user_id, Role.OWNER)
    with pytest.raises(InvalidReference):
        await add_member(admin_db, actor, org.org_id, uuid4(), Role.OWNER)
    rows = await select_audit_rows(admin_db, org.org_id, after_seq=1)
    assert [(row.event, row.subject, row.details) for row in rows] == [
        ("member:added", str(user.user_id), '{"role": "owner"}')
    ]


async def test_sign_ins_are_told_to_each_organization(
    admin_db: Database, actor: Actor, org: Organization, user: User
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.FREE)
    for one in (org, other):
        await add_member(admin_db, actor, one.org_id, user.user_id, Role.OWNER)
    async with admin_db.transaction() as tx:
        await record_sign_in(tx, actor, user.user_id, "password")
    await record_failed_sign_in(admin_db, actor, user.user_id)
    for one in (org, other):
        rows = await select_audit_rows(admin_db, one.org_id, after_seq=2)
        assert [row.event for row in rows] == ["sign_in:succeeded", "sign_in:failed"]
        assert (await verify_chain(admin_db, one.org_id)).intact


async def test_sign_ins_without_an_organization_go_to_the_systems_chain(
    admin_db: Database, actor: Actor, user: User
) -> None:
    async with admin_db.transaction() as tx:
        await record_sign_in(tx, actor, user.user_id, "password")
    await record_failed_sign_in(admin_db, actor, None)
    rows = await select_audit_rows(admin_db, None)
    assert [(row.event, row.subject) for row in rows] == [
        ("user:created", str(user.user_id)),
        ("sign_in:succeeded", str(user.user_id)),
        ("sign_in:failed", "unknown"),
    ]


async def test_a_members_organizations_are_told_how_their_account_changed(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    joined, other = [
        await create_organization(admin_db, actor, name=name, plan=Plan.PRO) for name in ("Acme", "Else")
    ]
    await add_member(admin_db, actor, joined.org_id, user.user_id, Role.OWNER)
    await sign_in_here(admin_db, actor, user.user_id)
    passkey = make_passkey(user.user_id)
    await insert_passkey(admin_db, actor, master_keys, passkey, LETTER, keep_session=HERE)
    await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    [kept] = await select_passkeys(admin_db, user.user_id)
    await remove_passkey(
        admin_db, actor, master_keys, user.user_id, kept.passkey_id, LETTER, keep_session=HERE
    )
    await change_password(
        admin_db, actor, master_keys, user.user_id, REFERENCE_DIGEST, LETTER, keep_session=None
    )
    told = [row for row in await select_audit_rows(admin_db, joined.org_id) if row.seq > 2]
    assert [(row.event, row.details) for row in told] == [
        ("sign_in:succeeded", '{"by": "password"}'),
        ("factor:added", '{"factor": "passkey"}'),
        ("recovery_codes:made", "{}"),
        ("factor:removed", '{"factor": "passkey"}'),
        ("password:changed", '{"by": "user"}'),
    ]
    assert {row.subject for row in told} == {str(user.user_id)}
    assert len(await select_audit_rows(admin_db, other.org_id)) == 1
    system = [row for row in await select_audit_rows(admin_db, None) if row.event == "factor:added"]
    assert "Laptop" in system[0].details
