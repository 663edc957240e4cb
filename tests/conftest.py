"""Fixtures every test may ask for. Async tests run on trio; databases are real (see
tests/support/postgres.py)."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from storage.bridge import Database, open_database
from storage.migrate import migrate
from tests.support.postgres import PostgresServer, run_in_own_trio, running_server

TEMPLATE = "karta_template"
_numbers = itertools.count(1)


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server, with nothing but PostgreSQL in it. Do not stop it: others need it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database with the newest schema; nobody may connect to it, or it cannot be copied."""
    postgres_server.sql(f"CREATE DATABASE {TEMPLATE}")
    run_in_own_trio(migrate, postgres_server.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_name(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A fresh copy of the migrated template, dropped afterwards."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    postgres_server.sql(f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield name
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database_name(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database without a schema, dropped afterwards."""
    name = f"e{os.getpid()}_{next(_numbers)}"
    postgres_server.sql(f"CREATE DATABASE {name}")
    yield name
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_server: PostgresServer, database_name: str) -> str:
    """The owner's URL: what KARTA_DATABASE_URL would be."""
    return postgres_server.url(database_name)


@pytest.fixture
async def owner_db(database_url: str) -> AsyncIterator[Database]:
    """The owner's (and superuser's) view: for migrations, for attempts at the audit log, for arranging
    damage."""
    async with open_database(database_url, role=None) as db:
        yield db


@pytest.fixture
async def admin_db(database_url: str) -> AsyncIterator[Database]:
    """The control plane's view: what `karta admin` and the command line run as."""
    async with open_database(database_url, role="karta_admin") as db:
        yield db


@pytest.fixture
async def gateway_db(database_url: str) -> AsyncIterator[Database]:
    """The data plane's view: what `karta gateway` runs as."""
    async with open_database(database_url, role="karta_gateway") as db:
        yield db
