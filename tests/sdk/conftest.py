"""The two sides of every comparison, started once for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.compare import Side, Sides
from tests.sdk.servers import DIRECT_KEY, Provider, Tenant, make_tenant, running_gateway, running_provider
from tests.support.postgres import PostgresServer, run_in_own_trio

DATABASE = "karta_sdk"


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The simulated provider: shared, so a test looks only at ledger entries after its own start."""
    with running_provider() as running:
        yield running


@pytest.fixture(scope="session")
def tenant_database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[tuple[str, Tenant]]:
    """A database with one tenant in it."""
    postgres_server.create_database(DATABASE, migrated_template)
    url = postgres_server.url(DATABASE)
    yield url, run_in_own_trio(make_tenant, url)
    postgres_server.drop_database(DATABASE)


@pytest.fixture(scope="session")
def gateway_url(
    tenant_database: tuple[str, Tenant], provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The gateway in a process of its own."""
    database_url, tenant = tenant_database
    spool_dir = tmp_path_factory.mktemp("spool")
    with running_gateway(database_url, tenant, provider.url, spool_dir) as url:
        yield url


@pytest.fixture(scope="session")
def sides(gateway_url: str, provider: Provider, tenant_database: tuple[str, Tenant]) -> Iterator[Sides]:
    """Direct and through Karta."""
    _, tenant = tenant_database
    direct = Side("direct", provider.url, DIRECT_KEY)
    karta = Side("karta", gateway_url, tenant.token)
    with Sides(direct, karta, provider) as both:
        yield both
