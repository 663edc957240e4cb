"""Sessions: the cookie, what is stored of it, its end, and forms that are not ours."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from admin import csrf, web_session
from admin.app import FORM_BYTES_MAX
from storage.bridge import Database
from storage.memberships import remove_member
from storage.model import Role
from storage.sessions import end_sessions
from storage.users import add_member
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person, make_person
from tests.admin.mailbox import mails


async def test_the_cookie_is_for_this_host_alone(visitor: Visitor, person: Person) -> None:
    response = await visitor.sign_in(person.email, person.password)
    (cookie,) = [
        line for line in response.headers.get_list("set-cookie") if line.startswith(web_session.COOKIE)
    ]
    assert web_session.COOKIE.startswith("__Host-")
    attributes = {part.strip() for part in cookie.split(";")[1:]}
    assert attributes == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}


async def test_only_a_digest_is_stored(visitor: Visitor, person: Person, owner_db: Database) -> None:
    await visitor.sign_in(person.email, person.password)
    token = visitor.cookies[web_session.COOKIE]
    assert len(token) >= 43
    stored = await owner_db.fetch_value("SELECT token_digest FROM sessions")
    assert stored == hashlib.sha256(token.encode()).digest()


async def test_it_ends_in_time(visitor: Visitor, person: Person, owner_db: Database) -> None:
    await visitor.sign_in(person.email, person.password)
    hours = await owner_db.fetch_value(
        "SELECT extract(epoch FROM expires_at - created_at) / 3600 FROM sessions"
    )
    assert 11.9 < hours < 12.1
    await owner_db.execute(
        "UPDATE sessions SET created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'"
    )
    assert (await visitor.get("/")).headers["location"] == "/sign-in"


@pytest.mark.parametrize("cookie", ["unknown", "x" * 5000, "%00", ""])
async def test_a_strange_cookie_is_nobody(visitor: Visitor, cookie: str) -> None:
    visitor.cookies[web_session.COOKIE] = cookie
    assert (await visitor.get("/")).headers["location"] == "/sign-in"


async def attempt(visitor: Visitor, person: Person, token: str, headers: dict[str, str] | None = None) -> int:
    form = {csrf.FIELD: token, "email": person.email, "password": person.password}
    status: int = (await visitor.post("/sign-in", form, headers=headers or {})).status_code
    return status


async def test_a_form_of_our_own_is_taken(visitor: Visitor, person: Person) -> None:
    same = {"Sec-Fetch-Site": "same-origin", "Origin": visitor.url}
    assert await attempt(visitor, person, await visitor.token(), same) == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_one_of_another_site_is_not(visitor: Visitor, person: Person, headers: dict[str, str]) -> None:
    assert await attempt(visitor, person, await visitor.token(), headers) == 403


async def test_one_with_a_strangers_token_is_not(visitor: Visitor, person: Person, admin_url: str) -> None:
    async with Visitor(admin_url) as stranger:
        theirs = await stranger.token()
    await visitor.token()
    assert await attempt(visitor, person, theirs) == 403
    assert await attempt(visitor, person, "") == 403


async def test_signing_out_needs_proof_too(visitor: Visitor, person: Person) -> None:
    await visitor.sign_in(person.email, person.password)
    refused = await visitor.post("/sign-out", {})
    assert refused.status_code == 403
    assert "no longer valid" in refused.text
    assert (await visitor.get("/")).headers["location"] != "/sign-in"


async def test_nothing_changes_by_get(visitor: Visitor, person: Person) -> None:
    await visitor.sign_in(person.email, person.password)
    assert (await visitor.get("/sign-out")).status_code == 405


async def test_a_page_without_a_form_sets_no_cookie(visitor: Visitor) -> None:
    for path in ("/nowhere", "/healthz", "/static/karta.css"):
        response = await visitor.get(path)
        assert "set-cookie" not in response.headers


async def test_the_visitors_cookie_goes_with_the_sign_in(visitor: Visitor, person: Person) -> None:
    options: Any = (person.email, person.password)
    await visitor.sign_in(*options)
    assert set(visitor.cookies) == {web_session.COOKIE}


async def test_a_sign_in_from_elsewhere_is_told(admin_url: str, person: Person, admin_db: Database) -> None:
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101 Firefox/{}.0"
    safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605 Safari/604.1"
    told = []
    for user_agent in (firefox.format(140, 140), firefox.format(141, 141), safari):
        async with Visitor(admin_url) as visitor:
            form = {csrf.FIELD: await visitor.token(), "email": person.email, "password": person.password}
            await visitor.post("/sign-in", form, headers={"User-Agent": user_agent})
            told.append(await mails(admin_db))
    assert [len(found) for found in told] == [0, 0, 1], "a newer Firefox is the same browser"
    assert "Safari on iOS" in told[-1][0].text
    assert told[-1][0].recipient == person.email


PAGES = 5
"""Read whole while a form is held back: whatever is asked before a form is whole was asked by then."""


async def test_a_form_is_of_who_is_signed_in_when_it_is_whole(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    # A thief holds one back while a new password ends every session.
    form = {csrf.FIELD: await signed_in.token("/account/email"), "email": "thief@example.com"}
    held = await signed_in.hold_back("/account/email", form)
    for _ in range(PAGES):
        assert (await signed_in.get("/account")).status_code == 200
    async with admin_db.transaction() as tx:
        await end_sessions(tx, person.user.user_id)
    answer = await held.finish()
    assert answer.status == 403
    assert await admin_db.fetch_value("SELECT count(*) FROM email_links") == 0


async def test_a_form_is_of_a_member_when_it_is_whole(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    eve = await make_person(admin_db, "eve@example.com")
    await add_member(admin_db, ACTOR, org_id, eve.user.user_id, Role.ADMIN)
    await visitor.sign_in(eve.email, eve.password)
    page = f"/organizations/{org_id}/members"
    form = {csrf.FIELD: await visitor.token(page), "email": "friend@example.com", "role": "admin"}
    held = await visitor.hold_back(f"/organizations/{org_id}/invitations", form)
    for _ in range(PAGES):
        assert (await visitor.get(page)).status_code == 200
    await remove_member(admin_db, ACTOR, org_id, person.user.user_id, eve.user.user_id)
    answer = await held.finish()
    assert answer.status == 404
    assert await admin_db.fetch_value("SELECT count(*) FROM invitations") == 0


async def test_a_form_that_is_too_large_signs_nobody_out(signed_in: Visitor) -> None:
    form = {csrf.FIELD: await signed_in.token("/account/email"), "email": "a" * (FORM_BYTES_MAX + 1)}
    response = await signed_in.post("/account/email", form)
    assert response.status_code == 413
    assert 'action="/sign-out"' in response.text
