"""The key that asks, and its organization."""

from __future__ import annotations

from storage.bridge import Database
from storage.organizations import select_organization
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, check, problem_of


async def test_a_key_learns_what_it_is(api: Client, person: Person, token: str) -> None:
    told = await api.get("/management-key")
    check("ManagementKeyAnswer", told)
    assert told["org_id"] == str(person.organization.org_id)
    assert told["key_id"] == token.split("_")[2]
    assert (told["role"], told["current_role"]) == ("owner", "owner")
    assert "keys:write" in told["scopes"]


async def test_it_is_shown_and_renamed(api: Client, admin_db: Database, person: Person) -> None:
    told = await api.get(api.org)
    check("Organization", told)
    assert (told["name"], told["plan"], told["status"]) == ("Acme", "pro", "active")
    renamed = await api.call("PATCH", api.org, json={"name": " Other "})
    assert renamed.json()["name"] == "Other"
    assert (await select_organization(admin_db, person.organization.org_id)).name == "Other"
    for wrong in ("", " ", "x" * 201, "a\0b"):
        response = await api.call("PATCH", api.org, json={"name": wrong})
        assert (response.status_code, problem_of(response)) == (422, "invalid")
        assert response.json()["errors"][0]["pointer"] == "$.name"
