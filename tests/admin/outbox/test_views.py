"""The outbox: for the machine that runs Karta in development, and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import MASTER_KEYS_TEXT, running_admin


async def test_mail_that_waits_is_shown(visitor: Visitor, admin_db: Database) -> None:
    assert "Nothing waits" in (await visitor.get("/outbox")).text
    await visitor.submit("/sign-up", {"email": "ada@example.com"})
    page = (await visitor.get("/outbox")).text
    assert "ada@example.com" in page
    assert f'<a href="{visitor.url}/link/sign-up/' in page


PRODUCTION = {
    "env": "production",
    "trusted_proxies": ["127.0.0.0/8"],
    "admin_url": "https://admin.example.com",
    "master_keys": MASTER_KEYS_TEXT,
}


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (PRODUCTION, {"Host": "admin.example.com", "X-Forwarded-Proto": "https"}),
        ({"env": "development", "admin_bind": "0.0.0.0:8000"}, {}),
        ({"trusted_proxies": ["127.0.0.0/8"]}, {"X-Forwarded-For": "192.0.2.7"}),
        ({"trusted_proxies": ["127.0.0.0/8"]}, {"X-Forwarded-For": "192.0.2.7, 127.0.0.1"}),
    ],
    ids=["production", "reachable from elsewhere", "through a proxy", "through two"],
)
async def test_elsewhere_there_is_no_such_page(
    database_url: str, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    async with running_admin(database_url, **settings) as url, Visitor(url) as visitor:
        assert (await visitor.get("/outbox", headers=headers)).status_code == 404
