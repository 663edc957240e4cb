"""Whoever is out by the time of the change has changed nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
import trio

from storage.acting import ADMINS, DEVELOPERS, require_role
from storage.api_keys import mint_key, rotate_key
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.credentials import rotate_credential, set_credential
from storage.errors import NotAllowed
from storage.invitations import invite
from storage.letter_kinds import LetterKind
from storage.management_keys import Scope, mint_management_key, revoke_management_key
from storage.memberships import change_role, remove_member
from storage.model import Actor, ActorKind, Mode, Organization, Plan, Role, User
from storage.organizations import create_organization
from storage.outbox import Letter
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhooks import NewEndpoint, change_endpoint, create_endpoint, rotate_secret
from tests.storage.lock_waits import until_waiting
from tests.storage.test_sessions import user

__all__ = ["user"]

URL = NewEndpoint(url="https://hooks.example.com/", events=("key.minted",))


@pytest.fixture
async def by_user(admin_db: Database, actor: Actor, org: Organization, user: User) -> Actor:
    """A developer of the organization."""
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.DEVELOPER)
    return Actor(kind=ActorKind.USER, actor_id=str(user.user_id))


@pytest.fixture
async def owner(admin_db: Database, actor: Actor, org: Organization) -> UUID:
    made = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, made.user_id, Role.OWNER)
    return made.user_id


async def may(db: Database, actor: Actor, org_id: UUID, roles: frozenset[Role]) -> bool:
    async with db.transaction() as tx:
        try:
            await require_role(tx, actor, org_id, roles)
        except NotAllowed:
            return False
    return True


async def test_a_member_may_what_their_role_may_now(
    admin_db: Database, actor: Actor, org: Organization, user: User, by_user: Actor, owner: UUID
) -> None:
    other = await create_organization(admin_db, actor, name="Else", plan=Plan.PRO)
    assert await may(admin_db, by_user, org.org_id, DEVELOPERS)
    assert not await may(admin_db, by_user, org.org_id, ADMINS)
    assert not await may(admin_db, by_user, other.org_id, DEVELOPERS)
    assert await may(admin_db, actor, other.org_id, ADMINS), "the command line has no role"
    await change_role(admin_db, actor, org.org_id, owner, user.user_id, Role.VIEWER)
    assert not await may(admin_db, by_user, org.org_id, DEVELOPERS)
    await remove_member(admin_db, actor, org.org_id, owner, user.user_id)
    assert not await may(admin_db, by_user, org.org_id, frozenset(Role))


async def test_a_key_may_what_its_minter_may_then_and_now(
    admin_db: Database, actor: Actor, org: Organization, user: User, by_user: Actor, owner: UUID
) -> None:
    async def mint() -> Actor:
        key, _ = await mint_management_key(
            admin_db, by_user, org_id=org.org_id, user_id=user.user_id, name="CI", scopes=list(Scope), days=1
        )
        return Actor(kind=ActorKind.MANAGEMENT_KEY, actor_id=key.key_id)

    of_developer = await mint()
    assert await may(admin_db, of_developer, org.org_id, DEVELOPERS)
    assert not await may(admin_db, of_developer, org.org_id, ADMINS)
    await change_role(admin_db, actor, org.org_id, owner, user.user_id, Role.ADMIN)
    assert not await may(admin_db, of_developer, org.org_id, ADMINS)
    of_admin = await mint()
    assert await may(admin_db, of_admin, org.org_id, ADMINS)
    await revoke_management_key(admin_db, actor, org.org_id, of_admin.actor_id)
    assert not await may(admin_db, of_admin, org.org_id, ADMINS)
    await remove_member(admin_db, actor, org.org_id, owner, user.user_id)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.ADMIN)
    assert not await may(admin_db, of_developer, org.org_id, DEVELOPERS)


async def test_who_takes_a_member_out_waits_for_what_they_are_doing(
    admin_db: Database,
    owner_db: Database,
    actor: Actor,
    org: Organization,
    user: User,
    by_user: Actor,
    owner: UUID,
) -> None:
    removed = False

    async def remove() -> None:
        nonlocal removed
        await remove_member(admin_db, actor, org.org_id, owner, user.user_id)
        removed = True

    async with trio.open_nursery() as nursery, admin_db.transaction() as tx:
        await require_role(tx, by_user, org.org_id, DEVELOPERS)
        nursery.start_soon(remove)
        await until_waiting(owner_db)
        assert not removed
    assert removed


async def test_a_member_is_locked_before_their_keys(
    admin_db: Database, owner_db: Database, org: Organization, user: User, by_user: Actor
) -> None:
    """As by whoever takes them out: else two wait for each other."""
    key, _ = await mint_management_key(
        admin_db, by_user, org_id=org.org_id, user_id=user.user_id, name="CI", scopes=list(Scope), days=1
    )
    by_key = Actor(kind=ActorKind.MANAGEMENT_KEY, actor_id=key.key_id)
    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        await tx.fetch("SELECT FROM memberships WHERE user_id = $1 FOR UPDATE", user.user_id)
        nursery.start_soon(may, admin_db, by_key, org.org_id, DEVELOPERS)
        await until_waiting(owner_db)
        await tx.fetch("SELECT FROM management_keys WHERE key_id = $1 FOR UPDATE NOWAIT", key.key_id)


async def test_who_is_out_hands_nothing_out(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    org_id = org.org_id
    gone = Actor(kind=ActorKind.USER, actor_id=str(uuid4()))
    key, _ = await mint_key(admin_db, actor, org_id=org_id, name="k", mode=Mode.LIVE)
    secret = b"sk-ant-0123456789abcdef"
    credential = await set_credential(
        admin_db, actor, master_keys, org_id=org_id, provider="anthropic", secret=bytearray(secret)
    )
    endpoint, _ = await create_endpoint(admin_db, actor, master_keys, org_id, URL)
    letter = Letter(kind=LetterKind.INVITATION, recipient="new@example.com", facts={})
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: mint_key(admin_db, gone, org_id=org_id, name="k", mode=Mode.LIVE),
        lambda: rotate_key(admin_db, gone, key.key_id, org_id=org_id),
        lambda: invite(admin_db, gone, master_keys, org_id, "new@example.com", Role.ADMIN, bytes(32), letter),
        lambda: set_credential(
            admin_db, gone, master_keys, org_id=org_id, provider="openai", secret=bytearray(secret)
        ),
        lambda: rotate_credential(
            admin_db, gone, master_keys, credential.credential_id, bytearray(secret), org_id=org_id
        ),
        lambda: create_endpoint(admin_db, gone, master_keys, org_id, URL),
        lambda: change_endpoint(admin_db, gone, org_id, endpoint.endpoint_id, URL),
        lambda: rotate_secret(admin_db, gone, master_keys, org_id, endpoint.endpoint_id),
        lambda: mint_management_key(
            admin_db, gone, org_id=org_id, user_id=UUID(gone.actor_id), name="CI", scopes=list(Scope), days=1
        ),
    ]
    before = await select_audit_rows(admin_db, org_id)
    for attempt in attempts:
        with pytest.raises(NotAllowed):
            await attempt()
    assert await select_audit_rows(admin_db, org_id) == before
