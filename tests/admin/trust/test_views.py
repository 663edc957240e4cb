"""The public pages: what they say, that caches may keep them, and that they need no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import html5lib
import pytest

from admin.settings import AdminSettings
from admin.trust import security_txt, views
from storage.settings import SettingsError
from tests.admin.browsing import Visitor
from tests.admin.conftest import running_admin
from tests.admin.trust.test_security_txt import SIGNED
from tests.support.database_line import database_line

PAGES = ["/security", "/security/policy", "/compliance", "/subprocessors"]


def check_html(text: str) -> None:
    """Raises where a page is not valid HTML, as far as its structure goes."""
    html5lib.HTMLParser(strict=True).parse(text)


@pytest.mark.parametrize("path", [*PAGES, "/.well-known/security.txt"])
async def test_a_public_page_may_be_kept_by_caches(visitor: Visitor, path: str) -> None:
    answer = await visitor.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"].startswith("public, max-age=")
    assert "set-cookie" not in answer.headers
    assert "script-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    if path in PAGES:
        check_html(answer.text)


async def test_it_is_the_same_for_everybody(visitor: Visitor, signed_in: Visitor) -> None:
    page = (await signed_in.get("/security")).text
    assert "ada@example.com" not in page
    assert "Sign out" not in page


async def test_pages_with_forms_are_not_kept(visitor: Visitor) -> None:
    for path in ("/abuse", "/subprocessors/subscribe"):
        answer = await visitor.get(path)
        assert answer.headers["cache-control"] == "no-store"
        check_html(answer.text)


async def test_promises_are_told_from_what_runs(database_url: str) -> None:
    async with running_admin(database_url, session_hours=7) as url, Visitor(url) as visitor:
        page = (await visitor.get("/security")).text
    assert "bcrypt cost of keys and passwords: 12" in page
    assert "sessions end after 7 hours" in page
    assert "kept for 400 days by default, never less than 365" in page


async def test_they_are_there_without_a_database(database_url: str) -> None:
    async with database_line(database_url) as line, running_admin(line.url) as url, Visitor(url) as visitor:
        line.cut()
        for path in PAGES:
            assert (await visitor.get(path)).status_code == 200


async def test_a_signed_security_txt_is_served_as_it_is_until_it_expires(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "security.txt"
    file.write_text(SIGNED)
    settings = {"security_txt_file": file, "admin_url": "https://karta.example.com"}
    async with running_admin(database_url, **settings) as url, Visitor(url) as visitor:
        answer = await visitor.get("/.well-known/security.txt", headers={"Host": "karta.example.com"})
        assert answer.content == SIGNED.encode()

        class Later(datetime):
            @classmethod
            def now(cls, tz=None):  # type: ignore[no-untyped-def]
                return datetime(2099, 1, 1, tzinfo=tz)

        monkeypatch.setattr(views, "datetime", Later)
        answer = await visitor.get("/.well-known/security.txt", headers={"Host": "karta.example.com"})
        assert "BEGIN" not in answer.text
        assert "Expires: 2099-06-30" in answer.text
    security_txt.load.cache_clear()
    file.write_text(SIGNED.replace("SIGNED", "FORGED"))
    with pytest.raises(SettingsError, match=r"KARTA_SECURITY_TXT_FILE: .* is not signed in the clear"):
        AdminSettings.load(database_url=database_url, **settings)


async def test_security_txt_says_whom_to_tell(database_url: str) -> None:
    settings = {"security_contact": "Security@example.com", "admin_url": "https://karta.example.com"}
    async with running_admin(database_url, **settings) as url, Visitor(url) as visitor:
        host = {"Host": "karta.example.com"}
        answer = await visitor.get("/.well-known/security.txt", headers=host)
        moved = await visitor.get("/security.txt", headers=host)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    fields = [line.split(": ", 1) for line in answer.text.splitlines()]
    assert [value for name, value in fields if name == "Contact"] == [
        "mailto:security@example.com",
        "https://karta.example.com/abuse",
    ]
    found = dict(fields)
    assert found["Canonical"] == "https://karta.example.com/.well-known/security.txt"
    assert found["Policy"] == "https://karta.example.com/security/policy"
    expires = datetime.strptime(found["Expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=365)
    assert (moved.status_code, moved.headers["location"]) == (301, "/.well-known/security.txt")


async def test_the_list_of_sub_processors(visitor: Visitor) -> None:
    page = (await visitor.get("/subprocessors")).text
    assert "Anthropic, PBC" in page
    assert "First list." in page
