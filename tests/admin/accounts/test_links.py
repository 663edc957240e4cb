"""Links: their token leaves the address, and following one spends nothing."""

from __future__ import annotations

import pytest

from admin import throttle
from admin.accounts import links
from storage.bridge import Database
from storage.throttles import Rule
from tests.admin.browsing import Visitor
from tests.admin.mailbox import newest_link


async def test_the_token_leaves_the_address(visitor: Visitor, admin_db: Database) -> None:
    await visitor.submit("/sign-up", {"email": "ada@example.com"})
    link = await newest_link(admin_db)
    for _ in range(2):
        followed = await visitor.get(link)
        assert (followed.status_code, followed.headers["location"]) == (303, "/sign-up/confirm")
    token = visitor.cookies[links.COOKIE]
    assert link.endswith(token)
    assert token not in (await visitor.get("/sign-up/confirm")).text
    stored = await admin_db.fetch_value("SELECT encode(token_digest, 'escape') FROM email_links")
    assert token not in stored


@pytest.mark.parametrize("path", ["/link/nonsense/x", "/link/sign-up/" + "x" * 500])
async def test_what_is_no_link(visitor: Visitor, path: str) -> None:
    assert (await visitor.get(path)).status_code in (404, 303)
    assert links.COOKIE not in visitor.cookies
    assert (await visitor.get("/sign-up/confirm")).status_code == 410


async def test_guessing_links_is_throttled(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "LINK_ADDRESS", Rule("link:address", 2, 300))
    statuses = [(await visitor.get(f"/link/sign-up/{number}")).status_code for number in range(3)]
    assert statuses == [303, 303, 429]
