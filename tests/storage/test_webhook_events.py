"""Events of webhooks: what becomes one, in whose transaction, and that bodies are what their schema says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest

from storage import audit
from storage.api_keys import mint_key, revoke_key, rotate_key
from storage.audit import Event
from storage.audit_chain import sign_heads
from storage.audit_checkpoints import ensure_signing_key
from storage.bridge import Database
from storage.credentials import revoke_credential, rotate_credential, set_credential
from storage.incidents import Stage, cancel_maintenance, open_incident, plan_maintenance, update_incident
from storage.invitations import invite
from storage.key_scopes import set_scope
from storage.letter_kinds import LetterKind
from storage.limits import LimitScope, set_limit, unset_limit
from storage.memberships import change_role, remove_member
from storage.model import Actor, KeyScope, LimitKind, Mode, Organization, Period, Plan, Role
from storage.organizations import create_organization, set_plan
from storage.outbox import Letter
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.users import add_member, create_user
from storage.webhook_deliveries import spread
from storage.webhook_events import CHOICES, TEST, TYPES, emit, emit_usage_of_day, render
from storage.webhooks import Endpoint, NewEndpoint, create_endpoint, disable_endpoint
from tests.storage.usage_records import insert_usage, usage
from tests.storage.webhook_schema import data_schema

INVOICE = {
    "invoice_id": "in_1",
    "number": None,
    "status": "paid",
    "currency": "usd",
    "total": 1200,
    "due": 0,
}


async def listen(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    org_id: UUID,
    events: tuple[str, ...] = CHOICES,
    url: str = "https://hooks.example.com/",
) -> Endpoint:
    endpoint, _ = await create_endpoint(db, actor, master_keys, org_id, NewEndpoint(url=url, events=events))
    return endpoint


async def bodies(db: Database) -> list[dict[str, Any]]:
    """All that was told, in order, each checked against the schema of its type."""
    while await spread(db):
        pass
    rows = await db.fetch("SELECT type, body FROM webhook_events ORDER BY seq")
    read = [json.loads(row["body"]) for row in rows]
    for one in read:
        assert set(one) == {"type", "timestamp", "data"}
        jsonschema_rs.validator_for(data_schema(one["type"])).validate(one["data"])
    return read


async def test_changes_of_keys_budgets_members_and_plans_are_events(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    key, token = await mint_key(admin_db, actor, org_id=org.org_id, name="CI", mode=Mode.LIVE)
    await set_scope(admin_db, actor, org.org_id, key.key_id, KeyScope(models=("claude-x",)))
    new, _ = await rotate_key(admin_db, actor, key.key_id, overlap_seconds=60)
    await revoke_key(admin_db, actor, new.key_id)
    scope = LimitScope(org_id=org.org_id, kind=LimitKind.MONEY, period=Period.DAY)
    await set_limit(admin_db, actor, scope, 10**12)
    await unset_limit(admin_db, actor, scope)
    letter = Letter(kind=LetterKind.INVITATION, recipient="b@example.com")
    await invite(admin_db, actor, master_keys, org.org_id, "b@example.com", Role.VIEWER, bytes(32), letter)
    owner = await create_user(admin_db, actor, email="o@example.com", password_digest=REFERENCE_DIGEST)
    other = await create_user(admin_db, actor, email="a@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, org.org_id, owner.user_id, Role.OWNER)
    await add_member(admin_db, actor, org.org_id, other.user_id, Role.VIEWER)
    await change_role(admin_db, actor, org.org_id, owner.user_id, other.user_id, Role.ADMIN)
    await remove_member(admin_db, actor, org.org_id, owner.user_id, other.user_id)
    await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)

    told = await bodies(admin_db)
    assert [one["type"] for one in told] == [
        *("key.minted", "key.scope_changed", "key.rotated", "key.revoked", "budget.set", "budget.removed"),
        *("member.invited", "member.added", "member.added", "member.role_changed", "member.removed"),
        "plan.changed",
    ]
    minted = told[0]["data"]
    assert minted["org_id"] == str(org.org_id)
    assert (minted["key_id"], minted["name"], minted["mode"]) == (key.key_id, "CI", "live")
    assert minted["actor"] == {"kind": "cli", "id": None}
    text = json.dumps(told)
    assert token not in text
    assert "example.com" not in text
    assert "tester" not in text


async def test_provider_keys_are_told_of_by_their_last_four(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    for _ in range(2):
        credential = await set_credential(
            admin_db,
            actor,
            master_keys,
            org_id=org.org_id,
            provider="openai",
            secret=bytearray(b"sk-secret-1111"),
        )
    await rotate_credential(
        admin_db, actor, master_keys, credential.credential_id, bytearray(b"sk-secret-2222")
    )
    await revoke_credential(admin_db, actor, credential.credential_id)
    told = await bodies(admin_db)
    assert [one["type"] for one in told] == ["byok.set", "byok.replaced", "byok.rotated", "byok.revoked"]
    assert [one["data"]["last_four"] for one in told] == ["1111", "1111", "2222", "2222"]
    assert "secret" not in json.dumps(told)


async def test_what_the_database_itself_finds_is_told_too(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id, ("budget.threshold_reached", "audit.checkpoint"))
    scope = LimitScope(org_id=org.org_id, kind=LimitKind.MONEY, period=Period.DAY)
    await set_limit(admin_db, actor, scope, 100, thresholds=(50,))
    now = datetime.now(UTC)
    await insert_usage(
        gateway_db, [usage(org_id=org.org_id, started_at=now, total_us=0, charged_picodollars=60)]
    )
    key = await ensure_signing_key(admin_db, actor, master_keys)
    await sign_heads(admin_db, key)
    crossed, signed = await bodies(admin_db)
    assert crossed["type"] == "budget.threshold_reached"
    assert (crossed["data"]["threshold"], crossed["data"]["settled_picodollars"]) == (50, 60)
    assert signed["type"] == "audit.checkpoint"
    assert signed["data"]["key_id"] == key.key_id


async def test_incidents_are_told_to_all_who_chose_them(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.FREE)
    await listen(admin_db, actor, master_keys, org.org_id)
    await listen(admin_db, actor, master_keys, other.org_id, ("incident.opened",))
    incident_id = await open_incident(admin_db, actor, "Slow", ["gateway"], "We look.")
    await update_incident(admin_db, actor, incident_id, Stage.MONITORING, "Better.")
    await update_incident(admin_db, actor, incident_id, Stage.RESOLVED, "Well.")
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
    planned = await plan_maintenance(admin_db, actor, "Move", ["gateway"], "Soon.", start, end)
    await cancel_maintenance(admin_db, actor, planned, "Not now.")
    told = await bodies(admin_db)
    assert [one["type"].partition(".")[2] for one in told] == [
        *("opened", "updated", "resolved", "maintenance_planned", "maintenance_cancelled"),
    ]
    assert "org_id" not in told[0]["data"]
    rows = await admin_db.fetch(
        "SELECT e.org_id, count(*) AS n FROM webhook_deliveries JOIN webhook_endpoints e USING (endpoint_id)"
        " GROUP BY 1"
    )
    assert {row["org_id"]: row["n"] for row in rows} == {org.org_id: 5, other.org_id: 1}


async def test_an_event_that_nobody_chose_is_not_kept(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)
    await listen(admin_db, actor, master_keys, org.org_id, ("key.minted",))
    off = await listen(admin_db, actor, master_keys, org.org_id)
    await disable_endpoint(admin_db, actor, org.org_id, off.endpoint_id)
    await set_plan(admin_db, actor, org.org_id, Plan.PRO)
    await set_plan(admin_db, actor, other.org_id, Plan.FREE)
    assert await bodies(admin_db) == []


async def test_an_event_is_of_the_transaction_that_causes_it(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await listen(admin_db, actor, master_keys, org.org_id)
    with pytest.raises(RuntimeError):
        async with admin_db.transaction() as tx:
            await audit.record(
                tx, actor, Event.KEY_REVOKED, org.org_id, "k", {"name": "n", "last_four": "1234"}
            )
            await emit(tx, org.org_id, "invoice.paid", INVOICE)
            assert await tx.fetch_value("SELECT count(*) FROM webhook_events") == 2
            raise RuntimeError
    assert await bodies(admin_db) == []


async def test_a_repetition_is_no_event(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    assert not await emit(admin_db, org.org_id, "invoice.paid", INVOICE, once="evt_1")
    await listen(admin_db, actor, master_keys, org.org_id)
    assert await emit(admin_db, org.org_id, "invoice.paid", INVOICE, once="evt_1")
    assert not await emit(admin_db, org.org_id, "invoice.paid", INVOICE, once="evt_1")
    assert await emit(admin_db, org.org_id, "invoice.created", INVOICE, once="evt_1")
    assert len(await bodies(admin_db)) == 2
    for name, data in (("key.minted", {}), ("invoice.paid", {**INVOICE, "card": "4242"})):
        with pytest.raises(ValueError, match="exactly"):
            await emit(admin_db, org.org_id, name, data)


async def test_a_days_usage_is_told_once(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    idle = await create_organization(admin_db, actor, name="Idle", plan=Plan.FREE)
    for org_id in (org.org_id, idle.org_id):
        await listen(admin_db, actor, master_keys, org_id)
    today = datetime.now(UTC)
    rows = [usage(org_id=org.org_id, started_at=today, total_us=0) for _ in range(3)]
    await insert_usage(gateway_db, rows)
    assert await emit_usage_of_day(admin_db, today.date()) == 2
    assert await emit_usage_of_day(admin_db, today.date()) == 0
    told = {one["data"]["org_id"]: one["data"] for one in await bodies(admin_db)}
    assert told[str(idle.org_id)]["requests"] == 0
    assert (told[str(org.org_id)]["requests"], told[str(org.org_id)]["input_tokens"]) == (3, 30)
    assert told[str(org.org_id)]["cost_picodollars"] == 3 * rows[0].cost_picodollars  # type: ignore[operator]


async def test_the_database_and_the_table_name_the_same_events(owner_db: Database) -> None:
    rows = await owner_db.fetch("SELECT audit_event, type FROM webhook_sources")
    assert {row["audit_event"]: row["type"] for row in rows} == {
        one.audit_event.value: name for name, one in TYPES.items() if one.audit_event is not None
    }
    assert len(CHOICES) <= 100, "an endpoint must be able to choose all"
    assert TEST not in CHOICES
    told_of = {name.partition(".")[0] for name in CHOICES}
    assert told_of == {"key", "byok", "budget", "member", "plan", "invoice", "audit", "incident", "usage"}


def test_a_time_is_utc_with_milliseconds() -> None:
    body = json.loads(
        render("invoice.paid", UUID(int=1), datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), INVOICE)
    )
    assert body["timestamp"] == "2026-01-02T03:04:05.678Z"
