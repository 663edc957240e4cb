"""Error pages and limits of the whole app."""

from __future__ import annotations

import inspect

import httpx
import pytest
import trio

from admin import csrf, web_session
from admin.accounts.password_check import PasswordCheck, TooManyChecks
from admin.app import ERRORS, FORM_BYTES_MAX, _describe_wait, create_app
from admin.services import Services
from admin.settings import AdminSettings
from storage.bridge import Database, open_database
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin
from tests.storage.lock_waits import until_waiting


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/sign-out", 405), ("POST", "/sign-in", 403)],
)
async def test_an_error_is_a_page_that_names_the_mend(
    visitor: Visitor, method: str, path: str, status: int
) -> None:
    response = await visitor.request(method, path)
    title, mend = ERRORS[status]
    assert response.status_code == status
    assert title in response.text
    assert mend in response.text


async def test_a_method_that_is_not_allowed_names_those_that_are(visitor: Visitor) -> None:
    assert "POST" in (await visitor.get("/sign-out")).headers["allow"]


async def test_a_form_that_is_too_large_is_refused(visitor: Visitor) -> None:
    form = {"email": "a", "password": "x" * (FORM_BYTES_MAX + 1)}
    assert (await visitor.post("/sign-in", form)).status_code == 413


async def test_too_many_sign_ins_are_told_when_to_come_back(
    visitor: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> bool:
        raise TooManyChecks

    monkeypatch.setattr(PasswordCheck, "verify", refuse)
    response = await visitor.sign_in(person.email, person.password)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0


async def test_without_a_database_it_says_so() -> None:
    url = "postgresql://karta@127.0.0.1:1/karta"
    async with running_admin(url) as admin_url, Visitor(admin_url) as visitor:
        cookie = {"Cookie": f"{web_session.COOKIE}=unknown"}
        for path in ("/healthz", "/static/karta.css"):
            assert (await visitor.get(path, headers=cookie)).status_code == 200
        assert (await visitor.get("/", headers=cookie)).status_code == 503
        response = await visitor.sign_in("ada@example.com", "x")
        assert response.status_code == 503
        assert ERRORS[503][0] in response.text
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["keys/%00", "keys/%00/limits", "payments?after=%00"])
async def test_what_no_column_holds_is_no_fault_of_ours(
    signed_in: Visitor, person: Person, path: str
) -> None:
    response = await signed_in.get(f"/organizations/{person.organization.org_id}/{path}")
    assert response.status_code == 400
    assert "did not arrive whole" in response.text


async def test_a_bug_shows_nothing_of_itself(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> bool:
        raise ValueError("hunter2")

    monkeypatch.setattr(PasswordCheck, "verify", broken)
    response = await visitor.sign_in("ada@example.com", "x")
    assert response.status_code == 500
    assert "Something went wrong" in response.text
    assert "hunter2" not in response.text
    assert "content-security-policy" in response.headers


async def test_without_a_master_key_it_says_what_to_set(database_url: str, person: Person) -> None:
    async with running_admin(database_url, master_keys=None) as url, Visitor(url) as visitor:
        response = await visitor.submit("/sign-up", {"email": "new@example.com"})
        assert response.status_code == 503
        assert "KARTA_MASTER_KEYS" in response.text
        assert (await visitor.sign_in(person.email, person.password)).status_code == 303


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "a few seconds"), (30, "30 seconds"), (60, "a minute"), (61, "2 minutes")]
)
def test_how_long_to_wait_is_said_in_words(seconds: int, said: str) -> None:
    assert _describe_wait(seconds) == said


async def test_nothing_around_a_view_runs_in_a_thread(database_url: str) -> None:
    """Quart runs what is no coroutine in a thread, for each page."""
    settings = AdminSettings.load(database_url=database_url)
    async with open_database(database_url, role="karta_admin") as db:
        app = create_app(Services(db, settings, PasswordCheck(), "http://localhost", None))
    around = [*app.before_request_funcs[None], *app.after_request_funcs[None]]
    assert len(around) >= 6
    assert [one for one in around if not inspect.iscoroutinefunction(one)] == []


async def test_a_session_that_ends_in_the_middle_is_no_fault_of_ours(
    signed_in: Visitor, person: Person, owner_db: Database
) -> None:
    form = {csrf.FIELD: await signed_in.token("/account/email"), "email": "new@example.com"}
    answers: list[httpx.Response] = []

    async def post() -> None:
        answers.append(await signed_in.post("/account/email", form))

    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        await tx.execute("UPDATE users SET password_digest = password_digest")
        nursery.start_soon(post)
        await until_waiting(owner_db)
        await tx.execute("DELETE FROM sessions WHERE user_id = $1", person.user.user_id)
    assert answers[0].status_code == 303
    assert answers[0].headers["location"] == "/sign-in"
    assert await owner_db.fetch_value("SELECT count(*) FROM email_links") == 0


async def test_a_member_who_is_taken_out_in_the_middle_mints_nothing(
    signed_in: Visitor, person: Person, owner_db: Database
) -> None:
    page = f"/organizations/{person.organization.org_id}/keys/new"
    form = {csrf.FIELD: await signed_in.token(page), "name": "mine", "mode": "test", "once": "x" * 22}
    answers: list[httpx.Response] = []

    async def post() -> None:
        answers.append(await signed_in.post(page, form))

    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        await tx.execute("SELECT FROM organizations FOR NO KEY UPDATE")
        nursery.start_soon(post)
        await until_waiting(owner_db)
        await tx.execute("DELETE FROM memberships WHERE user_id = $1", person.user.user_id)
    assert answers[0].status_code == 403
    assert "role does not allow" in answers[0].text
    assert await owner_db.fetch_value("SELECT count(*) FROM api_keys") == 0
