"""The key that asks, and its organization."""

from __future__ import annotations

from storage.bridge import Database
from storage.ledger import adjust
from storage.model import Plan
from storage.organizations import select_organization, set_plan
from tests.admin.conftest import ACTOR, Person
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


async def test_its_plan_and_balance_are_shown(api: Client, admin_db: Database, person: Person) -> None:
    org_id = person.organization.org_id
    told = await api.get(f"{api.org}/plan")
    check("PlanAnswer", told)
    assert (told["plan"], told["features"], told["seats"], told["seats_used"]) == ("pro", ["byok"], 25, 1)
    assert (told["included_usd"], told["requests_per_minute"], told["keys_used"]) == ("20.00", None, 0)
    await set_plan(admin_db, ACTOR, org_id, Plan.FREE)
    told = await api.get(f"{api.org}/plan")
    assert (told["plan"], told["features"], told["requests_per_minute"]) == ("free", [], 3000)
    check("BalanceAnswer", await api.get(f"{api.org}/balance"))
    async with admin_db.transaction() as tx:
        await adjust(tx, ACTOR, org_id, -1_500_000_000_000, "s", note="n")
    told = await api.get(f"{api.org}/balance")
    assert told == {"credit_usd": "-1.50", "included_usd": "0.00", "balance_usd": "-1.50", "prepaid": False}
