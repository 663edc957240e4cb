"""Provider keys by key: brought, rotated by one call, revoked; never told."""

from __future__ import annotations

from uuid import UUID, uuid4

from admin.provider_check import Endpoint
from storage.bridge import Database
from storage.credentials import set_credential
from storage.model import Plan
from storage.organizations import set_plan
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person, make_person, running_admin
from tests.admin.management_api.client import Client, check, problem_of
from tests.support.scripted_provider import Line, scripted_provider

SECRETS = ["sk-ant-api03-first-0001", "sk-ant-api03-second-0002"]


async def test_a_key_is_brought_rotated_and_revoked(api: Client, owner_db: Database) -> None:
    path = f"{api.org}/provider-keys"
    made = await api.call("POST", path, json={"provider": "anthropic", "secret": SECRETS[0], "untried": True})
    assert made.status_code == 201
    check("ProviderCredential", made.json())
    assert made.json()["last_four"] == "0001"
    one = f"{path}/{made.json()['credential_id']}"
    name = {"Idempotency-Key": "rotation-1"}
    rotated = await api.call(
        "POST", f"{one}/rotate", json={"secret": SECRETS[1], "untried": True}, headers=name
    )
    assert rotated.status_code == 200
    assert rotated.json() == {**made.json(), "last_four": "0002"}
    revoked = await api.call("POST", f"{one}/revoke")
    assert revoked.json()["revoked_at"] is not None
    again = await api.call("POST", f"{one}/rotate", json={"secret": SECRETS[0], "untried": True})
    assert (again.status_code, problem_of(again)) == (409, "conflict")
    assert (await api.get(path))["items"] == [revoked.json()]
    tables = await owner_db.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        kept = await owner_db.fetch(f"SELECT t::text AS row FROM {table['name']} t")
        for secret in SECRETS:
            assert secret not in "".join(row["row"] for row in kept)


WHAT_IS_NO_KEY = [
    ({"provider": "nobody", "secret": SECRETS[0], "untried": True}, "$.provider"),
    ({"provider": "openai", "secret": "short"}, "$.secret"),
    ({"provider": "openai", "secret": "x" * 5000}, "$.secret"),
    ({"provider": "openai", "secret": "with a space in it"}, "$.secret"),
    ({"provider": "openai"}, None),
]


async def test_what_is_no_key(api: Client) -> None:
    for body, pointer in WHAT_IS_NO_KEY:
        response = await api.call("POST", f"{api.org}/provider-keys", json=body)
        assert response.status_code == 422
        assert response.json()["errors"][0].get("pointer") == pointer
        assert body.get("secret", "no secret") not in response.text


async def test_a_secret_with_a_line_end_is_none(api: Client) -> None:
    body = {"provider": "openai", "secret": SECRETS[0] + "\n"}
    assert (await api.call("POST", f"{api.org}/provider-keys", json=body)).status_code == 422


async def test_not_on_this_plan(api: Client, admin_db: Database, person: Person) -> None:
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    body = {"provider": "anthropic", "secret": SECRETS[0], "untried": True}
    response = await api.call("POST", f"{api.org}/provider-keys", json=body)
    assert (response.status_code, problem_of(response)) == (403, "plan")


async def test_another_organizations_key_is_not_there(api: Client, admin_db: Database) -> None:
    elsewhere = await make_person(admin_db, "eve@example.com")
    hers = await set_credential(
        admin_db,
        ACTOR,
        MASTER_KEYS,
        org_id=elsewhere.organization.org_id,
        provider="openai",
        secret=bytearray(SECRETS[0].encode()),
    )
    for credential_id in (hers.credential_id, uuid4()):
        one = f"{api.org}/provider-keys/{credential_id}"
        assert (
            await api.call("POST", f"{one}/rotate", json={"secret": SECRETS[1], "untried": True})
        ).status_code == 404
        assert (await api.call("POST", f"{one}/revoke")).status_code == 404


async def test_they_are_listed_by_the_page(api: Client, person: Person) -> None:
    path = f"{api.org}/provider-keys"
    made = []
    for provider in ("anthropic", "openai", "gemini"):
        response = await api.call(
            "POST", path, json={"provider": provider, "secret": SECRETS[0], "untried": True}
        )
        made.append(UUID(response.json()["credential_id"]))
    assert [UUID(item["credential_id"]) for item in await api.all_items(path, 2)] == made


async def test_a_key_is_tried_at_the_provider(database_url: str, token: str, person: Person) -> None:
    good, newer, unknown, odd = (f"sk-ant-api03-{name}-0001" for name in ("good", "newer", "unknown", "odd"))
    statuses = {
        good: "200 OK",
        newer: "200 OK",
        unknown: "401 Unauthorized",
        odd: "500 Internal Server Error",
    }

    async def handler(line: Line) -> None:
        head, _ = await line.read_request()
        [status] = [status for key, status in statuses.items() if f"x-api-key: {key}\r\n".encode() in head]
        await line.answer(b"{}", status=status)

    async with scripted_provider(handler) as asked:
        endpoints = {"anthropic": Endpoint(f"{asked.base_url}/v1/models", "x-api-key")}
        async with (
            running_admin(database_url, endpoints=endpoints) as url,
            Client(url, token, person.organization.org_id) as api,
        ):
            path = f"{api.org}/provider-keys"
            for secret, words in ((unknown, "does not know"), (odd, "untried")):
                body = {"provider": "anthropic", "secret": secret}
                refused = await api.call("POST", path, json=body)
                assert refused.status_code == 422
                assert words in refused.json()["errors"][0]["detail"]
            made = await api.call("POST", path, json={"provider": "anthropic", "secret": good})
            assert made.json()["verified_at"] is not None
            rotate = f"{path}/{made.json()['credential_id']}/rotate"
            assert (await api.call("POST", rotate, json={"secret": unknown})).status_code == 422
            rotated = await api.call("POST", rotate, json={"secret": newer})
            assert rotated.json()["verified_at"] > made.json()["verified_at"]
            kept = await api.call("POST", rotate, json={"secret": odd, "untried": True})
            assert (kept.status_code, kept.json()["verified_at"]) == (200, None)
