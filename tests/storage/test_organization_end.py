from __future__ import annotations

from uuid import uuid4

import pytest

from storage import staff
from storage.api_keys import mint_key, select_keys
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.credentials import CREDENTIALS_MAX, select_credentials, set_credential
from storage.errors import Conflict, NotFound
from storage.model import Actor, Mode, Organization, OrgStatus, Role
from storage.organization_end import cancel_end, end_organization, request_end, select_due
from storage.organizations import select_organization
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhook_deliveries import sweep_deleted
from storage.webhooks import NewEndpoint, create_endpoint, select_endpoints


async def make_due(db: Database) -> None:
    await db.execute("UPDATE organizations SET delete_after = now() - interval '1 second'")


async def test_it_is_suspended_at_once_and_may_be_kept(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    with pytest.raises(Conflict):
        await cancel_end(admin_db, actor, org.org_id)
    await request_end(admin_db, actor, org.org_id)
    await request_end(admin_db, actor, org.org_id)
    found = await select_organization(admin_db, org.org_id)
    assert found.status is OrgStatus.SUSPENDED
    assert found.delete_after is not None
    assert await select_due(admin_db) == []
    assert not await end_organization(admin_db, actor, org.org_id)
    await cancel_end(admin_db, actor, org.org_id)
    assert await select_organization(admin_db, org.org_id) == org
    with pytest.raises(NotFound):
        await request_end(admin_db, actor, uuid4())


async def test_keeping_it_lifts_no_other_suspension(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    await staff.suspend(admin_db, actor, org.org_id, "unpaid")
    await request_end(admin_db, actor, org.org_id)
    await cancel_end(admin_db, actor, org.org_id)
    assert (await select_organization(admin_db, org.org_id)).status is OrgStatus.SUSPENDED


async def test_when_its_time_has_come_nothing_opens_any_more(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
    await mint_key(admin_db, actor, org_id=org.org_id, name="key", mode=Mode.LIVE)
    secret = bytearray(b"sk-ant-0123456789abcdef")
    await set_credential(admin_db, actor, master_keys, org_id=org.org_id, provider="anthropic", secret=secret)
    chosen = NewEndpoint(url="https://hooks.example.com/", events=("key.minted",))
    await create_endpoint(admin_db, actor, master_keys, org.org_id, chosen)
    await request_end(admin_db, actor, org.org_id)
    await make_due(admin_db)
    assert await select_due(admin_db) == [org.org_id]
    assert await end_organization(admin_db, actor, org.org_id)
    assert not await end_organization(admin_db, actor, org.org_id)
    assert await select_due(admin_db) == []
    with pytest.raises(Conflict):
        await cancel_end(admin_db, actor, org.org_id)
    [key] = await select_keys(admin_db, org.org_id)
    [credential] = await select_credentials(admin_db, org.org_id)
    assert key.revoked_at
    assert credential.revoked_at
    material = await owner_db.fetch_value(
        "SELECT count(*) FROM provider_credentials WHERE ciphertext IS NOT NULL"
    )
    assert material == 0
    assert await admin_db.fetch_value("SELECT count(*) FROM webhook_secrets") == 0
    assert await select_endpoints(admin_db, org.org_id) == []
    assert await sweep_deleted(admin_db) == 1
    assert await admin_db.fetch_value("SELECT count(*) FROM memberships") == 0
    assert (await select_organization(admin_db, org.org_id)).name == "Deleted organization"
    assert (await select_audit_rows(admin_db, org.org_id))[-1].event == "organization:ended"
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_a_provider_key_behind_many_ended_ones_is_shredded_too(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await owner_db.execute(
        """
        INSERT INTO provider_credentials
               (credential_id, org_id, provider, last_four, master_key_version, created_at, revoked_at)
        SELECT gen_random_uuid(), $1, 'anthropic', 'abcd', 1, now() - interval '1 day', now()
          FROM generate_series(1, $2)
        """,
        org.org_id,
        CREDENTIALS_MAX,
    )
    secret = bytearray(b"sk-ant-0123456789abcdef")
    await set_credential(admin_db, actor, master_keys, org_id=org.org_id, provider="anthropic", secret=secret)
    await request_end(admin_db, actor, org.org_id)
    await make_due(admin_db)
    assert await end_organization(admin_db, actor, org.org_id)
    assert await select_credentials(admin_db, org.org_id, live=True) == []
    kept = await owner_db.fetch_value(
        "SELECT count(*) FROM provider_credentials WHERE ciphertext IS NOT NULL"
    )
    assert kept == 0
