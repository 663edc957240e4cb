"""Payments as they are in tests: localstripe behind a desk that answers what it lacks (tests/support)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from admin.stripe_settings import StripeSettings
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin
from tests.support.localstripe import API_KEY, METER, SECRET, Desk, running_desk, running_localstripe


@pytest.fixture(scope="session")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One for all: customers are told apart."""
    with running_localstripe(tmp_path_factory.mktemp("localstripe")) as origin:
        yield origin


@pytest.fixture
def desk(localstripe: str) -> Iterator[Desk]:
    with running_desk(localstripe) as desk:
        yield desk


def stripe_settings(desk: Desk) -> dict[str, Any]:
    """By which the pages find the desk."""
    given = {
        "stripe_api_key": API_KEY,
        "stripe_webhook_secret": SECRET,
        "stripe_api_base": desk.origin,
        "stripe_price_pro": ["price_pro"],
        "stripe_price_usage": "price_usage",
        "stripe_meter_event": "karta_usage",
        "stripe_meter_id": METER,
        "stripe_pages": [desk.origin],
    }
    assert set(given) <= set(StripeSettings.model_fields)
    return given


@pytest.fixture
async def member(database_url: str, desk: Desk, person: Person) -> AsyncIterator[Visitor]:
    """An owner, signed in, where payments are set up."""
    async with running_admin(database_url, **stripe_settings(desk)) as url, Visitor(url) as visitor:
        assert (await visitor.sign_in(person.email, person.password)).status_code == 303
        yield visitor
