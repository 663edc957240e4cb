"""A person's own page: sessions seen and ended, address and password changed, and leaving."""

from __future__ import annotations

from uuid import uuid4

import pytest

from admin import csrf, web_session
from admin.accounts import profile
from storage.bridge import Database
from storage.model import Role
from storage.users import add_member
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, PASSWORD, Person, make_person
from tests.admin.mailbox import letters, newest_link

NEW = "another unlikely sentence"


async def test_sessions_are_shown_and_ended(signed_in: Visitor, admin_url: str, person: Person) -> None:
    async with Visitor(admin_url) as elsewhere, Visitor(admin_url) as third:
        for other in (elsewhere, third):
            await other.sign_in(person.email, PASSWORD)
        page = (await signed_in.get("/account")).text
        assert page.count("python-httpx") >= 3
        assert page.count("This one") == 1
        action = page.partition('action="/account/sessions/')[2]
        actions = [part.partition('"')[0] for part in page.split('action="')[1:]]
        ends = [path for path in actions if path.endswith("/end")]
        assert len(ends) == 2
        assert action
        form = {csrf.FIELD: token_of(page)}
        assert (await signed_in.post(ends[0], form)).status_code == 303
        assert (await signed_in.post(ends[0], form)).status_code == 404
        alive = [(await other.get("/account")).status_code for other in (elsewhere, third)]
        assert sorted(alive) == [200, 303]
        assert (await signed_in.post("/account/sessions/end-others", form)).status_code == 303
        assert [(await other.get("/account")).status_code for other in (elsewhere, third)] == [303, 303]
        assert (await signed_in.get("/account")).status_code == 200


async def test_nobody_ends_anothers_session(signed_in: Visitor, admin_db: Database, admin_url: str) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    async with Visitor(admin_url) as other:
        await other.sign_in(eve.email, PASSWORD)
        session_id = await admin_db.fetch_value(
            "SELECT session_id FROM sessions WHERE user_id = $1", eve.user.user_id
        )
        form = {csrf.FIELD: await signed_in.token("/account")}
        for unknown in (session_id, uuid4()):
            assert (await signed_in.post(f"/account/sessions/{unknown}/end", form)).status_code == 404
        assert (await other.get("/account")).status_code == 200


async def test_a_new_password_keeps_this_session_under_a_new_token(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    before = signed_in.cookies[web_session.COOKIE]
    async with Visitor(admin_url) as elsewhere:
        await elsewhere.sign_in(person.email, PASSWORD)
        assert (await signed_in.submit("/account/password", {"password": "x"})).status_code == 422
        done = await signed_in.submit("/account/password", {"password": NEW})
        assert done.headers["location"] == "/account?done=password"
        assert signed_in.cookies[web_session.COOKIE] != before
        assert "Your password was changed" in (await signed_in.get("/account?done=password")).text
        assert (await elsewhere.get("/account")).status_code == 303
    signed_in.cookies[web_session.COOKIE] = before
    assert (await signed_in.get("/account")).status_code == 303
    assert (await signed_in.sign_in(person.email, NEW)).status_code == 303
    assert [letter.kind for letter in await letters(admin_db)] == ["password_changed"]


async def test_a_session_that_ends_while_the_new_password_is_looked_at_sets_none(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end_meanwhile(*_: object) -> None:
        await admin_db.execute("DELETE FROM sessions")

    token = await signed_in.token("/account/password")
    monkeypatch.setattr(profile.password_rules, "find_problem", end_meanwhile)
    done = await signed_in.post("/account/password", {csrf.FIELD: token, "password": NEW})
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in")
    assert (await signed_in.sign_in(person.email, PASSWORD)).status_code == 303
    assert await letters(admin_db) == []


async def test_an_address_changes_by_a_link_and_the_old_one_is_told(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    assert (await signed_in.submit("/account/email", {"email": "nonsense"})).status_code == 422
    asked = await signed_in.submit("/account/email", {"email": "new@example.com"})
    assert asked.headers["location"] == "/account?done=email-sent"
    await signed_in.get(await newest_link(admin_db))
    assert "new@example.com" in (await signed_in.get("/account/email/confirm")).text
    done = await signed_in.submit("/account/email/confirm", {})
    assert done.headers["location"] == "/account?done=email"
    assert "new@example.com" in (await signed_in.get("/account")).text
    told = [(letter.kind, letter.recipient) for letter in await letters(admin_db)]
    assert told == [("change_email", "new@example.com"), ("email_changed", person.email)]
    assert (await signed_in.get("/account/email/confirm")).status_code == 410


async def test_somebody_elses_address_stays_theirs(signed_in: Visitor, admin_db: Database) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    asked = await signed_in.submit("/account/email", {"email": eve.email})
    assert asked.headers["location"] == "/account?done=email-sent"
    assert [letter.kind for letter in await letters(admin_db)] == ["email_taken"]


async def test_leaving(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    assert (await signed_in.submit("/account/delete", {"email": "x"})).status_code == 422
    refused = await signed_in.submit("/account/delete", {"email": person.email})
    assert refused.status_code == 409
    assert "only owner" in refused.text
    eve = await make_person(admin_db, "eve@example.com")
    await add_member(admin_db, ACTOR, person.organization.org_id, eve.user.user_id, Role.OWNER)
    left = await signed_in.submit("/account/delete", {"email": person.email})
    assert left.headers["location"] == "/sign-in?reason=deleted"
    assert web_session.COOKIE not in signed_in.cookies
    assert (await signed_in.sign_in(person.email, PASSWORD)).status_code == 422
    assert [letter.kind for letter in await letters(admin_db)] == ["account_deleted"]
