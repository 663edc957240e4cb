"""All that is sealed moves to the newest master key: the older ones open nothing any more, and need not."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pyotp
import pytest

from storage import master_key_rotation
from storage.api_keys import mint_key, select_gateway_key
from storage.audit import select_audit_rows
from storage.audit_checkpoints import ensure_signing_key
from storage.bridge import Database
from storage.credentials import revoke_credential, set_credential
from storage.master_key_rotation import rotate_master_key
from storage.model import Actor, Mode, Organization
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys, open_sealed
from storage.totp import begin_totp, confirm_totp, select_begun_secret, use_totp
from storage.users import create_user
from storage.webhooks import NewEndpoint, create_endpoint, select_secrets
from tests.storage.factor_people import HERE, LETTER, sign_in_here

FIRST, SECOND = bytes(range(32)), bytes(range(1, 33))
OLD, BOTH, NEW = MasterKeys({1: FIRST}), MasterKeys({1: FIRST, 2: SECOND}), MasterKeys({2: SECOND})
SECRET = b"sk-ant-api03-0123456789"


async def seal_all(db: Database, actor: Actor, org: Organization) -> tuple[UUID, str]:
    """Two provider keys, an app and a mail under the old key; the user's id and the app's secret."""
    for provider in ("anthropic", "openai"):
        await set_credential(db, actor, OLD, org_id=org.org_id, provider=provider, secret=bytearray(SECRET))
    user = await create_user(db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await sign_in_here(db, actor, user.user_id)
    await begin_totp(db, OLD, user.user_id)
    secret = await select_begun_secret(db, OLD, user.user_id)
    code = pyotp.TOTP(secret).at(1_000_000)
    await confirm_totp(db, actor, OLD, user.user_id, code, LETTER, keep_session=HERE, at=1_000_000)
    return user.user_id, secret


async def test_everything_moves_and_the_old_key_can_go(
    admin_db: Database,
    gateway_db: Database,
    owner_db: Database,
    actor: Actor,
    org: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(master_key_rotation, "BATCH_ROWS_MAX", 1)
    user_id, secret = await seal_all(admin_db, actor, org)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    chosen = NewEndpoint(url="https://hooks.example.com/", events=("key.minted",))
    endpoint, whsec = await create_endpoint(admin_db, actor, OLD, org.org_id, chosen)
    assert await select_secrets(admin_db, NEW, [endpoint.endpoint_id]) == {}
    moved = await rotate_master_key(owner_db, actor, BOTH)
    assert (moved.credentials, moved.totp_secrets, moved.messages) == (2, 1, 1)
    assert moved.webhook_secrets == 1
    assert await select_secrets(admin_db, NEW, [endpoint.endpoint_id]) == {endpoint.endpoint_id: [whsec]}
    assert moved.complete
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert [bytes(open_sealed(NEW, sealed)) for sealed in seen.credentials] == [SECRET] * 2
    assert await use_totp(admin_db, NEW, user_id, pyotp.TOTP(secret).at(2_000_000), at=2_000_000)
    assert [message.letter for message in await select_waiting(admin_db, NEW)] == [LETTER]
    assert [message.letter for message in await select_waiting(admin_db, OLD)] == [None]
    assert not await owner_db.fetch_value("SELECT bool_or(shred_due) FROM provider_credentials")
    rows = [row for row in await select_audit_rows(admin_db, None) if row.event == "master_key:rotated"]
    assert [row.subject for row in rows] == [
        *("credentials", "credentials", "webhook_secrets", "totp_secrets", "messages")
    ]
    # Again there is nothing to do, and nothing is written.
    again = await rotate_master_key(owner_db, actor, BOTH)
    assert (again.credentials, again.totp_secrets, again.messages) == (0, 0, 0)
    assert len(await select_audit_rows(admin_db, None)) == len(rows) + 4


async def test_what_does_not_open_is_counted_and_left(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await seal_all(admin_db, actor, org)
    moved = await rotate_master_key(owner_db, actor, NEW)
    assert (moved.credentials, moved.totp_secrets, moved.messages, moved.unopened) == (0, 0, 0, 4)
    assert not moved.complete
    assert (await rotate_master_key(owner_db, actor, BOTH)).complete


async def test_what_was_revoked_is_not_there(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    made = await set_credential(
        admin_db, actor, OLD, org_id=org.org_id, provider="openai", secret=bytearray(SECRET)
    )
    await revoke_credential(admin_db, actor, made.credential_id)
    moved = await rotate_master_key(owner_db, actor, BOTH)
    assert msgspec.structs.asdict(moved) == {
        "version": 2,
        "credentials": 0,
        "webhook_secrets": 0,
        "totp_secrets": 0,
        "messages": 0,
        "signing_keys": 0,
        "unopened": 0,
    }


async def test_the_keys_that_sign_the_audit_log_move_as_well(
    admin_db: Database, owner_db: Database, actor: Actor
) -> None:
    key = await ensure_signing_key(admin_db, actor, OLD)
    assert (await rotate_master_key(owner_db, actor, NEW)).unopened == 1
    moved = await rotate_master_key(owner_db, actor, BOTH)
    assert (moved.signing_keys, moved.unopened) == (1, 0)
    assert (await ensure_signing_key(admin_db, actor, NEW)).public == key.public
    assert (await rotate_master_key(owner_db, actor, BOTH)).signing_keys == 0
