"""Between password and second factor; the journeys are in mfa/test_second_factor."""

from __future__ import annotations

from admin import pending_sign_in
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import PASSWORD, Person
from tests.admin.mfa.codes import set_up_app


async def test_it_is_a_cookie_of_its_own_and_ends_after_some_minutes(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    await set_up_app(signed_in, admin_db)
    signed_in.cookies.clear()
    response = await signed_in.sign_in(person.email, PASSWORD)
    (line,) = [
        line
        for line in response.headers.get_list("set-cookie")
        if line.startswith(f"{pending_sign_in.COOKIE}=")
    ]
    assert {part.strip() for part in line.split(";")[1:]} == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
    assert (await signed_in.get("/sign-in/second-factor")).status_code == 200
    await admin_db.execute("UPDATE pending_sign_ins SET expires_at = now() - interval '1 second'")
    assert (await signed_in.get("/sign-in/second-factor")).status_code == 303


async def test_a_new_password_ends_it(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    await set_up_app(signed_in, admin_db)
    kept = dict(signed_in.cookies)
    signed_in.cookies.clear()
    await signed_in.sign_in(person.email, PASSWORD)
    half = dict(signed_in.cookies)
    signed_in.cookies = kept
    await signed_in.submit("/account/password", {"password": "another unlikely sentence"})
    signed_in.cookies = half
    assert (await signed_in.get("/sign-in/second-factor")).status_code == 303
