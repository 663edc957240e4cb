"""Endpoints and their secrets: sealed, shown once, rotated with an overlap, each change in the audit log."""

from __future__ import annotations

import base64
from uuid import uuid4

import msgspec
import pytest

from storage import plan_terms, webhooks
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.errors import CheckFailed, InvalidValue, NotFound, PlanRefused
from storage.model import Actor, Organization, Plan
from storage.organizations import create_organization
from storage.plan_terms import TERMS
from storage.sealing import MasterKeys
from storage.webhook_events import CHOICES
from storage.webhooks import (
    Endpoint,
    NewEndpoint,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    rotate_secret,
    select_endpoint,
    select_endpoints,
    select_secrets,
)

CHOSEN = NewEndpoint(
    url="https://hooks.example.com/t/0k3n?x=1", events=("key.minted", "budget.set"), description="CI"
)


async def secrets_of(db: Database, keys: MasterKeys, endpoint: Endpoint) -> list[str]:
    return (await select_secrets(db, keys, [endpoint.endpoint_id])).get(endpoint.endpoint_id, [])


async def test_an_endpoint_has_a_secret_that_only_the_master_key_opens(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint, secret = await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)
    assert endpoint == await select_endpoint(admin_db, org.org_id, endpoint.endpoint_id)
    assert [endpoint] == await select_endpoints(admin_db, org.org_id)
    assert (endpoint.host, endpoint.events) == ("hooks.example.com", ("budget.set", "key.minted"))
    material = base64.b64decode(secret.removeprefix("whsec_"))
    assert len(material) == 32
    assert await secrets_of(admin_db, master_keys, endpoint) == [secret]
    assert await secrets_of(admin_db, MasterKeys({1: bytes(32)}), endpoint) == []
    for table in ("webhook_endpoints", "webhook_secrets", "audit_log", "webhook_events"):
        kept = "".join(row["row"] for row in await owner_db.fetch(f"SELECT t::text AS row FROM {table} t"))
        assert secret not in kept
        assert material.hex() not in kept
    [row] = [row for row in await select_audit_rows(admin_db, org.org_id) if row.event == "webhook:created"]
    assert row.subject == str(endpoint.endpoint_id)
    assert "hooks.example.com" in row.details
    assert "0k3n" not in row.details, "paths hold tokens"


async def test_a_sealed_secret_does_not_open_for_another_organization(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    mine, _ = await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)
    theirs, _ = await create_endpoint(admin_db, actor, master_keys, other.org_id, CHOSEN)
    await owner_db.execute("DELETE FROM webhook_secrets WHERE endpoint_id = $1", mine.endpoint_id)
    await owner_db.execute("UPDATE webhook_secrets SET endpoint_id = $1", mine.endpoint_id)
    assert await secrets_of(admin_db, master_keys, mine) == []
    with pytest.raises(NotFound):
        await select_endpoint(admin_db, org.org_id, theirs.endpoint_id)


async def test_a_rotation_signs_with_both_until_the_overlap_ends(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint, first = await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)

    async def rotate(seconds: int) -> str:
        return (
            await rotate_secret(
                admin_db, actor, master_keys, org.org_id, endpoint.endpoint_id, overlap_seconds=seconds
            )
        )[1]

    second = await rotate(60)
    assert await secrets_of(admin_db, master_keys, endpoint) == [second, first]
    third = await rotate(60)
    assert await secrets_of(admin_db, master_keys, endpoint) == [third, second], "two at most"
    await owner_db.execute("UPDATE webhook_secrets SET ends_at = now() WHERE ends_at IS NOT NULL")
    assert await secrets_of(admin_db, master_keys, endpoint) == [third]
    fourth = await rotate(0)
    assert await secrets_of(admin_db, master_keys, endpoint) == [fourth]
    assert await owner_db.fetch_value("SELECT count(*) FROM webhook_secrets") == 1
    with pytest.raises(InvalidValue):
        await rotate(webhooks.OVERLAP_SECONDS_MAX + 1)


async def test_every_change_is_in_the_audit_log(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    endpoint, _ = await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)
    place = (org.org_id, endpoint.endpoint_id)
    moved = NewEndpoint(url="https://b.example.com/", events=CHOICES, ordered=True)
    after = await change_endpoint(admin_db, actor, *place, moved)
    assert (after.url, after.ordered, set(after.events)) == (moved.url, True, set(CHOICES))
    assert await change_endpoint(admin_db, actor, *place, moved) == after
    assert (await disable_endpoint(admin_db, actor, *place)).reason == "asked"
    await disable_endpoint(admin_db, actor, *place)
    assert (await enable_endpoint(admin_db, actor, *place)).state == "enabled"
    await enable_endpoint(admin_db, actor, *place)
    await rotate_secret(admin_db, actor, master_keys, *place)
    await delete_endpoint(admin_db, actor, *place)
    events = [row.event for row in await select_audit_rows(admin_db, org.org_id)]
    assert [event for event in events if event.startswith("webhook:")] == [
        f"webhook:{what}"
        for what in ("created", "changed", "disabled", "enabled", "secret_rotated", "deleted")
    ]
    assert await select_endpoints(admin_db, org.org_id) == []
    with pytest.raises(NotFound):
        await delete_endpoint(admin_db, actor, *place)
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_what_makes_no_endpoint(
    admin_db: Database,
    actor: Actor,
    org: Organization,
    master_keys: MasterKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for wrong in (
        NewEndpoint(url="https://a.example.com/", events=()),
        NewEndpoint(url="https://a.example.com/", events=("key.*",)),
        NewEndpoint(url="https://a.example.com/", events=("webhook.test",)),
        NewEndpoint(url="https://a.example.com/", events=("key.minted",), description="a\nb"),
        NewEndpoint(url="https://a.example.com/" + "a" * 2048, events=("key.minted",)),
    ):
        with pytest.raises(InvalidValue):
            await create_endpoint(admin_db, actor, master_keys, org.org_id, wrong)
    with pytest.raises(CheckFailed):
        plain = NewEndpoint(url="http://a.example.com/", events=("key.minted",))
        await create_endpoint(admin_db, actor, master_keys, org.org_id, plain)
    with pytest.raises(NotFound):
        await create_endpoint(admin_db, actor, master_keys, uuid4(), CHOSEN)
    terms = TERMS | {Plan.PRO: msgspec.structs.replace(TERMS[Plan.PRO], webhook_endpoints=1)}
    monkeypatch.setattr(plan_terms, "TERMS", terms)
    await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)
    with pytest.raises(PlanRefused, match="1 webhook endpoints, and 1"):
        await create_endpoint(admin_db, actor, master_keys, org.org_id, CHOSEN)
