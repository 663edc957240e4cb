"""Many keys are as good as ones minted one by one: audited, told of, and none beyond the plan."""

from __future__ import annotations

import pytest

from storage import key_format
from storage.api_keys import select_gateway_key, select_keys
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.errors import PlanRefused
from storage.key_batches import mint_keys
from storage.model import Actor, Mode, Organization, Plan, Role
from storage.organizations import set_plan
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user


async def test_many_keys_are_what_one_is(
    admin_db: Database,
    gateway_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.key_batches.BATCH_KEYS_MAX", 2)
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.OWNER)
    before = len(await select_audit_rows(admin_db, org.org_id))
    minted = await mint_keys(
        admin_db, actor, 3, org_id=org.org_id, name="load", mode=Mode.LIVE, allowed_models=["m"]
    )
    keys = {key.key_id: key for key, _ in minted}
    assert {key.key_id: key for key in await select_keys(admin_db, org.org_id)} == keys
    assert len(keys) == 3
    for key, token in minted:
        parsed, seen = key_format.parse(token.encode()), await select_gateway_key(gateway_db, key.key_id)
        assert parsed is not None
        assert seen is not None
        assert (parsed.key_id, token[-4:], key.allowed_models) == (key.key_id, key.last_four, ("m",))
        assert key_format.verify(parsed.secret, seen.secret_digest)
    rows = (await select_audit_rows(admin_db, org.org_id))[before:]
    assert [row.event for row in rows] == ["api_key:minted"] * 3
    assert {row.subject for row in rows} == set(keys)
    assert (await verify_chain(admin_db, org.org_id)).problem is None
    letters = [message.letter for message in await select_waiting(admin_db, master_keys)]
    assert {letter.facts["key_id"] for letter in letters if letter is not None} == set(keys)


async def test_a_plan_without_room_for_all_has_none_made(
    admin_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.key_batches.BATCH_KEYS_MAX", 2)
    await set_plan(admin_db, actor, org.org_id, Plan.FREE)
    with pytest.raises(PlanRefused, match="API keys, and 0 are in use"):
        await mint_keys(admin_db, actor, 1000, org_id=org.org_id, name="load", mode=Mode.LIVE)
    assert await select_keys(admin_db, org.org_id) == []
