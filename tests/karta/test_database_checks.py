"""What `karta doctor` finds wrong with a database that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from admin.settings import DATABASE_CONNECTIONS_MAX, AdminSettings
from gateway import worker
from gateway.settings import GatewaySettings
from karta import database_checks
from karta.database_checks import CONNECTIONS_A_WORKER, CONNECTIONS_BESIDE, check_database
from storage.audit_checkpoints import ensure_signing_key
from storage.bridge import Database, open_database
from storage.credentials import set_credential
from storage.model import Actor, ActorKind, Plan
from storage.organizations import create_organization
from storage.outbox import Letter, LetterKind, post
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.totp import begin_totp
from storage.users import create_user
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import PostgresServer

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")


async def told(
    db: Database, opened_by: MasterKeys | None = None, **settings: Any
) -> dict[str, tuple[str, str]]:
    loaded = GatewaySettings.load(database_url="postgresql://x/y", **settings)
    return {name: (state, detail) async for name, state, detail in check_database(db, [loaded], opened_by)}


async def test_a_sound_one(owner_db: Database) -> None:
    found = await told(owner_db, MasterKeys.parse(MasterKeys.generate()))
    assert {name: state for name, (state, _) in found.items()} == {
        "notifications": "ok",
        "clock": "ok",
        "connections": "ok",
        "sealed": "ok",
    }


async def test_of_production_more_is_wanted(owner_db: Database) -> None:
    keys = MasterKeys.generate()
    found = await told(owner_db, env="production", master_keys=keys, trusted_proxies="10.0.0.0/8", workers=40)
    assert [name for name, (state, _) in found.items() if state == "warning"] == [
        "connections",
        "archive",
        "login",
    ]
    assert "docs/how-to/backup.md" in found["archive"][1]


async def test_connections_of_gateways_and_pages_add_up(owner_db: Database) -> None:
    there = int(await owner_db.fetch_value("SHOW max_connections"))
    few = [AdminSettings.load(database_url="postgresql://x/y")]
    many = [AdminSettings.load(database_url="postgresql://x/y", admin_processes=there // 6)]
    found = [[one async for one in check_database(owner_db, loaded, None)] for loaded in (few, many)]
    (_, state, detail), (_, state_of_many, detail_of_many) = (
        one for told in found for one in told if one[0] == "connections"
    )
    needed = CONNECTIONS_A_WORKER + DATABASE_CONNECTIONS_MAX + CONNECTIONS_BESIDE
    assert (state, f"takes {needed} at most" in detail) == ("ok", True)
    assert (state_of_many, f"and {there // 6} of the admin pages" in detail_of_many) == ("warning", True)
    # The gateway's, and the one that listens.
    assert worker._DATABASE_CONNECTIONS_MAX + 1 == CONNECTIONS_A_WORKER


async def test_a_clock_that_is_wrong(owner_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = database_checks.time.time
    monkeypatch.setattr(database_checks.time, "time", lambda: honest() + 60)
    assert (await told(owner_db))["clock"][0] == "warning"


async def test_keys_that_do_not_open(owner_db: Database, admin_db: Database) -> None:
    organization = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.PRO)
    first, second = MasterKeys.generate(1), MasterKeys.generate(2)
    secret = bytearray(b"sk-ant-planted")
    await set_credential(
        admin_db,
        ACTOR,
        MasterKeys.parse(first),
        org_id=organization.org_id,
        provider="anthropic",
        secret=secret,
    )
    state, detail = (await told(owner_db, MasterKeys.parse(second)))["sealed"]
    assert (state, "1 under version 1" in detail) == ("failed", True)
    state, detail = (await told(owner_db))["sealed"]
    assert (state, "1 under version 1" in detail) == ("failed", True), "no key at all"
    state, detail = (await told(owner_db, MasterKeys.parse(f"{first},{second}")))["sealed"]
    assert (state, "master-key rotate" in detail) == ("warning", True)


async def seal_totp_secret(db: Database, master_keys: MasterKeys) -> None:
    user = await create_user(db, ACTOR, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await begin_totp(db, master_keys, user.user_id)


async def seal_letter(db: Database, master_keys: MasterKeys) -> None:
    async with db.transaction() as tx:
        await post(tx, master_keys, Letter(kind=LetterKind.NEW_SIGN_IN, recipient="ada@example.com"))


async def seal_signing_key(db: Database, master_keys: MasterKeys) -> None:
    await ensure_signing_key(db, ACTOR, master_keys)


@pytest.mark.parametrize("seal", [seal_totp_secret, seal_letter, seal_signing_key])
@pytest.mark.parametrize("asked_as", ["owner", "admin"])
async def test_whatever_is_sealed_counts(
    owner_db: Database,
    admin_db: Database,
    seal: Callable[[Database, MasterKeys], Awaitable[None]],
    asked_as: str,
) -> None:
    first, second = MasterKeys.generate(1), MasterKeys.generate(2)
    await seal(admin_db, MasterKeys.parse(first))
    db = owner_db if asked_as == "owner" else admin_db
    state, detail = (await told(db, MasterKeys.parse(first)))["sealed"]
    assert (state, "under version 1" in detail) == ("ok", True)
    state, detail = (await told(db, MasterKeys.parse(f"{first},{second}")))["sealed"]
    assert (state, detail.startswith("1 secrets")) == ("warning", True)
    state, detail = (await told(db, MasterKeys.parse(second)))["sealed"]
    assert (state, "1 under version 1" in detail) == ("failed", True)


@pytest.mark.parametrize(("mode", "state"), [("session", "ok"), ("transaction", "failed")])
async def test_pooled_by_session_all_is_well_and_by_transaction_it_is_told(
    postgres_server: PostgresServer, database_name: str, mode: str, state: str
) -> None:
    postgres_server.sql("DROP ROLE IF EXISTS pooled; CREATE ROLE pooled LOGIN SUPERUSER")
    with pgbouncer(postgres_server, database_name, mode) as url:
        async with open_database(url.format("pooled"), role=None) as db:
            assert (await told(db))["notifications"][0] == state
