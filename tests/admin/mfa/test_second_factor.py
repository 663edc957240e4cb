"""Signing in with a second factor: nothing is open before it, and each code works once."""

from __future__ import annotations

import re

import pytest
import trio

from admin import csrf, pending_sign_in, throttle, web_session
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import PASSWORD, Person, make_stale
from tests.admin.mailbox import letters
from tests.admin.mfa.codes import App, set_up_app

PAGE, CODE = "/sign-in/second-factor", "/sign-in/second-factor/code"


@pytest.fixture
async def app(signed_in: Visitor, admin_db: Database) -> App:
    """`person` has an app; nobody is signed in."""
    app, _ = await set_up_app(signed_in, admin_db)
    signed_in.cookies.clear()
    return app


async def test_the_password_alone_opens_nothing(visitor: Visitor, person: Person, app: App) -> None:
    await visitor.get("/account")
    form = {"email": person.email, "password": PASSWORD, "next": "/account"}
    sent = await visitor.submit("/sign-in", form)
    assert sent.headers["location"] == "/sign-in/second-factor?next=/account"
    assert web_session.COOKIE not in visitor.cookies
    assert (await visitor.get("/account")).status_code == 303
    page = (await visitor.get(sent.headers["location"])).text
    form = {csrf.FIELD: token_of(page), "code": await app.code(), "next": "/account"}
    done = await visitor.post(CODE, form)
    assert (done.status_code, done.headers["location"]) == (303, "/account")
    assert pending_sign_in.COOKIE not in visitor.cookies
    assert (await visitor.get("/account")).status_code == 200


async def test_a_code_works_once(visitor: Visitor, person: Person, app: App, admin_url: str) -> None:
    await visitor.sign_in(person.email, PASSWORD)
    code = await app.code()
    assert (await visitor.submit(PAGE, {"code": f" {code[:3]} {code[3:]}"}, CODE)).status_code == 303
    async with Visitor(admin_url) as thief:
        await thief.sign_in(person.email, PASSWORD)
        again = await thief.submit(PAGE, {"code": code}, CODE)
        assert again.status_code == 422
        assert "Each works once" in again.text


