"""Passkeys over HTTP, of an authenticator that misbehaves; a real browser's are in mfa/test_browser."""

from __future__ import annotations

from typing import Any

import pytest

from admin import csrf, passkey_ceremony, web_session
from storage.bridge import Database
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import PASSWORD, Person, make_person, make_stale
from tests.admin.mailbox import letters
from tests.admin.mfa.authenticator import PRESENT, Authenticator, options_of

ADD, SIGN_IN, SECOND = "/account/factors/passkey", "/sign-in/passkey", "/sign-in/second-factor"


async def answer(visitor: Visitor, page: str, action: str, response: str, token: str = "") -> Any:
    form = {csrf.FIELD: token or token_of(page), "response": response, "name": "Laptop"}
    return await visitor.post(action, form)


async def add(visitor: Visitor, authenticator: Authenticator, **client: Any) -> int:
    page = (await visitor.get(ADD)).text
    response = await answer(visitor, page, ADD, authenticator.create(options_of(page), **client))
    status: int = response.status_code
    return status


@pytest.fixture
async def passkey(signed_in: Visitor) -> Authenticator:
    """`person`'s passkey; nobody is signed in."""
    authenticator = Authenticator(signed_in.url)
    assert await add(signed_in, authenticator) == 303
    signed_in.cookies.clear()
    return authenticator


async def test_registering(signed_in: Visitor, admin_db: Database, person: Person) -> None:
    page = (await signed_in.get(ADD)).text
    options = options_of(page)
    assert options["rp"] == {"name": "Karta", "id": "localhost"}
    assert options["authenticatorSelection"]["userVerification"] == "preferred"
    assert person.email.encode() not in Authenticator(signed_in.url).handle
    authenticator = Authenticator(signed_in.url)
    response = authenticator.create(options)
    assert (await answer(signed_in, page, ADD, response)).status_code == 303
    page = (await signed_in.get(ADD)).text
    assert len(options_of(page)["excludeCredentials"]) == 1
    # The same answer once more: its challenge is used up.
    assert (await answer(signed_in, page, ADD, response)).status_code == 422
    assert "Laptop" in (await signed_in.get("/account/factors")).text
    assert [letter.kind for letter in await letters(admin_db)] == ["factor_added"]


@pytest.mark.parametrize(
    "client",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:1"},
        {"crossOrigin": True},
        {"topOrigin": "https://evil.example"},
        {"type": "webauthn.get"},
        {"challenge": "AAAA"},
    ],
)
async def test_what_no_browser_of_ours_would_say(signed_in: Visitor, client: dict[str, Any]) -> None:
    authenticator = Authenticator(signed_in.url)
    assert await add(signed_in, authenticator, **client) == 422
    assert await add(signed_in, authenticator) == 303
    signed_in.cookies.clear()
    page = (await signed_in.get(SIGN_IN)).text
    told = {"type": "webauthn.create"} if "type" in client else client
    response = authenticator.sign(options_of(page), **told)
    assert (await answer(signed_in, page, SIGN_IN, response)).status_code == 422
    assert web_session.COOKIE not in signed_in.cookies


async def test_a_passkey_signs_in_by_itself_when_it_verified_its_user(
    visitor: Visitor, passkey: Authenticator
) -> None:
    page = (await visitor.get(SIGN_IN)).text
    options = options_of(page)
    assert options["userVerification"] == "required"
    assert options.get("allowCredentials", []) == []
    present_only = passkey.sign(options, flags=PRESENT)
    assert (await answer(visitor, page, SIGN_IN, present_only)).status_code == 422
    page = (await visitor.get(SIGN_IN)).text
    signed = await answer(visitor, page, SIGN_IN, passkey.sign(options_of(page)))
    assert signed.headers["location"] == "/"
    assert (await visitor.get("/account")).status_code == 200


async def test_a_handle_of_somebody_else_is_refused(visitor: Visitor, passkey: Authenticator) -> None:
    for handle in (bytes(64), b""):
        page = (await visitor.get(SIGN_IN)).text
        response = passkey.sign(options_of(page), handle=handle)
        assert (await answer(visitor, page, SIGN_IN, response)).status_code == 422


async def test_as_a_second_factor_a_touch_is_enough(
    visitor: Visitor, person: Person, passkey: Authenticator
) -> None:
    sent = await visitor.sign_in(person.email, PASSWORD)
    assert sent.headers["location"] == SECOND
    page = (await visitor.get(SECOND)).text
    options = options_of(page)
    assert options["userVerification"] == "preferred"
    assert len(options["allowCredentials"]) == 1
    signed = await answer(visitor, page, f"{SECOND}/passkey", passkey.sign(options, flags=PRESENT))
    assert signed.headers["location"] == "/"


