from __future__ import annotations

from uuid import uuid4

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, NotFound
from storage.model import Actor, Organization, OrgStatus, Plan, Role
from storage.organizations import (
    create_organization,
    rename,
    require_mfa,
    select_organization,
    select_organizations,
    select_organizations_by_user,
    set_plan,
    set_server_timing,
)
from storage.passwords import REFERENCE_DIGEST
from storage.users import add_member, create_user


async def test_a_new_organization_is_active_and_recorded(admin_db: Database, actor: Actor) -> None:
    org = await create_organization(admin_db, actor, name="Ünïcode & Söhne", plan=Plan.FREE)
    assert (org.name, org.plan, org.status) == ("Ünïcode & Söhne", Plan.FREE, OrgStatus.ACTIVE)
    assert await select_organization(admin_db, org.org_id) == org
    [row] = await select_audit_rows(admin_db, org.org_id)
    assert (row.event, row.subject) == ("organization:created", str(org.org_id))


async def test_every_organization_has_a_salt_of_its_own(admin_db: Database, actor: Actor) -> None:
    for _ in range(3):
        await create_organization(admin_db, actor, name="x", plan=Plan.FREE)
    rows = await admin_db.fetch("SELECT DISTINCT salt FROM organizations WHERE octet_length(salt) = 32")
    assert len(rows) == 3


@pytest.mark.parametrize("name", ["", "x" * 201])
async def test_names_out_of_bounds(name: str, admin_db: Database, actor: Actor) -> None:
    with pytest.raises(CheckFailed):
        await create_organization(admin_db, actor, name=name, plan=Plan.FREE)
    assert await select_organizations(admin_db) == []


async def test_a_plan_changes_once_and_is_recorded(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    assert (await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)).plan is Plan.ENTERPRISE
    await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)
    rows = await select_audit_rows(admin_db, org.org_id, after_seq=1)
    assert [(row.event, row.details) for row in rows] == [
        ("organization:plan_changed", '{"after": "enterprise", "before": "pro"}'),
    ]


async def test_an_unknown_organization(admin_db: Database, actor: Actor) -> None:
    with pytest.raises(NotFound):
        await select_organization(admin_db, uuid4())
    with pytest.raises(NotFound):
        await set_plan(admin_db, actor, uuid4(), Plan.PRO)


async def test_pages_tell_all_once(admin_db: Database, actor: Actor) -> None:
    made = [await create_organization(admin_db, actor, name=str(n), plan=Plan.FREE) for n in range(5)]
    seen: list[Organization] = []
    while page := await select_organizations(admin_db, 2, seen[-1].org_id if seen else None):
        assert len(page) <= 2
        seen += page
    assert seen == made


async def test_the_organizations_of_a_user(admin_db: Database, actor: Actor, org: Organization) -> None:
    user = await create_user(admin_db, actor, email="a@example.com", password_digest=REFERENCE_DIGEST)
    assert await select_organizations_by_user(admin_db, user.user_id) == []
    await add_member(admin_db, actor, org.org_id, user.user_id, Role.BILLING)
    assert await select_organizations_by_user(admin_db, user.user_id) == [(org, Role.BILLING)]


async def test_a_name_and_what_members_need_are_changed_and_told(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    assert (await rename(admin_db, actor, org.org_id, "Renamed")).name == "Renamed"
    assert (await require_mfa(admin_db, actor, org.org_id, True)).mfa_required
    await require_mfa(admin_db, actor, org.org_id, True)
    rows = await select_audit_rows(admin_db, org.org_id)
    assert [row.event for row in rows][-2:] == ["organization:renamed", "organization:mfa_changed"]
    await set_server_timing(admin_db, actor, org.org_id, True)
    [*_, row] = await select_audit_rows(admin_db, org.org_id)
    assert (row.event, row.details) == (
        "organization:server_timing_changed",
        '{"after": true, "before": false}',
    )
    with pytest.raises(CheckFailed):
        await rename(admin_db, actor, org.org_id, "")
