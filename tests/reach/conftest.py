"""A tenant in a database of the test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.gateway.conftest import Tenant, make_template, to_tenant
from tests.support.postgres import PostgresServer

TEMPLATE = "karta_reach_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer, migrated_template: str) -> tuple[UUID, str, str, str]:
    return make_template(postgres_server, migrated_template, TEMPLATE)


@pytest.fixture
def own_tenant(
    postgres_server: PostgresServer, template: tuple[UUID, str, str, str], tmp_path: Path
) -> Iterator[Tenant]:
    name = f"r{os.getpid()}_{next(_numbers)}"
    postgres_server.create_database(name, TEMPLATE)
    yield to_tenant(postgres_server.url(name), template, tmp_path / "spool")
    postgres_server.drop_database(name)
