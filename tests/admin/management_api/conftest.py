"""A key of the management API, and a client that calls with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from admin import throttle
from storage.bridge import Database
from storage.throttles import Rule
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, plant


@pytest.fixture
def untold_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that call more often than a program should."""
    for name in ("API_ADDRESS", "API_KEY", "API_MINT_KEY", "API_IDEMPOTENT_KEY", "API_INVITE_KEY"):
        rule: Rule = getattr(throttle, name)
        monkeypatch.setattr(throttle, name, Rule(rule.name, 1_000_000, rule.period_seconds))


@pytest.fixture
async def token(admin_db: Database, person: Person) -> str:
    """Of a key with all scopes, of the organization's owner."""
    return await plant(admin_db, person)


@pytest.fixture
async def api(admin_url: str, token: str, person: Person) -> AsyncIterator[Client]:
    async with Client(admin_url, token, person.organization.org_id) as client:
        yield client
