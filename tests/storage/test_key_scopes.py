"""What keys may be used for: parsed, kept, changed with an audit row, and inherited."""

from __future__ import annotations

import json

import pytest

from storage.api_keys import mint_key, rotate_key, select_gateway_key, select_key
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, InvalidValue, NotFound
from storage.key_scopes import ENTRIES_MAX, parse_endpoints, parse_networks, set_scope
from storage.model import Actor, KeyScope, Mode, Organization, Plan
from storage.organizations import create_organization

MANY = [f"e{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(ENTRIES_MAX + 1)]
SCOPE = KeyScope(
    models=("m",),
    endpoints=("messages", "chat"),
    networks=("192.0.2.0/24", "2001:db8::/32", "198.51.100.1/32"),
)


def test_networks_are_written_alike() -> None:
    assert parse_networks(["192.0.2.0/24", "198.51.100.1", "2001:DB8::/32", "192.0.2.0/24"]) == (
        "192.0.2.0/24",
        "198.51.100.1/32",
        "2001:db8::/32",
    )
    assert parse_networks([]) is None
    assert parse_endpoints(["chat", "chat"]) == ("chat",)
    assert parse_endpoints([]) is None


@pytest.mark.parametrize("network", ["192.0.2.1/24", "x", "", "192.0.2.0/33", "fe80::1%eth0/64"])
def test_what_is_no_network(network: str) -> None:
    written = "^write networks like 192.0.2.0/24 or 2001:db8::/32, or single addresses$"
    with pytest.raises(InvalidValue, match=written):
        parse_networks([network])


def test_too_many_or_no_endpoints() -> None:
    for wrong in (
        ["/v1/messages"],
        ["Messages"],
        MANY,
    ):
        with pytest.raises(
            InvalidValue, match=f"^name up to {ENTRIES_MAX} endpoints by what follows /v1/, like mess"
        ):
            parse_endpoints(wrong)
    with pytest.raises(InvalidValue, match=f"^name up to {ENTRIES_MAX} networks$"):
        parse_networks(f"10.0.{n}.0/24" for n in range(ENTRIES_MAX + 1))


def test_as_many_as_there_may_be() -> None:
    assert parse_endpoints(MANY[:ENTRIES_MAX]) == tuple(MANY[:ENTRIES_MAX])
    networks = tuple(f"10.0.{n}.0/24" for n in range(ENTRIES_MAX))
    assert parse_networks(networks) == networks


async def test_a_scope_is_kept_told_to_gateways_and_inherited(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    key, _ = await mint_key(
        admin_db,
        actor,
        org_id=org.org_id,
        name="k",
        mode=Mode.LIVE,
        allowed_models=SCOPE.models,
        allowed_endpoints=SCOPE.endpoints,
        allowed_networks=SCOPE.networks,
    )
    assert key.scope == SCOPE
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert (seen.allowed_endpoints, seen.allowed_networks) == (SCOPE.endpoints, SCOPE.networks)
    successor, _ = await rotate_key(admin_db, actor, key.key_id)
    assert successor.scope == SCOPE


async def test_a_change_writes_one_audit_row_and_no_change_none(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    before = len(await select_audit_rows(admin_db, org.org_id))
    for _again in range(2):
        await set_scope(admin_db, actor, org.org_id, key.key_id, SCOPE)
    assert (await select_key(admin_db, org.org_id, key.key_id)).scope == SCOPE
    rows = (await select_audit_rows(admin_db, org.org_id))[before:]
    assert [(row.event, row.subject, row.actor_id) for row in rows] == [
        ("api_key:scope_changed", key.key_id, actor.actor_id)
    ]
    assert json.loads(rows[0].details) == {
        "before": {"models": None, "endpoints": None, "networks": None},
        "after": {"models": ["m"], "endpoints": ["messages", "chat"], "networks": list(SCOPE.networks or ())},
    }
    with pytest.raises(CheckFailed):
        await set_scope(admin_db, actor, org.org_id, key.key_id, KeyScope(endpoints=()))


async def test_a_key_of_another_organization_is_none(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    with pytest.raises(NotFound, match=r"^there is no such key$"):
        await set_scope(admin_db, actor, other.org_id, key.key_id, SCOPE)
    assert (await select_key(admin_db, org.org_id, key.key_id)).scope == KeyScope()


async def test_the_largest_scope_is_kept_and_recorded(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    models = [f"model-{number:03}-".ljust(200, "ä") for number in range(200)]
    key, _ = await mint_key(
        admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE, allowed_models=models
    )
    others = KeyScope(models=tuple(f"{name[:-1]}x" for name in models), networks=("192.0.2.0/24",))
    await set_scope(admin_db, actor, org.org_id, key.key_id, others)
    assert (await select_key(admin_db, org.org_id, key.key_id)).scope == others
    minted, changed = (await select_audit_rows(admin_db, org.org_id))[-2:]
    told = json.loads(minted.details)
    assert told["last_four"] == key.last_four
    assert told["allowed_models"][0] == models[0]
    assert told["allowed_models"][-1] == f"… and {len(models) - len(told['allowed_models']) + 1} more"
    assert json.loads(changed.details)["after"]["networks"] == ["192.0.2.0/24"]