async def test_of_fifty_browsers_at_once_one_gets_in(
    visitor: Visitor, person: Person, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROOF_ADDRESS", "PROOF_ACCOUNT", "CODE_ACCOUNT"):
        monkeypatch.setattr(throttle, name, Rule(name, 1000, 1))
    await visitor.sign_in(person.email, PASSWORD)
    form = {csrf.FIELD: await visitor.token(PAGE), "code": await app.code()}
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    statuses = []

    async def attempt() -> None:
        response = await visitor.post(CODE, form, headers={"Cookie": cookies})
        statuses.append((response.status_code, response.headers.get("location")))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(attempt)
    assert len(statuses) == 50
    assert statuses.count((303, "/")) == 1


async def test_a_recovery_code_works_once_and_is_told(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    await visitor.sign_in(person.email, PASSWORD)
    await set_up_app(visitor, admin_db)
    page = (await visitor.submit("/account/factors/recovery-codes", {})).text
    code = re.findall(r"[a-z2-7]{6}(?:-[a-z2-7]{6}){3}", page)[0]
    recovery = "/sign-in/recovery-code"
    for status in (303, 422):
        visitor.cookies.clear()
        await visitor.sign_in(person.email, PASSWORD)
        assert (await visitor.submit(recovery, {"code": code})).status_code == status
    assert (await letters(admin_db))[-1].kind == "recovery_code_used"


@pytest.mark.parametrize("path", [PAGE, "/sign-in/recovery-code"])
async def test_without_a_password_there_is_no_second_step(visitor: Visitor, app: App, path: str) -> None:
    assert (await visitor.get(path)).headers["location"] == "/sign-in?reason=too-late"
    form = {csrf.FIELD: await visitor.token(), "code": await app.code()}
    for post in (CODE, "/sign-in/second-factor/passkey", "/sign-in/recovery-code"):
        assert (await visitor.post(post, form)).headers["location"] == "/sign-in?reason=too-late"
    assert web_session.COOKIE not in visitor.cookies


async def test_guessing_is_throttled_over_many_sign_ins(
    visitor: Visitor, person: Person, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PROOF_ACCOUNT", Rule("proof:account", 3, 900))
    statuses = []
    for _ in range(4):
        visitor.cookies.clear()
        await visitor.sign_in(person.email, PASSWORD)
        statuses.append((await visitor.submit(PAGE, {"code": "000000"}, CODE)).status_code)
    assert statuses == [422, 422, 422, 429]


async def test_of_wrong_codes_there_are_so_many_a_day_whatever_is_right_in_between(
    visitor: Visitor, person: Person, app: App, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "CODE_ACCOUNT", Rule("code:account", 4, throttle.DAY))

    async def attempt(code: str, page: str = PAGE, action: str = CODE) -> int:
        visitor.cookies.clear()
        await visitor.sign_in(person.email, PASSWORD)
        return (await visitor.submit(page, {"code": code}, action)).status_code

    for _ in range(2):
        assert await attempt("000000") == 422
        assert await attempt(await app.code()) == 303
    recovery = "/sign-in/recovery-code"
    assert await attempt("wrong", recovery, recovery) == 422
    assert await attempt(await app.code()) == 303
    # Whoever has a session guesses no more than who has the password.
    await make_stale(admin_db)
    for code, status in (("000000", 422), (await app.code(), 429)):
        assert (await visitor.submit("/prove", {"code": code}, "/prove/code")).status_code == status
    assert await attempt(await app.code()) == 429
    assert await attempt("wrong", recovery, recovery) == 429
    await admin_db.execute("UPDATE throttles SET free_at = free_at - interval '16 minutes'")
    assert await attempt(await app.code()) == 429
    await admin_db.execute("UPDATE throttles SET free_at = free_at - interval '6 hours'")
    assert await attempt(await app.code()) == 303


async def test_both_ends_are_in_the_audit_log(
    visitor: Visitor, person: Person, app: App, admin_db: Database
) -> None:
    await visitor.sign_in(person.email, PASSWORD)
    await visitor.submit(PAGE, {"code": "000000"}, CODE)
    await visitor.submit(PAGE, {"code": await app.code()}, CODE)
    rows = await select_audit_rows(admin_db, person.organization.org_id)
    told = [(row.event, row.details) for row in rows][-2:]
    assert told == [
        ("sign_in:failed", '{"by": "totp"}'),
        ("sign_in:succeeded", '{"by": "password_totp"}'),
    ]


@pytest.mark.parametrize("response", ["", "{}", "null", '{"response": {}}'])
async def test_what_is_no_passkey_signs_nobody_in(visitor: Visitor, person: Person, response: str) -> None:
    refused = await visitor.submit("/sign-in/passkey", {"response": response})
    assert refused.status_code == 422
    assert web_session.COOKIE not in visitor.cookies


async def test_proof_is_then_by_the_second_factor_and_not_by_the_password(
    visitor: Visitor, person: Person, app: App, admin_db: Database
) -> None:
    await visitor.sign_in(person.email, PASSWORD)
    await visitor.submit(PAGE, {"code": await app.code()}, CODE)
    await admin_db.execute("UPDATE sessions SET stepped_up_at = NULL")
    assert (await visitor.get("/account/email")).headers["location"] == "/prove"
    refused = await visitor.submit("/prove", {"password": PASSWORD}, "/prove/password")
    assert refused.status_code == 422
    assert "Use your second factor" in refused.text
    done = await visitor.submit("/prove", {"code": await app.code()}, "/prove/code")
    assert done.headers["location"] == "/prove/resume"
    assert (await visitor.get("/account/email")).status_code == 200