async def test_somebody_elses_passkey_is_no_second_factor(
    visitor: Visitor, passkey: Authenticator, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    await visitor.sign_in(eve.email, PASSWORD)
    own = Authenticator(visitor.url)
    assert await add(visitor, own) == 303
    visitor.cookies.clear()
    await visitor.sign_in(eve.email, PASSWORD)
    page = (await visitor.get(SECOND)).text
    refused = await answer(visitor, page, f"{SECOND}/passkey", passkey.sign(options_of(page)))
    assert refused.status_code == 422


async def test_a_challenge_is_for_one_browser_and_one_purpose(
    visitor: Visitor, admin_url: str, person: Person, passkey: Authenticator
) -> None:
    page = (await visitor.get(SIGN_IN)).text
    response = passkey.sign(options_of(page))
    async with Visitor(admin_url) as thief:
        own = (await thief.get(SIGN_IN)).text
        assert (await answer(thief, own, SIGN_IN, response)).status_code == 422
    await visitor.sign_in(person.email, PASSWORD)
    page = (await visitor.get(SECOND)).text
    assert (await answer(visitor, page, f"{SECOND}/passkey", response)).status_code == 422


@pytest.mark.parametrize("grow", [0, -1])
async def test_a_counter_that_does_not_grow_is_refused(
    visitor: Visitor, passkey: Authenticator, grow: int
) -> None:
    for step, status in ((5, 303), (grow, 422), (3, 303)):
        visitor.cookies.clear()
        page = (await visitor.get(SIGN_IN)).text
        response = passkey.sign(options_of(page), grow=step)
        assert (await answer(visitor, page, SIGN_IN, response)).status_code == status


async def test_proof_by_passkey_needs_its_user_verified(
    visitor: Visitor, passkey: Authenticator, admin_db: Database
) -> None:
    page = (await visitor.get(SIGN_IN)).text
    await answer(visitor, page, SIGN_IN, passkey.sign(options_of(page)))
    await make_stale(admin_db)
    await visitor.get("/account/email")
    for flags, status in ((PRESENT, 422), (PRESENT | 0x04, 303)):
        page = (await visitor.get("/prove")).text
        response = passkey.sign(options_of(page), flags=flags)
        assert (await answer(visitor, page, "/prove/passkey", response)).status_code == status
    assert (await visitor.get("/account/email")).status_code == 200


async def test_a_passkey_is_removed(signed_in: Visitor, admin_db: Database) -> None:
    authenticator = Authenticator(signed_in.url)
    await add(signed_in, authenticator)
    passkey_id = await admin_db.fetch_value("SELECT passkey_id FROM passkeys")
    page = (await signed_in.get("/account/factors")).text
    removed = await signed_in.post(f"{ADD}/{passkey_id}/remove", {csrf.FIELD: token_of(page)})
    assert removed.headers["location"] == "/account/factors?done=removed"
    signed_in.cookies.clear()
    page = (await signed_in.get(SIGN_IN)).text
    response = authenticator.sign(options_of(page))
    assert (await answer(signed_in, page, SIGN_IN, response)).status_code == 422


@pytest.mark.parametrize(
    ("shown", "action", "status"), [(SIGN_IN, SIGN_IN, 422), (SECOND, f"{SECOND}/passkey", 303)]
)
async def test_a_passkey_removed_while_its_signature_is_verified_signs_nobody_in(
    visitor: Visitor,
    person: Person,
    passkey: Authenticator,
    admin_db: Database,
    monkeypatch: pytest.MonkeyPatch,
    shown: str,
    action: str,
    status: int,
) -> None:
    verify = passkey_ceremony.verify_signature

    async def remove_meanwhile(*arguments: Any) -> Any:
        verified = await verify(*arguments)
        await admin_db.execute("DELETE FROM passkeys")
        await admin_db.execute("DELETE FROM sessions")
        return verified

    monkeypatch.setattr(passkey_ceremony, "verify_signature", remove_meanwhile)
    await visitor.sign_in(person.email, PASSWORD)
    page = (await visitor.get(shown)).text
    refused = await answer(visitor, page, action, passkey.sign(options_of(page)))
    assert refused.status_code == status
    assert refused.headers.get("location") in (None, "/sign-in?reason=too-late")
    assert web_session.COOKIE not in visitor.cookies
    assert await admin_db.fetch_value("SELECT count(*) FROM sessions") == 0
