"""Webhooks by key: made, changed, rotated, tried, looked at and ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from standardwebhooks import Webhook

from storage.bridge import Database
from storage.management_keys import Scope
from tests.admin.conftest import Person, make_person, running_admin
from tests.admin.management_api.client import Client, check, mint, plant, problem_of
from tests.admin.webhooks.arena import NETWORKS
from tests.admin.webhooks.receiver import Receiver, answer, running_receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def api(
    database_url: str, receiver: Receiver, person: Person, owner_db: Database, tmp_path: Path
) -> AsyncIterator[Client]:
    settings = {
        "webhooks_allowed_networks": NETWORKS,
        "webhooks_ca_file": receiver.write_authority(tmp_path),
    }
    async with (
        running_admin(database_url, **settings) as url,
        Client(url, await plant(owner_db, person), person.organization.org_id) as client,
    ):
        yield client


async def test_an_endpoint_from_its_making_to_its_end(
    api: Client, receiver: Receiver, owner_db: Database
) -> None:
    path, body = f"{api.org}/webhooks", {"url": receiver.url("/x", "localhost"), "events": ["key.minted"]}
    once = {"Idempotency-Key": "webhook-1"}
    made = await api.call("POST", path, json=body, headers=once)
    assert made.status_code == 201
    check("MadeWebhook", made.json())
    secret, one = made.json()["secret"], f"{path}/{made.json()['webhook']['endpoint_id']}"
    again = await api.call("POST", path, json=body, headers=once)
    assert again.json() == {**made.json(), "secret": None}, "shown once"
    assert (await api.get(path))["items"] == [made.json()["webhook"]]

    tested = await api.call("POST", f"{one}/test")
    assert tested.status_code == 202
    [message] = await receiver.wait_for(1)
    assert Webhook(secret).verify(message.body, message.headers)["type"] == "webhook.test"
    with trio.fail_after(20):
        while (items := (await api.get(f"{one}/deliveries"))["items"])[0]["state"] != "delivered":
            await trio.sleep(0.05)
    assert items[0]["event_id"] == tested.json()["event_id"]
    delivery = f"{one}/deliveries/{items[0]['delivery_id']}"
    told = await api.get(delivery)
    check("DeliveryAnswer", told)
    assert told["body"] == message.body.decode()
    assert [attempt["status"] for attempt in told["attempts"]] == [200]
    receiver.respond = lambda _: answer(500)
    assert (await api.call("POST", f"{delivery}/redeliver")).json()["state"] == "pending"
    await receiver.wait_for(2)

    rotated = await api.call("POST", f"{one}/rotate-secret", json={"overlap_seconds": 60})
    assert rotated.json()["secret"] not in (None, secret)
    changed = await api.call("PUT", one, json={**body, "events": ["plan.changed"], "ordered": True})
    assert (changed.json()["events"], changed.json()["ordered"]) == (["plan.changed"], True)
    assert (await api.call("POST", f"{one}/disable")).json()["reason"] == "asked"
    refused = await api.call("POST", f"{one}/test")
    assert (refused.status_code, problem_of(refused)) == (409, "conflict")
    assert (await api.call("POST", f"{one}/enable")).json()["state"] == "enabled"
    assert (await api.call("DELETE", one)).json() == {"done": True}
    assert (await api.call("GET", one)).status_code == 404
    for table in ("audit_log", "idempotent_requests", "webhook_attempts"):
        kept = await owner_db.fetch(f"SELECT t::text AS row FROM {table} t")
        assert secret not in "".join(row["row"] for row in kept)


async def test_what_makes_no_endpoint(api: Client, receiver: Receiver) -> None:
    good = {"url": receiver.url("/", "localhost"), "events": ["key.minted"]}
    for body, pointer in (
        ({**good, "url": "https://127.0.0.1/"}, "$.url"),
        ({**good, "url": "http://localhost/"}, "$.url"),
        ({**good, "events": ["key.*"]}, "$.events[0]"),
        ({**good, "events": ["webhook.test"]}, "$.events[0]"),
        ({**good, "events": []}, "$.events"),
        ({**good, "description": "a\nb"}, "$.description"),
        ({**good, "more": 1}, None),
    ):
        response = await api.call("POST", f"{api.org}/webhooks", json=body)
        assert response.status_code == 422
        assert response.json()["errors"][0].get("pointer") == pointer
    assert receiver.connections == 0


async def test_a_key_needs_the_scope_and_the_organization(
    api: Client, admin_db: Database, person: Person
) -> None:
    _, token = await mint(admin_db, person, [Scope.WEBHOOKS_READ])
    url = str(api._client.base_url).removesuffix("/").removesuffix("/api/v1")
    async with Client(url, token, person.organization.org_id) as reader:
        assert (await reader.call("GET", f"{reader.org}/webhooks")).status_code == 200
        assert (await reader.call("POST", f"{reader.org}/webhooks/{uuid4()}/test")).status_code == 403
    other = await make_person(admin_db, "eve@example.com", name="Elsewhere")
    elsewhere = f"/organizations/{other.organization.org_id}/webhooks"
    assert (await api.call("GET", elsewhere)).status_code == 404
    for path in (f"{api.org}/webhooks/{uuid4()}", f"{api.org}/webhooks/{uuid4()}/deliveries/{2**63}"):
        assert (await api.call("GET", path)).status_code == 404
