"""Keys of the management API: whose they are, what ends them, and what they leave in the audit log."""

from __future__ import annotations

from uuid import uuid4

import pytest

from storage import key_format, management_keys
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, InvalidValue, NotAllowed, NotFound
from storage.management_keys import (
    ManagementKey,
    Scope,
    mint_management_key,
    note_use,
    revoke_management_key,
    select_acting,
    select_management_keys,
)
from storage.memberships import remove_member
from storage.model import Actor, ActorKind, Organization, Role, User
from storage.organizations import rename, require_mfa
from storage.passwords import REFERENCE_DIGEST
from storage.users import add_member, create_user

SCOPES = (Scope.KEYS_READ, Scope.USAGE_READ)


async def mint(
    db: Database, actor: Actor, org: Organization, role: Role = Role.ADMIN, days: int = 30
) -> tuple[User, ManagementKey, str]:
    user = await create_user(db, actor, email=f"{uuid4().hex}@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(db, actor, org.org_id, user.user_id, role)
    key, token = await mint_management_key(
        db, actor, org_id=org.org_id, user_id=user.user_id, name="CI", scopes=SCOPES, days=days
    )
    return user, key, token


async def test_a_minted_key_acts(admin_db: Database, actor: Actor, org: Organization) -> None:
    _, key, token = await mint(admin_db, actor, org)
    parsed = key_format.parse_management(token.encode())
    assert parsed is not None
    acting = await select_acting(admin_db, parsed.key_id)
    assert acting is not None
    assert acting.key == key
    assert acting.organization == org
    assert (acting.current_role, acting.factor_missing) == (Role.ADMIN, False)
    assert key_format.verify(parsed.secret, acting.secret_digest)
    assert not key_format.verify(parsed.secret[:-1] + b"!", acting.secret_digest)
    assert key.scopes == set(SCOPES)
    assert await select_management_keys(admin_db, org.org_id) == [key]
    row = (await select_audit_rows(admin_db, org.org_id))[-1]
    assert (row.event, row.subject) == ("management_key:minted", key.key_id)
    assert parsed.secret.decode() not in row.details
    assert parsed.secret.decode() not in repr(acting)


async def test_what_ends_a_key(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    _, revoked, _ = await mint(admin_db, actor, org)
    first = await revoke_management_key(admin_db, actor, org.org_id, revoked.key_id)
    assert first.revoked_at is not None
    assert await revoke_management_key(admin_db, actor, org.org_id, revoked.key_id) == first
    events = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert events.count("management_key:revoked") == 1

    _, expired, _ = await mint(admin_db, actor, org)
    await owner_db.execute("UPDATE management_keys SET expires_at = now() WHERE key_id = $1", expired.key_id)
    user, left, _ = await mint(admin_db, actor, org)
    await admin_db.execute("DELETE FROM memberships WHERE user_id = $1", user.user_id)
    for key in (revoked, expired, left):
        assert await select_acting(admin_db, key.key_id) is None
    assert await select_acting(admin_db, "nosuchkey000") is None


async def test_what_a_member_minted_does_not_come_back_with_them(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    user, key, _ = await mint(admin_db, actor, org)
    _, expired, _ = await mint(admin_db, actor, org)
    await owner_db.execute(
        "UPDATE management_keys SET expires_at = now(), user_id = $2 WHERE key_id = $1",
        expired.key_id,
        user.user_id,
    )
    _, others, _ = await mint(admin_db, actor, org)
    await remove_member(admin_db, actor, org.org_id, user.user_id, user.user_id)
    rows = (await select_audit_rows(admin_db, org.org_id))[-2:]
    assert [(row.event, row.subject) for row in rows] == [
        ("management_key:revoked", key.key_id),
        ("member:removed", str(user.user_id)),
    ]
    assert "member removed" in rows[0].details
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.ADMIN)
    assert await select_acting(admin_db, key.key_id) is None
    assert await select_acting(admin_db, others.key_id) is not None
    # As older releases left them.
    await owner_db.execute("UPDATE management_keys SET revoked_at = NULL")
    assert await select_acting(admin_db, key.key_id) is None
    assert await select_acting(admin_db, others.key_id) is not None


async def test_who_minted_it_bounds_it(admin_db: Database, actor: Actor, org: Organization) -> None:
    user, key, _ = await mint(admin_db, actor, org)
    await admin_db.execute("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", user.user_id)
    await require_mfa(admin_db, actor, org.org_id, True)
    acting = await select_acting(admin_db, key.key_id)
    assert acting is not None
    assert (acting.key.role, acting.current_role, acting.factor_missing) == (Role.ADMIN, Role.VIEWER, True)


async def test_what_makes_no_key(
    admin_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _, _ = await mint(admin_db, actor, org)
    good = {"org_id": org.org_id, "user_id": user.user_id, "name": "CI", "scopes": SCOPES, "days": 1}
    for wrong, error in (
        ({"user_id": uuid4()}, NotAllowed),
        ({"org_id": uuid4()}, NotAllowed),
        ({"name": ""}, CheckFailed),
        ({"scopes": ()}, CheckFailed),
        ({"days": 0}, InvalidValue),
        ({"days": 366}, InvalidValue),
    ):
        with pytest.raises(error):
            await mint_management_key(admin_db, actor, **{**good, **wrong})  # type: ignore[arg-type]
    monkeypatch.setattr(management_keys, "LIVE_KEYS_MAX", 1)
    with pytest.raises(Conflict):
        await mint_management_key(admin_db, actor, **good)  # type: ignore[arg-type]
    assert len(await select_management_keys(admin_db, org.org_id)) == 1


async def test_whose_key_is_revoked(admin_db: Database, actor: Actor, org: Organization) -> None:
    user, key, _ = await mint(admin_db, actor, org)
    with pytest.raises(NotFound):
        await revoke_management_key(admin_db, actor, uuid4(), key.key_id)
    with pytest.raises(NotAllowed):
        await revoke_management_key(admin_db, actor, org.org_id, key.key_id, only_of=uuid4())
    ended = await revoke_management_key(admin_db, actor, org.org_id, key.key_id, only_of=user.user_id)
    assert ended.revoked_at is not None


async def test_use_is_noted_once_a_minute(admin_db: Database, actor: Actor, org: Organization) -> None:
    _, key, _ = await mint(admin_db, actor, org)
    await note_use(admin_db, key.key_id)
    [first] = await select_management_keys(admin_db, org.org_id)
    assert first.last_used_at is not None
    await note_use(admin_db, key.key_id)
    assert await select_management_keys(admin_db, org.org_id) == [first]
    await admin_db.execute("UPDATE management_keys SET last_used_at = now() - interval '2 minutes'")
    await note_use(admin_db, key.key_id)
    [again] = await select_management_keys(admin_db, org.org_id)
    assert again.last_used_at is not None
    assert again.last_used_at > first.last_used_at


async def test_the_audit_log_takes_a_key_as_actor(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    by_key = Actor(kind=ActorKind.MANAGEMENT_KEY, actor_id="abcdefghijkl")
    await rename(admin_db, by_key, org.org_id, "Other")
    row = (await select_audit_rows(admin_db, org.org_id))[-1]
    assert (row.actor_kind, row.actor_id) == ("management_key", "abcdefghijkl")
    assert (await verify_chain(admin_db, org.org_id)).intact
