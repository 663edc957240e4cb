"""Setting second factors up and removing them, passkeys apart: those need a browser (test_browser)."""

from __future__ import annotations

from uuid import uuid4

import pytest

from admin import csrf, web_session
from storage.bridge import Database
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import PASSWORD, Person
from tests.admin.mailbox import letters
from tests.admin.mfa.codes import set_up_app


async def test_an_app_is_set_up_with_a_code_and_leads_on_to_recovery_codes(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    before = signed_in.cookies[web_session.COOKIE]
    async with Visitor(admin_url) as elsewhere:
        await elsewhere.sign_in(person.email, PASSWORD)
        _, confirmed = await set_up_app(signed_in, admin_db)
        assert confirmed.headers["location"] == "/account/factors/recovery-codes?done=app"
        assert (await elsewhere.get("/account")).status_code == 303
    assert signed_in.cookies[web_session.COOKIE] != before
    assert [letter.kind for letter in await letters(admin_db)] == ["factor_added"]
    made = await signed_in.submit("/account/factors/recovery-codes", {})
    assert made.status_code == 200
    assert made.text.count("-") > 30
    assert "no-store" in made.headers["cache-control"]
    assert "10 left" in (await signed_in.get("/account/factors")).text
    assert (await signed_in.get("/account/factors/app")).status_code == 303


@pytest.mark.parametrize("code", ["000000", "", "12345", "x" * 5000])
async def test_a_wrong_code_sets_nothing_up(signed_in: Visitor, admin_db: Database, code: str) -> None:
    await signed_in.submit("/account/factors", {}, "/account/factors/app")
    form = {csrf.FIELD: await signed_in.token("/account/factors/app"), "code": code}
    refused = await signed_in.post("/account/factors/app/confirm", form)
    assert refused.status_code == 422
    assert await admin_db.fetch_value("SELECT confirmed_at FROM totp_factors") is None


async def test_the_qr_code_is_drawn_inline_and_within_the_policy(signed_in: Visitor) -> None:
    await signed_in.submit("/account/factors", {}, "/account/factors/app")
    page = (await signed_in.get("/account/factors/app")).text
    assert "<svg" in page
    assert "style=" not in page


async def test_an_app_is_removed_and_its_recovery_codes_with_it(
    signed_in: Visitor, admin_db: Database, person: Person
) -> None:
    await set_up_app(signed_in, admin_db)
    await signed_in.submit("/account/factors/recovery-codes", {})
    removed = await signed_in.submit("/account/factors", {}, "/account/factors/app/remove")
    assert removed.headers["location"] == "/account/factors?done=removed"
    again = await signed_in.submit("/account/factors", {}, "/account/factors/app/remove")
    assert again.status_code == 404
    assert await admin_db.fetch_value("SELECT count(*) FROM recovery_codes") == 0
    signed_in.cookies.clear()
    assert (await signed_in.sign_in(person.email, PASSWORD)).headers["location"] == "/"
    assert [letter.kind for letter in await letters(admin_db)] == ["factor_added", "factor_removed"]


async def test_there_are_no_recovery_codes_for_nothing(signed_in: Visitor) -> None:
    assert (await signed_in.get("/account/factors/recovery-codes")).status_code == 303
    form = {csrf.FIELD: await signed_in.token("/account")}
    assert (await signed_in.post("/account/factors/recovery-codes", form)).status_code == 404


@pytest.mark.parametrize(
    "response", ["", "{}", "[]", "null", '{"response": {"clientDataJSON": "e30"}}', "x" * 20_000]
)
async def test_what_is_no_passkey_is_not_added(signed_in: Visitor, admin_db: Database, response: str) -> None:
    page = (await signed_in.get("/account/factors/passkey")).text
    form = {csrf.FIELD: token_of(page), "name": "Laptop", "response": response}
    assert (await signed_in.post("/account/factors/passkey", form)).status_code == 422
    long_name = {**form, "name": "x" * 101}
    assert (await signed_in.post("/account/factors/passkey", long_name)).status_code == 422
    assert await admin_db.fetch_value("SELECT count(*) FROM passkeys") == 0
    unknown = f"/account/factors/passkey/{uuid4()}/remove"
    assert (await signed_in.post(unknown, {csrf.FIELD: token_of(page)})).status_code == 404


async def test_an_organization_may_require_a_second_factor(
    signed_in: Visitor, admin_db: Database, person: Person
) -> None:
    await admin_db.execute("UPDATE organizations SET mfa_required = true")
    page = f"/organizations/{person.organization.org_id}"
    sent = await signed_in.get(page)
    assert (sent.status_code, sent.headers["location"]) == (303, "/account/factors?done=required")
    await set_up_app(signed_in, admin_db)
    assert (await signed_in.get(page)).status_code == 200
