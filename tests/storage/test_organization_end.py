from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest
import trio

from storage import organization_end, staff
from storage.api_keys import mint_key, select_keys
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.credentials import CREDENTIALS_MAX, select_credentials, set_credential
from storage.errors import Conflict, NotFound
from storage.invitations import invite
from storage.letter_kinds import LetterKind
from storage.management_keys import Scope, mint_management_key
from storage.model import Actor, Mode, Organization, OrgStatus, Role
from storage.organization_end import cancel_end, end_organization, request_end, select_due
from storage.organizations import select_organization
from storage.outbox import Letter
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhook_deliveries import sweep_deleted
from storage.webhooks import NewEndpoint, create_endpoint, select_endpoints
from tests.storage.lock_waits import until_waiting


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


@pytest.mark.parametrize("batch", [1, 2, 3, 500])
async def test_each_key_and_member_that_goes_is_told(
    admin_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(organization_end, "BATCH_ROWS_MAX", batch)
    ids: dict[str, set[str]] = {}
    for number in range(2):
        email = f"ada{number}@example.com"
        user = await create_user(admin_db, actor, email=email, password_digest=REFERENCE_DIGEST)
        await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
        ids.setdefault("member:removed", set()).add(str(user.user_id))
        key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="key", mode=Mode.LIVE)
        ids.setdefault("api_key:revoked", set()).add(key.key_id)
        managing, _ = await mint_management_key(
            admin_db, actor, org_id=org.org_id, user_id=user.user_id, name="CI", scopes=list(Scope), days=1
        )
        ids.setdefault("management_key:revoked", set()).add(managing.key_id)
    secret = bytearray(b"sk-ant-0123456789abcdef")
    credential = await set_credential(
        admin_db, actor, master_keys, org_id=org.org_id, provider="anthropic", secret=secret
    )
    ids["credential:revoked"] = {str(credential.credential_id)}
    chosen = NewEndpoint(url="https://hooks.example.com/", events=("key.minted",))
    endpoint, _ = await create_endpoint(admin_db, actor, master_keys, org.org_id, chosen)
    ids["webhook:deleted"] = {str(endpoint.endpoint_id)}
    letter = Letter(kind=LetterKind.INVITATION, recipient="new@example.com", facts={})
    await invite(admin_db, actor, master_keys, org.org_id, letter.recipient, Role.VIEWER, bytes(32), letter)
    ids["invitation:withdrawn"] = {letter.recipient}
    ids["organization:ended"] = {str(org.org_id)}
    await request_end(admin_db, actor, org.org_id)
    before = (await select_audit_rows(admin_db, org.org_id))[-1].seq
    await make_due(admin_db)
    assert await end_organization(admin_db, actor, org.org_id)
    rows = await select_audit_rows(admin_db, org.org_id, after_seq=before)
    told = [(row.event, row.subject) for row in rows]
    assert sorted(told) == sorted((event, one) for event, those in ids.items() for one in those)
    assert rows[-1].event == "organization:ended"
    [removed, _] = [msgspec.json.decode(row.details) for row in rows if row.event == "member:removed"]
    assert removed == {"role": "owner", "because": "organization ended"}
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_a_provider_key_that_is_added_meanwhile_goes_too(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await request_end(admin_db, actor, org.org_id)
    await make_due(admin_db)
    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        await tx.execute("SELECT FROM organizations FOR NO KEY UPDATE")
        nursery.start_soon(end_organization, admin_db, actor, org.org_id)
        await until_waiting(owner_db)
        await tx.execute(
            """
            INSERT INTO provider_credentials
                   (credential_id, org_id, provider, last_four, master_key_version, wrapped_key, ciphertext)
            VALUES (gen_random_uuid(), $1, 'anthropic', 'abcd', 1, $2, $2)
            """,
            org.org_id,
            bytes(60),
        )
    assert (await select_organization(admin_db, org.org_id)).name == "Deleted organization"
    assert await select_credentials(admin_db, org.org_id, live=True) == []
    kept = await owner_db.fetch_value(
        "SELECT count(*) FROM provider_credentials WHERE ciphertext IS NOT NULL"
    )
    assert kept == 0


async def test_one_that_is_kept_after_all_loses_nothing(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    secret = bytearray(b"sk-ant-0123456789abcdef")
    await set_credential(admin_db, actor, master_keys, org_id=org.org_id, provider="anthropic", secret=secret)
    await request_end(admin_db, actor, org.org_id)
    await make_due(admin_db)
    ended: list[bool] = []

    async def end() -> None:
        ended.append(await end_organization(admin_db, actor, org.org_id))

    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        # As `cancel_end` does it, while the job is about to.
        await tx.execute("UPDATE organizations SET delete_after = NULL")
        nursery.start_soon(end)
        await until_waiting(owner_db)
    assert ended == [False]
    assert len(await select_credentials(admin_db, org.org_id, live=True)) == 1


async def test_what_may_be_half_gone_is_not_kept(admin_db: Database, actor: Actor, org: Organization) -> None:
    await request_end(admin_db, actor, org.org_id)
    await make_due(admin_db)
    with pytest.raises(Conflict):
        await cancel_end(admin_db, actor, org.org_id)
    assert await end_organization(admin_db, actor, org.org_id)
