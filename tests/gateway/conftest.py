"""A gateway to test on, and the tenant of `tests.support.tenant` to test it with."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import bcrypt
import pytest

from storage import key_format
from storage.bridge import Database
from storage.credentials import set_credential
from storage.sealing import MasterKeys
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.scripted_provider import Handler, ScriptedProvider, scripted_provider
from tests.support.tenant import ACTOR as ACTOR
from tests.support.tenant import Tenant as Tenant
from tests.support.tenant import copied, to_tenant


@pytest.fixture(scope="session")
def shared_url(postgres_server: PostgresServer, tenant_template: tuple[UUID, str, str, str]) -> Iterator[str]:
    with copied(postgres_server, f"tenant{os.getpid()}_shared") as url:
        yield url


@pytest.fixture
def tenant(shared_url: str, tenant_template: tuple[UUID, str, str, str], tmp_path: Path) -> Tenant:
    """The tenant in a database that other tests use too: for tests that change nothing but `usage`."""
    return to_tenant(shared_url, tenant_template, tmp_path / "spool")


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
def stage(tenant: Tenant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A gateway before a provider that runs `handler` for each connection.

    The gateway knows the live key of the tenant (`of`, or the shared one) already, unless `cold`: then it is
    verified in full, which takes the time that tests do something in. It must not fail in a way nobody
    expected, whatever the test does to it, unless `faulty`. Further options are `running_gateway`'s.
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
        if cold:
            monkeypatch.setattr(key_format, "bcrypt", bcrypt)
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


@pytest.fixture
def nobody() -> str:
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
