"""Who calls: one header, one answer to whatever is wrong, and a key that stops at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from admin import throttle
from admin.api_path import PREFIX
from storage.api_keys import select_keys
from storage.bridge import Database
from storage.key_format import mint_management
from storage.management_keys import revoke_management_key, select_management_keys
from storage.model import Mode
from storage.organizations import require_mfa
from storage.throttles import Rule
from tests.admin.browsing import HeldBack, Visitor
from tests.admin.conftest import ACTOR, Person
from tests.admin.management_api.client import plant

WHO = "/api/v1/management-key"


@pytest.fixture
async def token(admin_db: Database, person: Person) -> str:
    return await plant(admin_db, person)


@pytest.fixture
async def client(admin_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=admin_url, trust_env=False, timeout=30) as client:
        yield client


async def who(client: httpx.AsyncClient, token: str) -> int:
    response = await client.get(WHO, headers={"Authorization": f"Bearer {token}"})
    return response.status_code


async def test_a_key_acts_until_it_is_revoked(
    client: httpx.AsyncClient, token: str, admin_db: Database, person: Person
) -> None:
    assert await who(client, token) == 200
    [key] = await select_management_keys(admin_db, person.organization.org_id)
    assert key.last_used_at is not None
    await revoke_management_key(admin_db, ACTOR, person.organization.org_id, key.key_id)
    # Although the process remembers its secret.
    assert await who(client, token) == 401


async def test_a_key_ends_with_its_time_and_its_minter(
    client: httpx.AsyncClient, token: str, owner_db: Database
) -> None:
    assert await who(client, token) == 200
    await owner_db.execute("UPDATE management_keys SET expires_at = now()")
    assert await who(client, token) == 401
    await owner_db.execute("UPDATE management_keys SET expires_at = now() + interval '1 day'")
    assert await who(client, token) == 200
    await owner_db.execute("DELETE FROM memberships")
    assert await who(client, token) == 401


async def test_a_call_is_of_a_key_that_lives_when_it_is_whole(
    client: httpx.AsyncClient, token: str, admin_db: Database, person: Person, admin_url: str
) -> None:
    org_id = person.organization.org_id
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = b'{"name": "mine", "mode": "test"}'
    held = await HeldBack.begin(admin_url, f"POST {PREFIX}/organizations/{org_id}/api-keys", headers, body)
    for _ in range(5):
        # What is asked before a body is whole was asked by then.
        assert await who(client, token) == 200
    [key] = await select_management_keys(admin_db, org_id)
    await revoke_management_key(admin_db, ACTOR, org_id, key.key_id)
    assert (await held.finish()).status == 401
    assert await select_keys(admin_db, org_id) == []


async def test_nobody_waits_for_the_body_of_who_has_no_key(admin_url: str, person: Person) -> None:
    line = f"POST {PREFIX}/organizations/{person.organization.org_id}/api-keys"
    for headers in ({}, {"Authorization": "Bearer kt_mgmt_" + "x" * 47}):
        held = await HeldBack.begin(admin_url, line, headers, b"{}")
        assert (await held.read_answer()).status == 401


async def test_the_second_factor_that_is_required_is_required_of_the_minter(
    client: httpx.AsyncClient, token: str, admin_db: Database, person: Person
) -> None:
    await require_mfa(admin_db, ACTOR, person.organization.org_id, True)
    assert await who(client, token) == 403


async def test_what_is_no_live_key_is_told_one_thing(client: httpx.AsyncClient, token: str) -> None:
    unknown = mint_management().token
    wrong = mint_management().token
    wrong = token[:20] + wrong[20:]  # the id of one, the secret of the other: a bad checksum
    given: list[dict[str, str] | list[tuple[str, str]]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {token}"},
        {"Authorization": token},
        {"Authorization": f"Bearer {unknown}"},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": f"Bearer {'x' * 5000}"},
        {"Authorization": f"Bearer {token.replace('mgmt', Mode.LIVE.value)}"},
        {"X-Api-Key": token},
        [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
    ]
    told = set()
    for headers in given:
        response = await client.get(WHO, headers=headers)
        assert response.status_code == 401, headers
        assert response.headers["www-authenticate"].startswith("Bearer")
        told.add(response.json()["detail"])
    assert len(told) == 1
    assert (await client.get(f"{WHO}?key={token}")).status_code == 401
    assert (await client.get(WHO, headers={"Authorization": f"bearer  {token}"})).status_code == 200


async def test_a_wrong_secret_costs_a_place_in_the_throttle(
    client: httpx.AsyncClient, token: str, owner_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "API_UNPROVED_ADDRESS", Rule("api_unproved:address", 2, 3600))
    assert await who(client, token) == 200
    # Another secret for the same row: what is presented is not what was minted.
    digest = await owner_db.fetch_value("SELECT secret_digest FROM management_keys")
    await owner_db.execute(
        "UPDATE management_keys SET secret_digest = set_byte("
        "secret_digest, 40, CASE get_byte(secret_digest, 40) WHEN 97 THEN 98 ELSE 97 END)"
    )
    assert [await who(client, token) for _ in range(2)] == [401, 429]
    # Who is known already is not kept out.
    await owner_db.execute("UPDATE management_keys SET secret_digest = $1", digest)
    assert await who(client, token) == 200


@pytest.mark.parametrize("rule", ["API_ADDRESS", "API_KEY"])
async def test_calls_are_counted(
    client: httpx.AsyncClient, token: str, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    monkeypatch.setattr(throttle, rule, Rule(f"few:{rule}", 2, 3600))
    assert [await who(client, token) for _ in range(3)] == [200, 200, 429]
    response = await client.get(WHO, headers={"Authorization": f"Bearer {token}"})
    assert int(response.headers["retry-after"]) > 60


async def test_a_browsers_session_is_no_key(signed_in: Visitor, person: Person) -> None:
    path = f"/api/v1/organizations/{person.organization.org_id}"
    assert (await signed_in.get(f"/organizations/{person.organization.org_id}")).status_code == 200
    assert (await signed_in.get(path)).status_code == 401
    assert (await signed_in.request("PATCH", path, json={"name": "x"})).status_code == 401
