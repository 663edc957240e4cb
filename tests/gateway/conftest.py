"""A tenant to test with: an organization on Pro with one live and one test key, made once and copied per test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from storage.api_keys import mint_key
from storage.bridge import open_database
from storage.model import Actor, ActorKind, Mode, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys
from tests.support.postgres import PostgresServer, run_in_own_trio

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
TEMPLATE = "karta_tenant_template"
_numbers = itertools.count(1)


class Tenant(msgspec.Struct, frozen=True):
    database_url: str
    org_id: UUID
    key_id: str
    token: str
    test_token: str
    master_keys: str
    spool_dir: Path


@pytest.fixture(scope="session")
def tenant_template(postgres_server: PostgresServer, migrated_template: str) -> tuple[UUID, str, str, str]:
    """A template database that holds the tenant: minting costs a bcrypt each, so once for all tests."""
    postgres_server.sql(f"CREATE DATABASE {TEMPLATE} TEMPLATE {migrated_template}")

    async def make() -> tuple[UUID, str, str, str]:
        async with open_database(postgres_server.url(TEMPLATE), role="karta_admin") as db:
            org = await create_organization(db, ACTOR, name="Acme", plan=Plan.PRO)
            key, token = await mint_key(db, ACTOR, org_id=org.org_id, name="live", mode=Mode.LIVE)
            _, test_token = await mint_key(db, ACTOR, org_id=org.org_id, name="test", mode=Mode.TEST)
            return org.org_id, key.key_id, token, test_token

    made: tuple[UUID, str, str, str] = run_in_own_trio(make)
    return made


@pytest.fixture
def tenant(
    postgres_server: PostgresServer, tenant_template: tuple[UUID, str, str, str], tmp_path: Path
) -> Iterator[Tenant]:
    """A database of the test's own, with the tenant in it."""
    name = f"g{os.getpid()}_{next(_numbers)}"
    postgres_server.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    org_id, key_id, token, test_token = tenant_template
    yield Tenant(
        database_url=postgres_server.url(name),
        org_id=org_id,
        key_id=key_id,
        token=token,
        test_token=test_token,
        master_keys=MasterKeys.generate(),
        spool_dir=tmp_path / "spool",
    )
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")
