"""One tenant for the whole folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.servers import Tenant, make_tenant
from tests.support.postgres import PostgresServer, run_in_own_trio

DATABASE = "karta_fuzz"


@pytest.fixture(scope="session")
def fuzz_database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[tuple[str, Tenant]]:
    """A database with one tenant in it."""
    postgres_server.create_database(DATABASE, migrated_template)
    url = postgres_server.url(DATABASE)
    yield url, run_in_own_trio(make_tenant, url)
    postgres_server.drop_database(DATABASE)
