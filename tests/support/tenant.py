"""A tenant to test with: an organization on Pro with a live and a test key, in a database of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    return make_template(postgres_server, migrated_template, TEMPLATE)


def make_template(server: PostgresServer, migrated_template: str, name: str) -> tuple[UUID, str, str, str]:
    """A database of that name with a tenant in it, and what there is to know of the tenant."""
    server.create_database(name, migrated_template)

    async def make() -> tuple[UUID, str, str, str]:
        async with open_database(server.url(name), role="karta_admin") as db:
            org = await create_organization(db, ACTOR, name="Acme", plan=Plan.PRO)
            key, token = await mint_key(db, ACTOR, org_id=org.org_id, name="live", mode=Mode.LIVE)
            _, test_token = await mint_key(db, ACTOR, org_id=org.org_id, name="test", mode=Mode.TEST)
            return org.org_id, key.key_id, token, test_token

    made: tuple[UUID, str, str, str] = run_in_own_trio(make)
    return made


def to_tenant(url: str, made: tuple[UUID, str, str, str], spool_dir: Path) -> Tenant:
    org_id, key_id, token, test_token = made
    return Tenant(
        database_url=url,
        org_id=org_id,
        key_id=key_id,
        token=token,
        test_token=test_token,
        master_keys=MasterKeys.generate(),
        spool_dir=spool_dir,
    )


@contextmanager
def copied(server: PostgresServer, name: str) -> Iterator[str]:
    """The URL of a copy of the template, which is gone afterwards."""
    server.create_database(name, TEMPLATE)
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def own_tenant(
    postgres_server: PostgresServer, tenant_template: tuple[UUID, str, str, str], tmp_path: Path
) -> Iterator[Tenant]:
    """The tenant in a database of the test's own, to change as it likes."""
    with copied(postgres_server, f"tenant{os.getpid()}_{next(_numbers)}") as url:
        yield to_tenant(url, tenant_template, tmp_path / "spool")
