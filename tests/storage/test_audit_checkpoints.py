"""Who signs, and who may not."""

from __future__ import annotations

import msgspec
import pytest
import trio

from storage.audit import SYSTEM_CHAIN as SYSTEM
from storage.audit import select_audit_rows
from storage.audit_checkpoints import (
    Kind,
    SigningKey,
    ensure_signing_key,
    insert_checkpoint,
    is_signed,
    select_checkpoints,
    select_last_checkpoint,
    select_public_keys,
)
from storage.bridge import Database
from storage.errors import AppendOnly, Denied, SealError
from storage.model import Actor
from storage.sealing import MasterKeys
from tests.storage.test_audit import ORG


async def test_one_key_is_made_whoever_asks_first(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    made: list[SigningKey] = []

    async def ensure() -> None:
        made.append(await ensure_signing_key(admin_db, actor, master_keys))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ensure)
    [public] = await select_public_keys(admin_db)
    assert {key.key_id for key in made} == {public.key_id}
    assert {key.public for key in made} == {public.public}
    events = [row.event for row in await select_audit_rows(admin_db, None)]
    assert events.count("audit:signing_key_made") == 1
    assert made[0]._private.private_bytes_raw().hex() not in repr(made[0])


async def test_other_master_keys_do_not_make_another(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    await ensure_signing_key(admin_db, actor, master_keys)
    with pytest.raises(SealError, match="are they those of this database"):
        await ensure_signing_key(admin_db, actor, MasterKeys({1: bytes(32)}))


async def test_a_signature_covers_everything(
    admin_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    key = await ensure_signing_key(admin_db, actor, master_keys)
    keys = {key.key_id: key.public}
    good = key.sign(ORG, 3, bytes(32))
    assert await insert_checkpoint(admin_db, good)
    assert not await insert_checkpoint(admin_db, good)
    [kept] = await select_checkpoints(admin_db, ORG)
    assert kept == good
    assert await select_last_checkpoint(admin_db, ORG) == good
    assert await select_last_checkpoint(admin_db, ORG, Kind.BASE) is None
    assert is_signed(kept, keys)
    assert not is_signed(kept, {})
    assert not is_signed(kept, {key.key_id: bytes(32)})
    for change in (
        {"seq": 4},
        {"hash": bytes([1] * 32)},
        {"kind": Kind.BASE},
        {"org_id": SYSTEM},
        {"signed_at": good.signed_at.replace(microsecond=(good.signed_at.microsecond + 1) % 10**6)},
    ):
        assert not is_signed(msgspec.structs.replace(good, **change), keys), change


async def test_neither_keys_nor_checkpoints_change(
    owner_db: Database, admin_db: Database, gateway_db: Database, actor: Actor, master_keys: MasterKeys
) -> None:
    key = await ensure_signing_key(admin_db, actor, master_keys)
    await insert_checkpoint(admin_db, key.sign(ORG, 1, bytes(32)))
    for sql in (
        "UPDATE audit_checkpoints SET seq = 2",
        "DELETE FROM audit_checkpoints",
        "TRUNCATE audit_checkpoints",
        "UPDATE audit_signing_keys SET public_key = sha256('')",
        "DELETE FROM audit_signing_keys",
        "TRUNCATE audit_signing_keys CASCADE",
    ):
        for prefix in ("", "SET session_replication_role = replica; "):
            with pytest.raises(AppendOnly):
                await owner_db.execute(prefix + sql)
        for db in (admin_db, gateway_db):
            with pytest.raises(Denied):
                await db.execute(sql)
    # Another master key seals the same private half anew.
    await admin_db.execute("UPDATE audit_signing_keys SET sealed = sealed")
    with pytest.raises(Denied):
        await gateway_db.fetch("SELECT sealed FROM audit_signing_keys")
