"""Many keys are as good as ones minted one by one: audited, told of, and none beyond the plan."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from storage import key_format
from storage.api_keys import select_gateway_key, select_keys
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.errors import CommitUnknown, PlanRefused, StorageError
from storage.key_batches import mint_keys
from storage.model import Actor, APIKey, Mode, Organization, Plan, Role
from storage.organizations import set_plan
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from tests.storage.key_trouble import FAILS, LOSES_THE_LINE, trouble_from


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
    batches: list[Sequence[tuple[APIKey, str]]] = []
    about = {"org_id": org.org_id, "name": "load", "mode": Mode.LIVE, "allowed_models": ["m"]}
    await mint_keys(admin_db, actor, 3, batches.append, **about)
    assert [len(batch) for batch in batches] == [2, 1]
    minted = [one for batch in batches for one in batch]
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
    batches: list[Sequence[tuple[APIKey, str]]] = []
    about = {"org_id": org.org_id, "name": "load", "mode": Mode.LIVE}
    with pytest.raises(PlanRefused, match="API keys, and 0 are in use"):
        await mint_keys(admin_db, actor, 1000, batches.append, **about)
    assert batches == []
    assert await select_keys(admin_db, org.org_id) == []


@pytest.mark.parametrize(
    ("trouble", "error", "handed_on"), [(FAILS, StorageError, [2]), (LOSES_THE_LINE, CommitUnknown, [2, 2])]
)
async def test_a_batch_that_fails_loses_no_token_of_those_before(
    admin_db: Database,
    owner_db: Database,
    actor: Actor,
    org: Organization,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    error: type[StorageError],
    handed_on: list[int],
) -> None:
    """Nor of its own, where nobody can know whether it was committed."""
    monkeypatch.setattr("storage.key_batches.BATCH_KEYS_MAX", 2)
    await owner_db.execute(trouble_from(3, trouble))
    batches: list[Sequence[tuple[APIKey, str]]] = []
    with pytest.raises(error) as raised:
        await mint_keys(admin_db, actor, 5, batches.append, org_id=org.org_id, name="load", mode=Mode.LIVE)
    assert type(raised.value) is error
    assert [len(batch) for batch in batches] == handed_on
    assert {key.key_id for key in await select_keys(admin_db, org.org_id)} == {
        key.key_id for key, _ in batches[0]
    }
