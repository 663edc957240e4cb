"""Signing up, by mail, and what a stranger learns of who has an account: nothing."""

from __future__ import annotations

import pytest
import trio

from admin import web_session
from admin.accounts import links, steady_time
from storage.audit import select_audit_rows
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import PASSWORD, Person
from tests.admin.mailbox import letters, newest_link

FORM = {"organization": "Acme", "password": PASSWORD}


async def follow(visitor: Visitor, db: Database) -> None:
    assert (await visitor.get(await newest_link(db))).status_code == 303


async def test_from_an_address_to_a_first_page(visitor: Visitor, admin_db: Database) -> None:
    sent = await visitor.submit("/sign-up", {"email": "New@Example.com"})
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-up/sent")
    assert "/outbox" in (await visitor.get("/sign-up/sent")).text
    assert [(letter.kind, letter.recipient) for letter in await letters(admin_db)] == [
        ("sign_up", "new@example.com")
    ]
    await follow(visitor, admin_db)
    page = await visitor.get("/sign-up/confirm")
    assert "new@example.com" in page.text
    done = await visitor.submit("/sign-up/confirm", FORM)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert links.COOKIE not in visitor.cookies
    [org_id] = [row["org_id"] for row in await admin_db.fetch("SELECT org_id FROM organizations")]
    newest = (await select_audit_rows(admin_db, org_id))[-1]
    assert (newest.event, newest.details) == ("sign_in:succeeded", '{"by": "password"}')
    home = await visitor.get((await visitor.get("/")).headers["location"])
    assert "Acme" in home.text
    assert "Free plan" in home.text
    visitor.cookies.clear()
    assert (await visitor.sign_in("new@example.com", PASSWORD)).status_code == 303


async def test_known_or_not_the_answer_is_the_same(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    answers = []
    for email in (person.email, "nobody@example.com"):
        response = await visitor.submit("/sign-up", {"email": email})
        answers.append((response.status_code, response.text, response.headers["location"]))
    assert answers[0] == answers[1]
    assert [letter.kind for letter in await letters(admin_db)] == ["already_signed_up", "sign_up"]


async def test_and_after_the_same_time(
    visitor: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []
    real = trio.sleep_until

    async def note(until: float) -> None:
        slept.append(until - trio.current_time())
        await real(until)

    monkeypatch.setattr(steady_time.trio, "sleep_until", note)
    for email in (person.email, "nobody@example.com"):
        await visitor.submit("/sign-up", {"email": email})
        await visitor.submit("/forgot-password", {"email": email})
    assert len(slept) == 4


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({**FORM, "password": "password1234"}, "too easy to guess"),
        ({**FORM, "password": "short"}, "at least 10"),
        ({**FORM, "organization": " "}, "1 to 200"),
        ({**FORM, "organization": "x" * 201}, "1 to 200"),
        ({**FORM, "organization": "x\u202ey"}, "1 to 200"),
        ({}, "at least 10"),
    ],
)
async def test_what_is_wrong_is_told_and_spends_nothing(
    visitor: Visitor, admin_db: Database, form: dict[str, str], told: str
) -> None:
    await visitor.submit("/sign-up", {"email": "new@example.com"})
    await follow(visitor, admin_db)
    response = await visitor.submit("/sign-up/confirm", form)
    assert response.status_code == 422
    assert told in response.text
    assert (await visitor.submit("/sign-up/confirm", FORM)).status_code == 303


async def test_a_link_works_once(visitor: Visitor, admin_db: Database) -> None:
    await visitor.submit("/sign-up", {"email": "new@example.com"})
    await follow(visitor, admin_db)
    token = await visitor.token("/sign-up/confirm")
    kept = dict(visitor.cookies)
    assert (await visitor.post("/sign-up/confirm", {"csrf_token": token, **FORM})).status_code == 303
    visitor.cookies = kept
    assert (await visitor.get("/sign-up/confirm")).status_code == 410
    assert (await visitor.post("/sign-up/confirm", {"csrf_token": token, **FORM})).status_code == 410


async def test_nobody_is_signed_up_without_a_link(visitor: Visitor) -> None:
    token = await visitor.token("/sign-up")
    response = await visitor.post("/sign-up/confirm", {"csrf_token": token, **FORM})
    assert response.status_code == 410
    assert web_session.COOKIE not in visitor.cookies


async def test_what_is_no_address_is_told(visitor: Visitor) -> None:
    response = await visitor.submit("/sign-up", {"email": "nonsense"})
    assert response.status_code == 422
    assert "not an email address" in response.text
