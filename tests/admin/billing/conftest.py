"""Payments as they are in tests: localstripe behind a desk that answers what it lacks (tests/support)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin, stripe_settings
from tests.support.localstripe import Desk


@pytest.fixture
async def member(database_url: str, desk: Desk, person: Person) -> AsyncIterator[Visitor]:
    """An owner, signed in, where payments are set up."""
    async with running_admin(database_url, **stripe_settings(desk.origin)) as url, Visitor(url) as visitor:
        assert (await visitor.sign_in(person.email, person.password)).status_code == 303
        yield visitor
