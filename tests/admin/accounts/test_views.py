"""Signing in and out over real HTTP, and what a stranger learns from trying."""

from __future__ import annotations

import pytest

from admin import csrf, pending_sign_in, throttle, web_session
from admin.accounts import views
from admin.accounts.views import REFUSED
from storage.bridge import Database
from storage.passwords import REFERENCE_DIGEST
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import Person


async def test_the_owner_signs_in_and_out(visitor: Visitor, person: Person) -> None:
    home = await visitor.get("/")
    assert (home.status_code, home.headers["location"]) == (303, "/sign-in")
    signed_in = await visitor.sign_in(person.email, person.password)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")
    page = await visitor.get(f"/organizations/{person.organization.org_id}")
    assert person.email in page.text
    assert (await visitor.get("/sign-in")).status_code == 303
    signed_out = await visitor.post("/sign-out", {csrf.FIELD: token_of(page.text)})
    assert (signed_out.status_code, signed_out.headers["location"]) == (303, "/sign-in")
    assert web_session.COOKIE not in visitor.cookies
    assert (await visitor.get("/")).headers["location"] == "/sign-in"


async def test_an_address_is_taken_in_any_case(visitor: Visitor, person: Person) -> None:
    assert (await visitor.sign_in(" ADA@Example.com ", person.password)).status_code == 303


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.com", "wrong"),
        ("nobody@example.com", "correct horse battery staple"),
        ("not an address", "x"),
        ("", ""),
        ("a" * 300 + "@example.com", "x"),
        ("ada@example.com", "x" * 2000),
        ("ada@example.com\0", "\0"),
    ],
)
async def test_whatever_is_wrong_the_answer_is_the_same(
    visitor: Visitor, person: Person, email: str, password: str
) -> None:
    response = await visitor.sign_in(email, password)
    assert response.status_code == 422
    assert REFUSED in response.text
    assert web_session.COOKIE not in visitor.cookies
    if password:
        assert password not in response.text or password == "x"


@pytest.mark.parametrize("has_factor", [False, True])
async def test_a_password_set_while_the_old_one_is_verified_keeps_it_out(
    visitor: Visitor,
    person: Person,
    admin_db: Database,
    monkeypatch: pytest.MonkeyPatch,
    has_factor: bool,
) -> None:
    async def reset_meanwhile(*_: object) -> bool:
        await admin_db.execute(
            "UPDATE users SET password_digest = $2 WHERE user_id = $1",
            person.user.user_id,
            REFERENCE_DIGEST,
        )
        return has_factor

    monkeypatch.setattr(views, "has_factor", reset_meanwhile)
    response = await visitor.sign_in(person.email, person.password)
    assert response.status_code == 422
    assert REFUSED in response.text
    assert web_session.COOKIE not in visitor.cookies
    for table in ("sessions", "pending_sign_ins"):
        assert await admin_db.fetch_value(f"SELECT count(*) FROM {table}") == 0


async def test_a_second_factor_set_up_while_the_password_is_verified_is_asked_for(
    visitor: Visitor,
    person: Person,
    admin_db: Database,
    owner_db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def set_up_after_it_was_asked_for(*_: object) -> bool:
        await owner_db.execute(
            "INSERT INTO totp_factors (user_id, sealed_secret, confirmed_at) VALUES ($1, 'x', now())",
            person.user.user_id,
        )
        return False

    monkeypatch.setattr(views, "has_factor", set_up_after_it_was_asked_for)
    response = await visitor.sign_in(person.email, person.password)
    assert response.headers["location"] == "/sign-in/second-factor"
    assert web_session.COOKIE not in visitor.cookies
    assert pending_sign_in.COOKIE in visitor.cookies
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 0


async def test_what_was_typed_is_escaped(visitor: Visitor, person: Person) -> None:
    response = await visitor.sign_in('"><script>alert(1)</script>', "x")
    assert "<script>alert" not in response.text


async def test_each_sign_in_is_in_the_audit_log(visitor: Visitor, person: Person, owner_db: Database) -> None:
    await visitor.sign_in(person.email, "wrong")
    await visitor.sign_in(person.email, person.password)
    rows = await owner_db.fetch(
        "SELECT event, actor_kind, address, user_agent FROM audit_log WHERE org_id = $1 "
        "ORDER BY seq DESC LIMIT 2",
        person.organization.org_id,
    )
    succeeded, failed = rows
    assert "fail" in failed["event"]
    assert "fail" not in succeeded["event"]
    assert (succeeded["actor_kind"], succeeded["address"]) == ("user", "127.0.0.1")
    assert succeeded["user_agent"].startswith("python-httpx")


async def test_a_session_of_before_ends_with_a_new_sign_in(visitor: Visitor, person: Person) -> None:
    await visitor.sign_in(person.email, person.password)
    old = dict(visitor.cookies)
    page = await visitor.get(f"/organizations/{person.organization.org_id}")
    form = {csrf.FIELD: token_of(page.text), "email": person.email, "password": person.password}
    assert (await visitor.post("/sign-in", form)).status_code == 303
    assert visitor.cookies[web_session.COOKIE] != old[web_session.COOKIE]
    visitor.cookies = old
    assert (await visitor.get("/")).headers["location"] == "/sign-in"


async def test_signing_in_leads_to_what_was_asked_for(visitor: Visitor, person: Person) -> None:
    sent = await visitor.get("/account?x=1")
    assert sent.headers["location"] == "/sign-in?next=/account?x%3D1"
    page = await visitor.get(sent.headers["location"])
    assert 'name="next" value="/account?x=1"' in page.text
    form = {csrf.FIELD: token_of(page.text), "email": person.email, "password": person.password}
    signed_in = await visitor.post("/sign-in", {**form, "next": "/account?x=1"})
    assert signed_in.headers["location"] == "/account?x=1"


async def test_and_never_to_another_site(visitor: Visitor, person: Person) -> None:
    form = {"email": person.email, "password": person.password, "next": "//evil.example/"}
    assert (await visitor.submit("/sign-in", form)).headers["location"] == "/"


async def test_guessing_is_throttled_by_address_and_a_good_password_is_then_too(
    visitor: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SIGN_IN_ADDRESS", Rule("sign_in:address", 3, 300))
    for number in range(3):
        assert (await visitor.sign_in(f"user{number}@example.com", "wrong")).status_code == 422
    response = await visitor.sign_in(person.email, person.password)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 100
    assert "Too many tries" in response.text


async def test_and_by_account_whatever_its_spelling_known_or_not(
    visitor: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SIGN_IN_ACCOUNT", Rule("sign_in:account", 2, 300))
    for email in (person.email, "nobody@example.com"):
        tries = [await visitor.sign_in(spelling, "wrong") for spelling in (email, f" {email.upper()}", email)]
        assert [response.status_code for response in tries] == [422, 422, 429]


async def test_a_success_begins_the_count_anew(
    visitor: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SIGN_IN_ACCOUNT", Rule("sign_in:account", 2, 300))
    for password in ("wrong", person.password, "wrong", "wrong"):
        visitor.cookies.clear()
        assert (await visitor.sign_in(person.email, password)).status_code in (303, 422)
