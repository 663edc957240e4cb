"""A forgotten password: the same answer for everybody, and an end to every session."""

from __future__ import annotations

from admin import web_session
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import PASSWORD, Person
from tests.admin.mailbox import letters, newest_link

NEW = "another unlikely sentence"


async def test_a_new_password_ends_every_session_and_signs_nobody_in(
    visitor: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    async with Visitor(admin_url) as elsewhere:
        await elsewhere.sign_in(person.email, PASSWORD)
        sent = await visitor.submit("/forgot-password", {"email": person.email})
        assert (sent.status_code, sent.headers["location"]) == (303, "/forgot-password/sent")
        await visitor.get(await newest_link(admin_db))
        weak = await visitor.submit("/reset-password", {"password": "password1234"})
        assert weak.status_code == 422
        done = await visitor.submit("/reset-password", {"password": NEW})
        assert done.headers["location"] == "/sign-in?reason=new-password"
        assert "Your password was set" in (await visitor.get(done.headers["location"])).text
        assert web_session.COOKIE not in visitor.cookies
        assert (await elsewhere.get("/account")).status_code == 303
    assert (await visitor.sign_in(person.email, PASSWORD)).status_code == 422
    assert (await visitor.sign_in(person.email, NEW)).status_code == 303
    assert [letter.kind for letter in await letters(admin_db)] == ["reset_password", "password_changed"]


async def test_known_or_not_the_answer_is_the_same(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    answers = []
    for email in (person.email, "nobody@example.com"):
        response = await visitor.submit("/forgot-password", {"email": email})
        answers.append((response.status_code, response.text, response.headers["location"]))
    assert answers[0] == answers[1]
    assert len(await letters(admin_db)) == 1


async def test_a_link_for_one_thing_is_none_for_another(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    await visitor.submit("/forgot-password", {"email": person.email})
    await visitor.get((await newest_link(admin_db)).replace("reset-password", "sign-up"))
    assert (await visitor.get("/sign-up/confirm")).status_code == 410


async def test_an_old_link_does_not_work(visitor: Visitor, person: Person, admin_db: Database) -> None:
    await visitor.submit("/forgot-password", {"email": person.email})
    await visitor.get(await newest_link(admin_db))
    token = await visitor.token("/reset-password")
    await admin_db.execute("UPDATE email_links SET expires_at = now() - interval '1 second'")
    response = await visitor.post("/reset-password", {"csrf_token": token, "password": NEW})
    assert response.status_code == 410
    assert (await visitor.get("/reset-password")).status_code == 410


async def test_links_name_the_configured_origin(visitor: Visitor, person: Person, admin_db: Database) -> None:
    await visitor.submit("/forgot-password", {"email": person.email})
    assert "localhost" not in str((await letters(admin_db))[-1].facts)
    assert f"{visitor.url}/link/" in (await visitor.get("/outbox")).text
    assert (await visitor.submit("/forgot-password", {"email": "nonsense"})).status_code == 422
