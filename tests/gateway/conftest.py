"""A tenant to test with (an organization on Pro with a live and a test key), and a gateway to test it on."""

from __future__ import annotations

import itertools
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import msgspec
import pytest

from storage.api_keys import mint_key
from storage.bridge import Database, open_database
from storage.credentials import set_credential
from storage.model import Actor, ActorKind, Mode, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.postgres import PostgresServer, run_in_own_trio
from tests.support.scripted_provider import Handler, ScriptedProvider, scripted_provider

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
def _copied(server: PostgresServer, name: str) -> Iterator[str]:
    server.create_database(name, TEMPLATE)
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def shared_url(postgres_server: PostgresServer, tenant_template: tuple[UUID, str, str, str]) -> Iterator[str]:
    with _copied(postgres_server, f"g{os.getpid()}_shared") as url:
        yield url


@pytest.fixture
def tenant(shared_url: str, tenant_template: tuple[UUID, str, str, str], tmp_path: Path) -> Tenant:
    """The tenant in a database that other tests use too: for tests that change nothing but `usage`."""
    return to_tenant(shared_url, tenant_template, tmp_path / "spool")


@pytest.fixture
def own_tenant(
    postgres_server: PostgresServer, tenant_template: tuple[UUID, str, str, str], tmp_path: Path
) -> Iterator[Tenant]:
    """The tenant in a database of the test's own, to change as it likes."""
    with _copied(postgres_server, f"g{os.getpid()}_{next(_numbers)}") as url:
        yield to_tenant(url, tenant_template, tmp_path / "spool")


async def set_byok(db: Database, tenant: Tenant, secret: str, provider: str = "anthropic") -> UUID:
    """Give the tenant a provider key of its own; its id."""
    keys = MasterKeys.parse(tenant.master_keys)
    made = await set_credential(
        db, ACTOR, keys, org_id=tenant.org_id, provider=provider, secret=bytearray(secret.encode())
    )
    return made.credential_id


class Stage(Protocol):
    """`async with stage(handler) as (gateway, provider)`: see the fixture of that name."""

    def __call__(
        self,
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
        of: Tenant | None = None,
        cold: bool = False,
        faulty: bool = False,
        **options: Any,
    ) -> AbstractAsyncContextManager[tuple[RunningGateway, ScriptedProvider]]: ...


@pytest.fixture
def stage(tenant: Tenant, caplog: pytest.LogCaptureFixture) -> Stage:
    """A gateway before a provider that runs `handler` for each connection.

    The gateway knows the live key of the tenant (`of`, or the shared one) already, unless `cold`. It must not
    fail in a way nobody expected, whatever the test does to it, unless `faulty`. Further options are
    `running_gateway`'s.
    """
    shared = tenant

    @asynccontextmanager
    async def start(
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
        of: Tenant | None = None,
        cold: bool = False,
        faulty: bool = False,
        **options: Any,
    ) -> AsyncIterator[tuple[RunningGateway, ScriptedProvider]]:
        tenant = of or shared
        try:
            async with scripted_provider(handler, tls=tls) as provider:
                options = {
                    "database_url": tenant.database_url,
                    "spool_dir": tenant.spool_dir,
                    "provider_url": provider.base_url,
                    "master_keys": tenant.master_keys,
                    "trusted": () if cold else (tenant.token,),
                    **options,
                }
                async with running_gateway(**options) as gateway:
                    yield gateway, provider
            faults = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
            assert faulty or not faults
        except BaseExceptionGroup as group:
            # A failed assertion comes out through three nurseries: told as what it is.
            raise sole(group) from None

    return start


def sole(error: BaseException) -> BaseException:
    """What a group holds, if that is one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
