"""The outbox: for the machine that runs Karta in development, and for nobody else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from admin.mail.rendering import content_security_policy
from storage.bridge import Database
from storage.letter_kinds import LetterKind
from storage.outbox import Letter, post, select_waiting
from storage.sealing import MasterKeys
from tests.admin.browsing import Visitor
from tests.admin.conftest import MASTER_KEYS, MASTER_KEYS_TEXT, running_admin


async def test_mail_that_waits_is_shown(visitor: Visitor, admin_db: Database) -> None:
    assert "Nothing waits" in (await visitor.get("/outbox")).text
    await visitor.submit("/sign-up", {"email": "ada@example.com"})
    page = (await visitor.get("/outbox")).text
    assert "ada@example.com" in page
    assert f'<a href="{visitor.url}/link/sign-up/' in page
    assert "Finish signing up" in page


async def test_a_letter_is_shown_as_html_in_a_sandbox(visitor: Visitor, admin_db: Database) -> None:
    await visitor.submit("/sign-up", {"email": "ada@example.com"})
    (waiting,) = await select_waiting(admin_db, MASTER_KEYS)
    path = f"/outbox/{waiting.message_id}"
    assert f'href="{path}"' in (await visitor.get("/outbox")).text
    shown = await visitor.get(path)
    assert f'href="{visitor.url}/link/sign-up/' in shown.text
    assert shown.headers["content-security-policy"] == content_security_policy()
    assert "nonce" in (await visitor.get("/outbox")).headers["content-security-policy"]
    assert (await visitor.get(f"/outbox/{uuid4()}")).status_code == 404


async def test_a_letter_that_does_not_open_spoils_no_page(visitor: Visitor, admin_db: Database) -> None:
    async with admin_db.transaction() as tx:
        await post(
            tx, MasterKeys({9: bytes(32)}), Letter(kind=LetterKind.EMAIL_TAKEN, recipient="a@b.example")
        )
    (waiting,) = await select_waiting(admin_db, MASTER_KEYS)
    assert "cannot be read" in (await visitor.get("/outbox")).text
    assert (await visitor.get(f"/outbox/{waiting.message_id}")).status_code == 404


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
        for path in ("/outbox", f"/outbox/{uuid4()}"):
            assert (await visitor.get(path, headers=headers)).status_code == 404
