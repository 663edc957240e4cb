"""Limits and budgets by key, of the organization and of one API key."""

from __future__ import annotations

from storage.api_keys import mint_key
from storage.bridge import Database
from storage.model import Mode
from tests.admin.conftest import ACTOR, Person
from tests.admin.management_api.client import Client, check


async def test_a_budget_is_set_changed_and_removed(api: Client) -> None:
    path = f"{api.org}/limits"
    body = {"kind": "money", "period": "month", "amount": "12.5", "thresholds": [100, 50, 50]}
    made = await api.call("PUT", path, json=body)
    assert made.status_code == 200
    check("LimitAnswer", made.json())
    told = made.json()
    assert (told["amount"], told["used"], told["thresholds"]) == ("12.50", "0.00", [50, 100])
    assert (told["hard"], told["key_id"], told["model"]) == (True, None, None)
    changed = await api.call("PUT", path, json={**body, "amount": "20", "hard": False})
    assert changed.json() == {**told, "amount": "20.00", "hard": False}
    removed = await api.call("DELETE", f"{path}/{told['limit_id']}")
    assert removed.json() == changed.json()
    assert (await api.call("DELETE", f"{path}/{told['limit_id']}")).status_code == 404
    assert (await api.get(path))["items"] == []


async def test_a_key_has_its_own(api: Client, admin_db: Database, person: Person) -> None:
    key, _ = await mint_key(admin_db, ACTOR, org_id=person.organization.org_id, name="x", mode=Mode.LIVE)
    own, all_of = f"{api.org}/api-keys/{key.key_id}/limits", f"{api.org}/limits"
    for kind, period in (("requests", "minute"), ("tokens", "day"), ("concurrent", "none")):
        body = {"kind": kind, "period": period, "amount": "5"}
        assert (await api.call("PUT", own, json=body)).status_code == 200
        assert (await api.call("PUT", all_of, json={**body, "model": "gpt-6-sol"})).status_code == 200
    assert [item["key_id"] for item in await api.all_items(own, 2)] == [key.key_id] * 3
    listed = await api.all_items(all_of, 4)
    assert [item["limit_id"] for item in listed] == sorted(item["limit_id"] for item in listed)
    assert {item["model"] for item in listed} == {None, "gpt-6-sol"}
    check("LimitPage", await api.get(all_of))
    # Each is removed where it belongs.
    mine = next(item for item in listed if item["key_id"] is not None)["limit_id"]
    ours = next(item for item in listed if item["key_id"] is None)["limit_id"]
    assert (await api.call("DELETE", f"{all_of}/{mine}")).status_code == 404
    assert (await api.call("DELETE", f"{own}/{ours}")).status_code == 404
    assert (await api.call("DELETE", f"{own}/{mine}")).status_code == 200
    assert (await api.call("DELETE", f"{all_of}/{ours}")).status_code == 200


WHAT_IS_NO_LIMIT = [
    ({"period": "none"}, "$.period"),
    ({"kind": "money", "period": "minute"}, "$.period"),
    ({"kind": "concurrent"}, "$.period"),
    ({"amount": "0"}, "$.amount"),
    ({"amount": "1.5"}, "$.amount"),
    ({"amount": "9999999999999999999"}, "$.amount"),
    ({"amount": "1e9"}, "$.amount"),
    ({"model": "a\0"}, "$.model"),
    ({"thresholds": [1001]}, "$.thresholds[0]"),
]


async def test_what_is_no_limit(api: Client) -> None:
    for change, pointer in WHAT_IS_NO_LIMIT:
        body = {"kind": "requests", "period": "minute", "amount": "5", **change}
        response = await api.call("PUT", f"{api.org}/limits", json=body)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
