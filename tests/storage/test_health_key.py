from __future__ import annotations

import trio

from storage.api_keys import mint_key, revoke_key, select_keys
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.health_key import KEY_NAME, HealthKey, ensure_health_key, select_newest_usage
from storage.key_format import parse
from storage.model import Actor, Mode, Plan
from storage.plans import Allowance, limit_of
from storage.sealing import MasterKeys
from tests.storage.test_health import MINUTE
from tests.storage.usage_records import insert_usage, usage


async def test_one_key_is_made_and_kept(admin_db: Database, actor: Actor, master_keys: MasterKeys) -> None:
    first = await ensure_health_key(admin_db, actor, master_keys)
    assert await ensure_health_key(admin_db, actor, master_keys) == first
    parsed = parse(first.token.encode())
    assert parsed is not None
    assert parsed.mode is Mode.TEST
    assert first.token not in repr(first)
    sealed = await admin_db.fetch_value("SELECT sealed FROM health_key")
    assert first.token.encode() not in sealed
    # Other master keys, or a revoked key: another is made, in the same organization.
    second = await ensure_health_key(admin_db, actor, MasterKeys({1: bytes(32)}))
    assert (second.org_id, second.token != first.token) == (first.org_id, True)
    key_id = await admin_db.fetch_value("SELECT key_id FROM health_key")
    await revoke_key(admin_db, actor, key_id)
    third = await ensure_health_key(admin_db, actor, MasterKeys({1: bytes(32)}))
    assert third.token not in (first.token, second.token)


async def test_one_key_lives_however_often_master_keys_are_lost(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    first = await ensure_health_key(admin_db, actor, master_keys)
    # As earlier releases left them: live, until the plan had no room for another.
    left = limit_of(Plan.FREE, Allowance.KEYS)
    assert left is not None
    for _ in range(left - 1):
        await mint_key(admin_db, actor, org_id=first.org_id, name=KEY_NAME, mode=Mode.TEST)
    newest = await ensure_health_key(admin_db, actor, MasterKeys({1: bytes(32)}))
    parsed = parse(newest.token.encode())
    assert parsed is not None
    live = [key for key in await select_keys(admin_db, first.org_id) if key.revoked_at is None]
    assert [key.key_id for key in live] == [parsed.key_id]
    rows = await select_audit_rows(admin_db, first.org_id)
    assert [row.event for row in rows if row.event == "api_key:revoked"] == ["api_key:revoked"] * left


async def test_jobs_that_begin_at_once_share_one(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    first = await ensure_health_key(admin_db, actor, MasterKeys({1: bytes(32)}))
    found: list[HealthKey] = []

    async def ensure() -> None:
        found.append(await ensure_health_key(admin_db, actor, master_keys))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ensure)
    assert len({key.token for key in found} - {first.token}) == 1


async def test_how_old_the_newest_usage_is(
    admin_db: Database, gateway_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    from datetime import UTC, datetime, timedelta

    key = await ensure_health_key(admin_db, actor, master_keys)
    assert await select_newest_usage(admin_db, key.org_id) is None
    now = datetime.now(UTC)
    await insert_usage(gateway_db, [usage(org_id=key.org_id, started_at=MINUTE)])
    assert await select_newest_usage(admin_db, key.org_id) is None
    await insert_usage(gateway_db, [usage(org_id=key.org_id, started_at=now - timedelta(minutes=4))])
    found = await select_newest_usage(admin_db, key.org_id)
    assert found is not None
    assert 240 <= found < 300
