"""Members and invitations by key: as on the pages, but that owners are out of reach."""

from __future__ import annotations

from uuid import uuid4

import pytest

from admin import throttle
from storage.bridge import Database
from storage.model import Role
from storage.throttles import Rule
from storage.users import add_member, create_user
from tests.admin.conftest import ACTOR, Person, password_digest
from tests.admin.mailbox import mails
from tests.admin.management_api.client import Client, check, problem_of


async def make_members(db: Database, person: Person, *roles: Role) -> list[str]:
    made = []
    for number, role in enumerate(roles):
        user = await create_user(db, ACTOR, email=f"m{number}@example.com", password_digest=password_digest())
        await add_member(db, ACTOR, person.organization.org_id, user.user_id, role)
        made.append(str(user.user_id))
    return made


async def test_members_are_listed_by_the_page(api: Client, admin_db: Database, person: Person) -> None:
    made = await make_members(admin_db, person, Role.VIEWER, Role.VIEWER, Role.ADMIN)
    items = await api.all_items(f"{api.org}/members", 2)
    assert [item["user_id"] for item in items] == [str(person.user.user_id), *made]
    check("MemberPage", await api.get(f"{api.org}/members"))


async def test_a_member_is_changed_and_taken_out(api: Client, admin_db: Database, person: Person) -> None:
    [member] = await make_members(admin_db, person, Role.VIEWER)
    path = f"{api.org}/members/{member}"
    changed = await api.call("PATCH", path, json={"role": "admin"})
    assert (changed.status_code, changed.json()) == (200, {"done": True})
    assert (await api.get(f"{api.org}/members"))["items"][1]["role"] == "admin"
    assert (await api.call("DELETE", path)).status_code == 200
    assert (await api.call("DELETE", path)).status_code == 404
    assert len((await api.get(f"{api.org}/members"))["items"]) == 1


async def test_owners_are_out_of_reach(api: Client, admin_db: Database, person: Person) -> None:
    owner, viewer = await make_members(admin_db, person, Role.OWNER, Role.VIEWER)
    assert (await api.call("PATCH", f"{api.org}/members/{viewer}", json={"role": "owner"})).status_code == 422
    for user_id in (owner, person.user.user_id):
        path = f"{api.org}/members/{user_id}"
        for response in (
            await api.call("PATCH", path, json={"role": "viewer"}),
            await api.call("DELETE", path),
        ):
            assert (response.status_code, problem_of(response)) == (403, "role")


async def test_an_invitation_comes_by_mail_and_is_taken_back(
    api: Client, admin_db: Database, person: Person
) -> None:
    path = f"{api.org}/invitations"
    made = await api.call("POST", path, json={"email": "Eve@Example.com", "role": "billing"})
    assert made.status_code == 201
    check("Invitation", made.json())
    assert (made.json()["email"], made.json()["role"]) == ("eve@example.com", "billing")
    [mail] = await mails(admin_db)
    assert mail.recipient == "eve@example.com"
    assert "/invitation/" in mail.text
    assert "/invitation/" not in made.text

    for number in range(3):
        sent = {"email": f"g{number}@example.com", "role": "viewer"}
        assert (await api.call("POST", path, json=sent)).status_code == 201
    listed = await api.all_items(path, 2)
    expected = ["eve@example.com", *(f"g{number}@example.com" for number in range(3))]
    assert [item["email"] for item in listed] == expected
    taken = f"{path}/{made.json()['invitation_id']}"
    assert (await api.call("DELETE", taken)).status_code == 200
    assert (await api.call("DELETE", taken)).status_code == 404
    assert (await api.call("DELETE", f"{path}/{uuid4()}")).status_code == 404


WHO_IS_NOT_INVITED = [
    ({"email": "nobody", "role": "viewer"}, 422),
    ({"email": "a b@example.com", "role": "viewer"}, 422),
    ({"email": "eve@example.com", "role": "owner"}, 422),
    ({"email": "ada@example.com", "role": "viewer"}, 409),
]


async def test_who_is_not_invited(api: Client) -> None:
    for body, status in WHO_IS_NOT_INVITED:
        response = await api.call("POST", f"{api.org}/invitations", json=body)
        assert response.status_code == status


async def test_inviting_is_throttled(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "API_INVITE_KEY", Rule("api_invite:key", 1, 3600))
    statuses = [
        (
            await api.call(
                "POST", f"{api.org}/invitations", json={"email": f"g{number}@example.com", "role": "viewer"}
            )
        ).status_code
        for number in range(2)
    ]
    assert statuses == [201, 429]
