"""Routes as the control plane sets them and the data plane reads them."""

from __future__ import annotations

import json
from uuid import uuid4

import msgspec
import pytest

from storage import routes
from storage.api_keys import select_gateway_key
from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.changes import CHANNEL, Change, decode_change
from storage.errors import CheckFailed, Conflict, InvalidValue, NotFound
from storage.model import Actor, CredentialKind, Organization, Plan, Route, RouteTarget
from storage.organizations import create_organization
from storage.routes import TARGETS_MAX, remove_route, select_routes, set_route
from tests.storage.test_limits import plain_key

FIRST = RouteTarget(provider="openai", model="gpt-5", weight=3, first_byte_seconds=0.1)
SECOND = RouteTarget(provider="azure_openai", model="my-deployment", credential=CredentialKind.BYOK)


async def test_a_route_from_setting_to_removal(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    key_id = await plain_key(owner_db, org)
    told = Change("route_targets", org.org_id)
    async with gateway_db.listen(CHANNEL) as changes:
        made = await set_route(admin_db, actor, org.org_id, "smart", [FIRST, SECOND])
        assert decode_change(await changes.receive()) == told
        other = await set_route(admin_db, actor, org.org_id, "cheap", [SECOND])
        assert decode_change(await changes.receive()) == told
        assert made == Route(alias="smart", targets=(FIRST, SECOND))
        assert await select_routes(admin_db, org.org_id) == [other, made]
        seen = await select_gateway_key(gateway_db, key_id)
        assert seen is not None
        assert seen.routes == (other, made)

        changed = await set_route(admin_db, actor, org.org_id, "smart", [SECOND])
        assert decode_change(await changes.receive()) == told
        assert await select_routes(admin_db, org.org_id) == [other, changed]
        assert await remove_route(admin_db, actor, org.org_id, "smart") == changed
        assert decode_change(await changes.receive()) == told
    assert await remove_route(admin_db, actor, org.org_id, "smart") is None
    rows = [row for row in await select_audit_rows(admin_db, org.org_id) if row.event.startswith("route:")]
    assert [(row.event, row.subject, len(json.loads(row.details)["targets"])) for row in rows] == [
        ("route:set", "smart", 2),
        ("route:set", "cheap", 1),
        ("route:set", "smart", 1),
        ("route:removed", "smart", 1),
    ]
    assert json.loads(rows[0].details)["targets"][0] == {
        "provider": "openai",
        "model": "gpt-5",
        "weight": 3,
        "credential": None,
        "first_byte_seconds": 0.1,
    }
    assert (await verify_chain(admin_db, org.org_id)).intact


async def test_another_organization_has_its_own(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    await set_route(admin_db, actor, other.org_id, "smart", [FIRST])
    seen = await select_gateway_key(gateway_db, await plain_key(owner_db, org))
    assert seen is not None
    assert seen.routes == ()
    assert await select_routes(admin_db, org.org_id) == []
    assert await remove_route(admin_db, actor, org.org_id, "smart") is None


@pytest.mark.parametrize(
    "change",
    [
        {"model": "two words"},
        {"model": "a\r\nb"},
        {"model": ""},
        {"model": "é"},
        {"provider": "Open/AI"},
        {"weight": 0},
        {"first_byte_seconds": 0.0},
        {"first_byte_seconds": float("nan")},
        {"credential": CredentialKind.SIMULATED},
    ],
)
async def test_what_is_no_target_changes_nothing(
    change: dict[str, object], admin_db: Database, actor: Actor, org: Organization
) -> None:
    made = await set_route(admin_db, actor, org.org_id, "smart", [FIRST])
    with pytest.raises(CheckFailed):
        await set_route(
            admin_db, actor, org.org_id, "smart", [SECOND, msgspec.structs.replace(FIRST, **change)]
        )
    assert await select_routes(admin_db, org.org_id) == [made]


async def test_bounds(
    admin_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for targets in ([], [FIRST] * (TARGETS_MAX + 1)):
        with pytest.raises(InvalidValue, match="1 to 8 targets"):
            await set_route(admin_db, actor, org.org_id, "smart", targets)
    with pytest.raises(CheckFailed):
        await set_route(admin_db, actor, org.org_id, "", [FIRST])
    for call in (
        set_route(admin_db, actor, uuid4(), "a", [FIRST]),
        remove_route(admin_db, actor, uuid4(), "a"),
    ):
        with pytest.raises(NotFound):
            await call
    monkeypatch.setattr(routes, "ORG_ROUTES_MAX", 2)
    for alias in ("a", "b", "b"):
        await set_route(admin_db, actor, org.org_id, alias, [FIRST] * TARGETS_MAX)
    with pytest.raises(Conflict, match="2 routes at most"):
        await set_route(admin_db, actor, org.org_id, "c", [FIRST])
