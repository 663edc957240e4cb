"""The prompt, and the way back to what it interrupted."""

from __future__ import annotations

import pytest

from admin import csrf, throttle, web_session
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import PASSWORD, Person, make_stale


async def prove(visitor: Visitor, password: str = PASSWORD) -> str:
    """Answers the prompt; returns where it leads, or the page that refuses."""
    response = await visitor.submit("/prove", {"password": password}, "/prove/password")
    return response.headers.get("location", response.text)


async def test_a_page_is_opened_after_the_proof(signed_in: Visitor, admin_db: Database) -> None:
    await make_stale(admin_db)
    before = signed_in.cookies[web_session.COOKIE]
    assert (await signed_in.get("/account/email?x=1")).headers["location"] == "/prove"
    assert await prove(signed_in) == "/prove/resume"
    assert signed_in.cookies[web_session.COOKIE] != before
    assert (await signed_in.get("/prove/resume")).headers["location"] == "/account/email?x=1"
    assert (await signed_in.get("/account/email?x=1")).status_code == 200
    assert (await signed_in.get("/prove/resume")).headers["location"] == "/"


async def test_a_form_is_offered_once_more_after_the_proof(
    signed_in: Visitor, admin_db: Database, person: Person
) -> None:
    page = (await signed_in.get("/account/delete")).text
    await make_stale(admin_db)
    form = {csrf.FIELD: token_of(page), "email": 'typed"<b>'}
    assert (await signed_in.post("/account/delete", form)).headers["location"] == "/prove"
    assert await prove(signed_in) == "/prove/resume"
    page = (await signed_in.get("/prove/resume")).text
    assert 'action="/account/delete"' in page
    assert 'value="typed&#34;&lt;b&gt;"' in page
    form = {csrf.FIELD: token_of(page), "email": person.email}
    assert (await signed_in.post("/account/delete", form)).status_code == 409  # the only owner


async def test_a_secret_is_not_kept_but_asked_for_again(signed_in: Visitor, admin_db: Database) -> None:
    token = await signed_in.token("/account/password")
    await make_stale(admin_db)
    headers = {"Referer": f"{signed_in.url}/account/password"}
    form = {csrf.FIELD: token, "password": "hunter2 hunter2"}
    await signed_in.post("/account/password", form, headers=headers)
    kept = await admin_db.fetch_value("SELECT interrupted FROM sessions")
    assert "hunter2" not in kept
    await prove(signed_in)
    assert (await signed_in.get("/prove/resume")).headers["location"] == "/account/password"


async def test_a_wrong_password_proves_nothing_and_is_noted(
    signed_in: Visitor, admin_db: Database, person: Person
) -> None:
    await make_stale(admin_db)
    assert "not your password" in await prove(signed_in, "wrong")
    assert (await signed_in.get("/account/email")).headers["location"] == "/prove"
    assert (await select_audit_rows(admin_db, None))[-1].event == "proof:failed"


async def test_guessing_is_throttled(
    signed_in: Visitor, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PROOF_ACCOUNT", Rule("proof:account", 2, 300))
    for _ in range(2):
        await prove(signed_in, "wrong")
    response = await signed_in.submit("/prove", {"password": PASSWORD}, "/prove/password")
    assert response.status_code == 429


async def test_proof_lasts_five_minutes_and_is_not_prolonged_by_use(
    signed_in: Visitor, admin_db: Database
) -> None:
    await admin_db.execute("UPDATE sessions SET stepped_up_at = now() - interval '290 seconds'")
    assert (await signed_in.get("/account/email")).status_code == 200
    await admin_db.execute("UPDATE sessions SET stepped_up_at = stepped_up_at - interval '20 seconds'")
    assert (await signed_in.get("/account/email")).status_code == 303
