"""API keys by key: minted and shown once, rotated with an overlap, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from admin import throttle
from storage.api_keys import mint_key
from storage.bridge import Database
from storage.key_format import parse
from storage.model import Mode
from storage.throttles import Rule
from tests.admin.conftest import ACTOR, Person, make_person
from tests.admin.management_api.client import Client, check, problem_of


async def test_a_key_is_minted_shown_once_and_read(api: Client, owner_db: Database) -> None:
    expires_at = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    body = {"name": " Web ", "mode": "live", "expires_at": expires_at, "allowed_models": ["gpt-6-sol"]}
    made = await api.call("POST", f"{api.org}/api-keys", json=body)
    assert made.status_code == 201
    check("MintedAPIKey", made.json())
    token, key = made.json()["key"], made.json()["api_key"]
    parsed = parse(token.encode())
    assert parsed is not None
    assert parsed.key_id == key["key_id"]
    assert (key["name"], key["allowed_models"]) == ("Web", ["gpt-6-sol"])
    assert datetime.fromisoformat(key["expires_at"]) == datetime.fromisoformat(expires_at)
    read = await api.call("GET", f"{api.org}/api-keys/{key['key_id']}")
    assert read.json() == key
    for table in ("audit_log", "idempotent_requests", "throttles"):
        kept = await owner_db.fetch(f"SELECT t::text AS row FROM {table} t")
        assert parsed.secret.decode() not in "".join(row["row"] for row in kept)


WHAT_MAKES_NO_KEY = [
    ({"name": ""}, "$.name"),
    ({"name": "a\0"}, "$.name"),
    ({"mode": "free"}, "$.mode"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "$.expires_at"),
    ({"expires_at": "9999-01-01T00:00:00Z"}, "$.expires_at"),
    ({"expires_at": "2030-01-01T00:00:00"}, "$.expires_at"),
    ({"allowed_models": []}, "$.allowed_models"),
    ({"allowed_models": ["a", "b\0"]}, "$.allowed_models[1]"),
    ({"allowed_models": ["x"] * 201}, "$.allowed_models"),
    ({"allowed_endpoints": []}, "$.allowed_endpoints"),
    ({"allowed_endpoints": ["messages\n"]}, "$.allowed_endpoints"),
    ({"allowed_networks": ["192.0.2.1/24"]}, "$.allowed_networks"),
]


async def test_what_makes_no_key(api: Client) -> None:
    for change, pointer in WHAT_MAKES_NO_KEY:
        response = await api.call("POST", f"{api.org}/api-keys", json={"name": "x", "mode": "live", **change})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
        assert (await api.get(f"{api.org}/api-keys"))["items"] == []


async def test_keys_are_listed_by_the_page(api: Client, owner_db: Database, person: Person) -> None:
    # Not minted: each would cost a bcrypt.
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        SELECT lpad(n::text, 12, '0'), $1, 'key ' || n, 'live', 'abcd',
               convert_to('$2b$12$' || repeat('.', 53), 'UTF8')
          FROM generate_series(1, 7) n
        """,
        person.organization.org_id,
    )
    items = await api.all_items(f"{api.org}/api-keys", 3)
    assert sorted(item["name"] for item in items) == [f"key {number}" for number in range(1, 8)]


async def test_a_key_is_rotated_with_an_overlap_and_revoked(
    api: Client, admin_db: Database, person: Person
) -> None:
    old, _ = await mint_key(admin_db, ACTOR, org_id=person.organization.org_id, name="Web", mode=Mode.LIVE)
    path = f"{api.org}/api-keys/{old.key_id}"
    made = await api.call("POST", f"{path}/rotate", json={"overlap_seconds": 3600})
    assert made.status_code == 201
    check("MintedAPIKey", made.json())
    assert made.json()["key"].startswith("kt_live_")
    before = await api.get(path)
    assert before["revoked_at"] is None
    assert before["expires_at"] is not None
    revoked = await api.call("POST", f"{path}/revoke")
    assert revoked.status_code == 200
    check("APIKey", revoked.json())
    assert revoked.json()["revoked_at"] is not None
    assert (await api.call("POST", f"{path}/revoke")).json() == revoked.json()
    again = await api.call("POST", f"{path}/rotate", json={})
    assert (again.status_code, problem_of(again)) == (409, "conflict")
    assert old.key_id in again.json()["detail"]


async def test_what_a_key_may_is_chosen_and_changed(api: Client, admin_db: Database) -> None:
    scope = {"allowed_models": ["m"], "allowed_endpoints": ["chat"], "allowed_networks": ["192.0.2.0/24"]}
    made = await api.call("POST", f"{api.org}/api-keys", json={"name": "x", "mode": "live", **scope})
    key = made.json()["api_key"]
    assert {name: key[name] for name in scope} == scope
    path = f"{api.org}/api-keys/{key['key_id']}"
    other = {"allowed_endpoints": ["messages", "models"], "allowed_networks": ["2001:db8::/32"]}
    changed = await api.call("PUT", f"{path}/scope", json=other)
    assert changed.json() == {**key, "allowed_models": None, **other} == await api.get(path)
    wrong = await api.call("PUT", f"{path}/scope", json={"allowed_networks": ["here"]})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "$.allowed_networks")
    assert await api.get(path) == changed.json()


async def test_another_organizations_key_is_not_there(api: Client, admin_db: Database) -> None:
    elsewhere = await make_person(admin_db, "eve@example.com")
    key, _ = await mint_key(
        admin_db, ACTOR, org_id=elsewhere.organization.org_id, name="Hers", mode=Mode.LIVE
    )
    path = f"{api.org}/api-keys/{key.key_id}"
    for method, below, body in (
        ("GET", "", None),
        ("POST", "/rotate", {}),
        ("POST", "/revoke", None),
        ("PUT", "/scope", {}),
        ("GET", "/limits", None),
        ("PUT", "/limits", {"kind": "requests", "period": "minute", "amount": "1"}),
        ("DELETE", "/limits/1", None),
    ):
        response = await api.call(method, path + below, json=body)
        assert (response.status_code, problem_of(response)) == (404, "not-found"), below


async def test_minting_is_throttled(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "API_MINT_KEY", Rule("api_mint:key", 1, 3600))
    made = await api.call("POST", f"{api.org}/api-keys", json={"name": "x", "mode": "test"})
    assert made.status_code == 201
    path = f"{api.org}/api-keys/{made.json()['api_key']['key_id']}/rotate"
    assert (await api.call("POST", path, json={})).status_code == 429
