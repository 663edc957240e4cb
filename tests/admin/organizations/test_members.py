"""Members come by invitation, change their roles, and go."""

from __future__ import annotations

import re

import pytest

from admin import csrf, throttle, web_session
from admin.organizations import members
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.memberships import select_members
from storage.model import Role
from storage.throttles import Rule
from storage.users import add_member
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, PASSWORD, Person, make_person, make_stale
from tests.admin.mailbox import mails


def at(person: Person, page: str) -> str:
    return f"/organizations/{person.organization.org_id}/{page}"


async def invite(visitor: Visitor, person: Person, email: str, role: str = "developer") -> int:
    form = {"email": email, "role": role}
    response = await visitor.submit(at(person, "members"), form, at(person, "invitations"))
    return response.status_code


async def follow(visitor: Visitor, db: Database) -> str:
    """Follows the newest invitation; returns the page it leads to."""
    found = re.search(r"http://localhost:\d+(/invitation/\S+)", (await mails(db))[-1].text)
    assert found is not None
    sent = await visitor.get(found[1])
    assert sent.headers["location"] == "/invitation"
    return (await visitor.get("/invitation")).text


async def roles(db: Database, person: Person) -> dict[str, str]:
    found = await select_members(db, person.organization.org_id)
    return {member.email: member.role.value for member in found}


async def test_who_has_no_account_makes_one_and_is_in(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    assert await invite(signed_in, person, "New@example.com") == 303
    assert "new@example.com" in (await signed_in.get(at(person, "members"))).text
    async with Visitor(admin_url) as invited:
        assert "Acme" in await follow(invited, admin_db)
        weak = await invited.submit("/invitation", {"password": "password1234"}, "/invitation/sign-up")
        assert weak.status_code == 422
        joined = await invited.submit("/invitation", {"password": PASSWORD}, "/invitation/sign-up")
        assert joined.headers["location"] == f"/organizations/{person.organization.org_id}"
        assert members.COOKIE not in invited.cookies
        newest = (await select_audit_rows(admin_db, person.organization.org_id))[-2:]
        assert [row.event for row in newest] == ["member:added", "sign_in:succeeded"]
        assert {row.subject for row in newest} == {newest[0].subject}
        assert (await invited.get(joined.headers["location"])).status_code == 200
        assert (await invited.get("/invitation")).status_code == 410
    assert await roles(admin_db, person) == {person.email: "owner", "new@example.com": "developer"}


async def test_who_has_one_signs_in_and_joins(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    assert await invite(signed_in, person, eve.email, "viewer") == 303
    async with Visitor(admin_url) as invited:
        await follow(invited, admin_db)
        sent = await invited.submit("/invitation", {"password": PASSWORD}, "/invitation/sign-up")
        assert sent.headers["location"] == "/sign-in?next=/invitation"
        await invited.sign_in(eve.email, PASSWORD)
        joined = await invited.submit("/invitation", {}, "/invitation/accept")
        assert joined.headers["location"] == f"/organizations/{person.organization.org_id}"
    assert (await roles(admin_db, person))[eve.email] == "viewer"


async def test_an_invitation_is_for_its_address_alone(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    await invite(signed_in, person, "ada2@example.com")
    async with Visitor(admin_url) as other:
        await other.sign_in(eve.email, PASSWORD)
        assert "You are signed in as eve@example.com" in await follow(other, admin_db)
        form = {csrf.FIELD: await other.token("/account")}
        assert (await other.post("/invitation/accept", form)).status_code == 410
    assert eve.email not in await roles(admin_db, person)


async def test_an_invitation_is_taken_back(
    signed_in: Visitor, admin_url: str, person: Person, admin_db: Database
) -> None:
    await invite(signed_in, person, "new@example.com")
    page = (await signed_in.get(at(person, "members"))).text
    found = re.search(r'action="([^"]+/withdraw)"', page)
    assert found is not None
    form = {csrf.FIELD: token_of(page)}
    assert (await signed_in.post(found[1], form)).status_code == 303
    assert (await signed_in.post(found[1], form)).status_code == 404
    async with Visitor(admin_url) as invited:
        assert "does not work" in await follow(invited, admin_db)


@pytest.mark.parametrize(
    ("email", "role", "status"),
    [
        ("nonsense", "viewer", 422),
        ("new@example.com", "owner", 400),
        ("new@example.com", "king", 400),
        ("ada@example.com", "viewer", 409),
    ],
)
async def test_what_is_no_invitation(
    signed_in: Visitor, person: Person, email: str, role: str, status: int
) -> None:
    assert await invite(signed_in, person, email, role) == status


async def test_nobody_is_flooded_with_invitations(
    signed_in: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "INVITE_ACCOUNT", Rule("invite:account", 1, 3600))
    assert await invite(signed_in, person, "one@example.com") == 303
    assert await invite(signed_in, person, "two@example.com") == 429


async def test_roles_change_and_an_owner_is_made_with_proof(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    await add_member(admin_db, ACTOR, person.organization.org_id, eve.user.user_id, Role.VIEWER)
    action = at(person, f"members/{eve.user.user_id}/role")
    page = at(person, "members")
    await make_stale(admin_db)
    assert (await signed_in.submit(page, {"role": "billing"}, action)).status_code == 303
    assert (await roles(admin_db, person))[eve.email] == "billing"
    asked = await signed_in.submit(page, {"role": "owner"}, action)
    assert asked.headers["location"] == "/prove"
    await signed_in.submit("/prove", {"password": PASSWORD}, "/prove/password")
    again = await signed_in.get("/prove/resume")
    form = {csrf.FIELD: token_of(again.text), "role": "owner"}
    assert (await signed_in.post(action, form)).status_code == 303
    assert (await roles(admin_db, person))[eve.email] == "owner"
    # And to take that away again, in either way.
    await make_stale(admin_db)
    for act, form in (("role", {"role": "viewer"}), ("remove", {})):
        asked = await signed_in.submit(page, form, at(person, f"members/{eve.user.user_id}/{act}"))
        assert asked.headers["location"] == "/prove"
    assert (await roles(admin_db, person))[eve.email] == "owner"


async def test_the_last_owner_stays(signed_in: Visitor, person: Person) -> None:
    page = at(person, "members")
    for action, form in (("role", {"role": "viewer"}), ("remove", {})):
        refused = await signed_in.submit(page, form, at(person, f"members/{person.user.user_id}/{action}"))
        assert refused.status_code == 409
        assert members.LAST_OWNER in refused.text


async def test_an_admin_changes_no_owner_and_a_viewer_nobody(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    await add_member(admin_db, ACTOR, person.organization.org_id, eve.user.user_id, Role.ADMIN)
    await visitor.sign_in(eve.email, PASSWORD)
    page = at(person, "members")
    for action, form in (("role", {"role": "viewer"}), ("remove", {})):
        refused = await visitor.submit(page, form, at(person, f"members/{person.user.user_id}/{action}"))
        assert refused.status_code == 403
    await admin_db.execute("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", eve.user.user_id)
    form = {csrf.FIELD: await visitor.token("/account")}
    assert (await visitor.post(at(person, f"members/{person.user.user_id}/remove"), form)).status_code == 403
    left = await visitor.post(at(person, f"members/{eve.user.user_id}/remove"), form)
    assert left.headers["location"] == "/"
    assert (await visitor.get(page)).status_code == 404
    assert web_session.COOKIE in visitor.cookies
