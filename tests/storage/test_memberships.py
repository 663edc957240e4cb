"""Members and their roles: an organization keeps an owner, and only owners change owners."""

from __future__ import annotations

from itertools import product
from uuid import uuid4

import pytest
import trio

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, NotAllowed, NotFound, ProofRequired
from storage.memberships import change_role, create_owned_organization, remove_member, select_members
from storage.model import Actor, Organization, Plan, Role, User
from storage.passwords import REFERENCE_DIGEST
from storage.users import add_member, create_user


async def make_member(db: Database, actor: Actor, org: Organization, name: str, role: Role) -> User:
    user = await create_user(db, actor, email=f"{name}@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(db, actor, org.org_id, user.user_id, role)
    return user


async def roles(db: Database, org: Organization) -> dict[str, Role]:
    return {member.email.partition("@")[0]: member.role for member in await select_members(db, org.org_id)}


def may(asking: Role, before: Role, after: Role | None) -> bool:
    """The rule, said once more."""
    if asking is Role.OWNER:
        return True
    return asking is Role.ADMIN and Role.OWNER not in (before, after)


async def test_every_role_changes_and_removes_what_it_may(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    await make_member(admin_db, actor, org, "founder", Role.OWNER)
    asking = {role: await make_member(admin_db, actor, org, f"asking-{role.value}", role) for role in Role}
    for number, (by, before, after) in enumerate(product(Role, Role, (*Role, None))):
        other = await make_member(admin_db, actor, org, f"other{number}", before)
        ids = (org.org_id, asking[by].user_id, other.user_id)
        allowed = may(by, before, after)
        try:
            if after is None:
                await remove_member(admin_db, actor, *ids, proved=True)
            else:
                await change_role(admin_db, actor, *ids, after, proved=True)
        except NotAllowed:
            assert not allowed, (by, before, after)
        else:
            assert allowed, (by, before, after)
        now = (await roles(admin_db, org)).get(f"other{number}")
        assert now is (after if allowed else before)


async def test_a_key_has_an_admins_say_at_most(admin_db: Database, actor: Actor, org: Organization) -> None:
    for by in (Role.OWNER, Role.ADMIN, Role.DEVELOPER):
        asking = await make_member(admin_db, actor, org, f"asking-{by.value}", by)
        for number, (before, after) in enumerate(product(Role, (*Role, None))):
            name = f"{by.value}{number}"
            other = await make_member(admin_db, actor, org, name, before)
            ids = (org.org_id, asking.user_id, other.user_id)
            allowed = by is not Role.DEVELOPER and Role.OWNER not in (before, after)
            try:
                if after is None:
                    await remove_member(admin_db, actor, *ids, by_key=True)
                else:
                    await change_role(admin_db, actor, *ids, after, by_key=True)
            except NotAllowed:
                assert not allowed, (by, before, after)
            else:
                assert allowed, (by, before, after)
            assert (await roles(admin_db, org)).get(name) is (after if allowed else before)


async def test_members_by_the_page(admin_db: Database, actor: Actor, org: Organization) -> None:
    for number in range(5):
        await make_member(admin_db, actor, org, f"m{number}", Role.VIEWER)
    seen = await select_members(admin_db, org.org_id, 2)
    # Who leaves between two pages takes nobody along.
    await admin_db.execute("DELETE FROM memberships WHERE user_id = $1", seen[-1].user_id)
    while page := await select_members(admin_db, org.org_id, 2, (seen[-1].since, seen[-1].user_id)):
        seen += page
    assert [member.email for member in seen] == [f"m{number}@example.com" for number in range(5)]


async def test_everybody_may_leave_but_the_last_owner(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    owner = await make_member(admin_db, actor, org, "owner", Role.OWNER)
    for role in (Role.VIEWER, Role.ADMIN):
        member = await make_member(admin_db, actor, org, role.value, role)
        await remove_member(admin_db, actor, org.org_id, member.user_id, member.user_id, proved=True)
    with pytest.raises(Conflict):
        await remove_member(admin_db, actor, org.org_id, owner.user_id, owner.user_id, proved=True)
    with pytest.raises(Conflict):
        await change_role(admin_db, actor, org.org_id, owner.user_id, owner.user_id, Role.VIEWER, proved=True)
    assert await roles(admin_db, org) == {"owner": Role.OWNER}
    assert (await select_audit_rows(admin_db, org.org_id))[-1].event == "member:removed"


async def test_of_two_owners_that_step_down_at_once_one_stays(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    for number in range(8):
        owners = [
            await make_member(admin_db, actor, org, f"{name}{number}", Role.OWNER) for name in ("ada", "eve")
        ]
        refused: list[User] = []

        async def step_down(user: User, refused: list[User] = refused) -> None:
            try:
                await change_role(
                    admin_db, actor, org.org_id, user.user_id, user.user_id, Role.VIEWER, proved=True
                )
            except Conflict:
                refused.append(user)

        async with trio.open_nursery() as nursery:
            for owner in owners:
                nursery.start_soon(step_down, owner)
        assert len(refused) == 1
        await admin_db.execute("DELETE FROM memberships WHERE org_id = $1", org.org_id)


async def test_who_makes_an_organization_owns_it(admin_db: Database, actor: Actor, org: Organization) -> None:
    user = await make_member(admin_db, actor, org, "ada", Role.VIEWER)
    made = await create_owned_organization(admin_db, actor, user.user_id, "Of her own")
    assert made.plan is Plan.FREE
    assert await roles(admin_db, made) == {"ada": Role.OWNER}
    with pytest.raises(CheckFailed):
        await create_owned_organization(admin_db, actor, user.user_id, "")


async def test_who_is_no_member_is_none(admin_db: Database, actor: Actor, org: Organization) -> None:
    owner = await make_member(admin_db, actor, org, "owner", Role.OWNER)
    for org_id, user_id in ((org.org_id, uuid4()), (uuid4(), owner.user_id)):
        with pytest.raises(NotFound):
            await remove_member(admin_db, actor, org_id, owner.user_id, user_id, proved=True)
        with pytest.raises(NotFound):
            await change_role(admin_db, actor, org_id, owner.user_id, user_id, Role.VIEWER, proved=True)
    stranger = await create_user(admin_db, actor, email="x@example.com", password_digest=REFERENCE_DIGEST)
    with pytest.raises(NotAllowed):
        await remove_member(admin_db, actor, org.org_id, stranger.user_id, owner.user_id, proved=True)


async def test_owners_are_made_and_unmade_with_fresh_proof_only(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    ada, bob = [
        await create_user(admin_db, actor, email=f"{name}@example.com", password_digest=REFERENCE_DIGEST)
        for name in ("ada", "bob")
    ]
    await add_member(admin_db, actor, org.org_id, ada.user_id, Role.OWNER)
    await add_member(admin_db, actor, org.org_id, bob.user_id, Role.ADMIN)
    ids = (org.org_id, ada.user_id, bob.user_id)
    # Without an owner in it there is nothing to prove.
    await change_role(admin_db, actor, *ids, Role.DEVELOPER, proved=False)
    with pytest.raises(ProofRequired):
        await change_role(admin_db, actor, *ids, Role.OWNER, proved=False)
    await change_role(admin_db, actor, *ids, Role.OWNER, proved=True)
    with pytest.raises(ProofRequired):
        await change_role(admin_db, actor, *ids, Role.VIEWER, proved=False)
    with pytest.raises(ProofRequired):
        await remove_member(admin_db, actor, *ids, proved=False)
    roles = {member.user_id: member.role for member in await select_members(admin_db, org.org_id)}
    assert roles == {ada.user_id: Role.OWNER, bob.user_id: Role.OWNER}
