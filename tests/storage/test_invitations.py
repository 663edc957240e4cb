from __future__ import annotations

from uuid import uuid4

import pytest

from storage import invitations
from storage.bridge import Database
from storage.errors import Conflict, InvalidValue, NotFound
from storage.invitations import (
    Invitation,
    accept_invitation,
    invite,
    select_invitation,
    select_invitations,
    sign_up_invited,
    withdraw_invitation,
)
from storage.model import Actor, Organization, Role
from storage.organizations import select_organizations_by_user
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import create_user
from tests.storage.factor_people import LETTER

DIGEST, OTHER = bytes(32), bytes([1]) * 32


async def send(
    db: Database, actor: Actor, master_keys: MasterKeys, org: Organization, email: str, digest: bytes = DIGEST
) -> Invitation:
    return await invite(db, actor, master_keys, org.org_id, email, Role.DEVELOPER, digest, LETTER)


async def test_an_invited_account_joins_once(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> None:
    sent = await send(admin_db, actor, master_keys, org, " ADA@example.com")
    (shown,) = await select_invitations(admin_db, org.org_id)
    assert sent == shown
    assert await select_invitation(admin_db, DIGEST) == shown
    assert (shown.email, shown.role, shown.organization_name) == ("ada@example.com", Role.DEVELOPER, org.name)
    assert len(await select_waiting(admin_db, master_keys)) == 1
    eve = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    with pytest.raises(NotFound, match="another address"):
        await accept_invitation(admin_db, actor, DIGEST, eve)
    ada = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    assert await accept_invitation(admin_db, actor, DIGEST, ada) == org.org_id
    assert await select_organizations_by_user(admin_db, ada.user_id) == [(org, Role.DEVELOPER)]
    with pytest.raises(NotFound):
        await accept_invitation(admin_db, actor, DIGEST, ada)
    with pytest.raises(Conflict):
        await send(admin_db, actor, master_keys, org, "ada@example.com")


async def test_who_has_no_account_makes_one_by_it(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> None:
    await send(admin_db, actor, master_keys, org, "ada@example.com")
    user, org_id = await sign_up_invited(admin_db, actor, DIGEST, REFERENCE_DIGEST)
    assert (user.email, org_id) == ("ada@example.com", org.org_id)
    with pytest.raises(NotFound):
        await sign_up_invited(admin_db, actor, DIGEST, REFERENCE_DIGEST)
    eve = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    await send(admin_db, actor, master_keys, org, eve.email)
    with pytest.raises(Conflict):
        await sign_up_invited(admin_db, actor, DIGEST, REFERENCE_DIGEST)
    assert len(await select_invitations(admin_db, org.org_id)) == 1


async def test_a_newer_one_replaces_it_and_it_can_be_taken_back(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> None:
    await send(admin_db, actor, master_keys, org, "ada@example.com")
    await send(admin_db, actor, master_keys, org, "ada@example.com", OTHER)
    with pytest.raises(NotFound):
        await select_invitation(admin_db, DIGEST)
    (shown,) = await select_invitations(admin_db, org.org_id)
    with pytest.raises(NotFound):
        await withdraw_invitation(admin_db, actor, uuid4(), shown.invitation_id)
    await withdraw_invitation(admin_db, actor, org.org_id, shown.invitation_id)
    with pytest.raises(NotFound):
        await select_invitation(admin_db, OTHER)


async def test_it_grows_old(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> None:
    await send(admin_db, actor, master_keys, org, "ada@example.com")
    await admin_db.execute("UPDATE invitations SET expires_at = now() - interval '1 second'")
    with pytest.raises(NotFound):
        await select_invitation(admin_db, DIGEST)
    assert [one.expired for one in await select_invitations(admin_db, org.org_id)] == [True]
    await send(admin_db, actor, master_keys, org, "eve@example.com", OTHER)
    assert [one.email for one in await select_invitations(admin_db, org.org_id)] == ["eve@example.com"]


async def test_what_is_refused(
    admin_db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    org: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InvalidValue):
        await send(admin_db, actor, master_keys, org, "nonsense")
    with pytest.raises(InvalidValue):
        await invite(admin_db, actor, master_keys, org.org_id, "a@b.example", Role.OWNER, DIGEST, LETTER)
    monkeypatch.setattr(invitations, "INVITATIONS_MAX", 1)
    await send(admin_db, actor, master_keys, org, "ada@example.com")
    with pytest.raises(Conflict):
        await send(admin_db, actor, master_keys, org, "eve@example.com", OTHER)
