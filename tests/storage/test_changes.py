"""What gateways are told, by the triggers themselves."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from storage import staff
from storage.api_keys import mint_key, revoke_key, rotate_key
from storage.bridge import Database
from storage.changes import CHANNEL, Change, decode_change
from storage.credentials import revoke_credential, rotate_credential, set_credential
from storage.errors import InvalidValue
from storage.model import Actor, Mode, Organization, Plan
from storage.organizations import set_plan
from storage.sealing import MasterKeys


async def received(changes: trio.MemoryReceiveChannel[str], owner_db: Database) -> list[Change]:
    """What has arrived, up to a mark set now."""
    await owner_db.execute("SELECT pg_notify('karta_changes', 'mark')")
    found = []
    with trio.fail_after(10):
        while (payload := await changes.receive()) != "mark":
            found.append(decode_change(payload))
    return found


async def test_what_a_gateway_must_know_is_told(
    admin_db: Database,
    gateway_db: Database,
    owner_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
) -> None:
    about_org = Change("organizations", org.org_id)
    about_credentials = Change("provider_credentials", org.org_id)
    async with gateway_db.listen(CHANNEL) as changes:
        key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
        assert await received(changes, owner_db) == []
        new, _ = await rotate_key(admin_db, actor, key.key_id, 60)
        assert await received(changes, owner_db) == [Change("api_keys", org.org_id, key.key_id)]
        await revoke_key(admin_db, actor, new.key_id)
        assert await received(changes, owner_db) == [Change("api_keys", org.org_id, new.key_id)]

        await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)
        await staff.suspend(admin_db, actor, org.org_id, "unpaid")
        assert await received(changes, owner_db) == [about_org, about_org]
        await staff.suspend(admin_db, actor, org.org_id, "unpaid")
        assert await received(changes, owner_db) == []

        secret = b"sk-ant-0123456789"
        credential = await set_credential(
            admin_db, actor, master_keys, org_id=org.org_id, provider="openai", secret=bytearray(secret)
        )
        assert await received(changes, owner_db) == [about_credentials]
        await rotate_credential(admin_db, actor, master_keys, credential.credential_id, bytearray(secret))
        await revoke_credential(admin_db, actor, credential.credential_id)
        assert await received(changes, owner_db) == [about_credentials, about_credentials]

        # Changes by hand count, too; what the gateways cause themselves does not.
        await owner_db.execute("UPDATE api_keys SET allowed_models = '{m}' WHERE key_id = $1", key.key_id)
        await owner_db.execute("DELETE FROM api_keys WHERE key_id = $1", key.key_id)
        told = [Change("api_keys", org.org_id, key.key_id)]
        assert await received(changes, owner_db) == told * 2
        await owner_db.execute("UPDATE api_keys SET last_used_at = now()")
        assert await received(changes, owner_db) == []


async def test_a_change_that_is_rolled_back_is_not_told(
    gateway_db: Database, owner_db: Database, org: Organization
) -> None:
    async with gateway_db.listen(CHANNEL) as changes:
        with pytest.raises(ZeroDivisionError):
            async with owner_db.transaction() as tx:
                await tx.execute("UPDATE organizations SET status = 'suspended'")
                raise ZeroDivisionError
        assert await received(changes, owner_db) == []


@pytest.mark.parametrize(
    "payload",
    ["", "mark", "{}", "[]", '{"table": "users", "org_id": "00000000-0000-0000-0000-000000000000"}'],
)
def test_foreign_notifications(payload: str) -> None:
    with pytest.raises(InvalidValue, match=CHANNEL):
        decode_change(payload)


def test_decoding() -> None:
    org_id = UUID(int=5)
    payload = f'{{"table": "api_keys", "org_id": "{org_id}", "key_id": "abc", "added_later": 1}}'
    assert decode_change(payload) == Change("api_keys", org_id, "abc")
