"""Platform operators: made by the schema's owner alone, recorded in what they look at; and suspension."""

from __future__ import annotations

import json
from functools import partial
from uuid import uuid4

import pytest

from storage import staff
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, NotFound, StorageError
from storage.model import Actor, Organization, OrgStatus, Plan, Role
from storage.organization_end import cancel_end, request_end
from storage.organizations import create_organization, select_organization
from storage.passwords import REFERENCE_DIGEST
from storage.staff import (
    grant_staff,
    lift,
    record_view,
    revoke_staff,
    search_organizations,
    select_staff,
    suspend,
)
from storage.users import add_member, create_user
from tests.storage.explaining import explain


async def test_one_is_made_and_unmade_and_each_leaves_a_row(
    admin_db: Database, owner_db: Database, actor: Actor
) -> None:
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    for _again in range(2):
        assert await grant_staff(owner_db, actor, " Ada@example.com") == user.user_id
    (member,) = await select_staff(admin_db)
    assert (member.email, member.has_factor) == ("ada@example.com", False)
    await revoke_staff(owner_db, actor, "ada@example.com")
    assert await select_staff(admin_db) == []
    for stranger in ("ada@example.com", "eve@example.com"):
        with pytest.raises(NotFound):
            await revoke_staff(owner_db, actor, stranger)
    with pytest.raises(NotFound):
        await grant_staff(owner_db, actor, "eve@example.com")
    rows = await select_audit_rows(admin_db, None)
    assert [row.event for row in rows] == ["user:created", "staff:granted", "staff:revoked"]


async def test_the_pages_cannot_make_one(admin_db: Database, gateway_db: Database, actor: Actor) -> None:
    await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    for db in (admin_db, gateway_db):
        with pytest.raises(StorageError):
            await grant_staff(db, actor, "ada@example.com")
    assert await select_staff(admin_db) == []


async def test_a_view_is_in_the_chain_of_whom_it_is_about(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    await record_view(admin_db, actor, org.org_id, "organization")
    await record_view(admin_db, actor, None, "organizations", "acme")
    mine = (await select_audit_rows(admin_db, org.org_id))[-1]
    systems = (await select_audit_rows(admin_db, None))[-1]
    assert (mine.event, json.loads(mine.details)) == ("staff:viewed", {"page": "organization"})
    assert json.loads(systems.details) == {"page": "organizations", "search": "acme"}


async def test_organizations_are_found_page_by_page(
    admin_db: Database, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staff, "PAGE_ROWS_MAX", 2)
    made = [
        await create_organization(admin_db, actor, name=name, plan=Plan.FREE)
        for name in ("Acme 100%", "acme_two", "Other", "ACME three")
    ]
    user = await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)
    await add_member(admin_db, actor, made[2].org_id, user.user_id, Role.OWNER)

    async def names(text: str = "", **more: object) -> list[str]:
        return [one.name for one in await search_organizations(admin_db, text, **more)]  # type: ignore[arg-type]

    assert await names() == ["ACME three", "Other"]
    assert await names(after=made[2].org_id) == ["acme_two", "Acme 100%"]
    assert await names("acme", after=made[3].org_id) == ["acme_two", "Acme 100%"]
    assert await names("0%") == ["Acme 100%"]
    assert await names("e_t") == ["acme_two"]
    assert await names(" Ada@example.com ") == ["Other"]
    assert await names(str(made[0].org_id)) == ["Acme 100%"]
    assert await names(after=uuid4()) == []
    await suspend(admin_db, actor, made[1].org_id, "abuse")
    assert await names(status=OrgStatus.SUSPENDED) == ["acme_two"]


async def test_a_suspension_says_why_and_is_lifted(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    for _again in range(2):
        await suspend(admin_db, actor, org.org_id, "Sends spam.")
    found = await select_organization(admin_db, org.org_id)
    assert (found.status, found.suspension_reason) == (OrgStatus.SUSPENDED, "Sends spam.")
    await lift(admin_db, actor, org.org_id)
    found = await select_organization(admin_db, org.org_id)
    assert (found.status, found.suspension_reason) == (OrgStatus.ACTIVE, None)
    with pytest.raises(Conflict):
        await lift(admin_db, actor, org.org_id)
    rows = (await select_audit_rows(admin_db, org.org_id))[1:]
    assert [row.event for row in rows] == ["organization:status_changed"] * 2
    assert json.loads(rows[0].details)["reason"] == "Sends spam."


async def test_owners_cannot_lift_it_by_ending_and_keeping(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    # In both orders: the end asked for before, and after.
    await request_end(admin_db, actor, org.org_id)
    await suspend(admin_db, actor, org.org_id, "Sends spam.")
    await cancel_end(admin_db, actor, org.org_id)
    assert (await select_organization(admin_db, org.org_id)).status is OrgStatus.SUSPENDED
    await request_end(admin_db, actor, org.org_id)
    await cancel_end(admin_db, actor, org.org_id)
    assert (await select_organization(admin_db, org.org_id)).status is OrgStatus.SUSPENDED
    # And staff who lift do not take back the owners' wish.
    await request_end(admin_db, actor, org.org_id)
    await lift(admin_db, actor, org.org_id)
    ending = await select_organization(admin_db, org.org_id)
    assert (ending.status, ending.suspension_reason) == (OrgStatus.SUSPENDED, None)
    with pytest.raises(Conflict):
        await lift(admin_db, actor, org.org_id)
    await cancel_end(admin_db, actor, org.org_id)
    assert (await select_organization(admin_db, org.org_id)).status is OrgStatus.ACTIVE


async def test_what_cannot_be_suspended(admin_db: Database, actor: Actor, org: Organization) -> None:
    for reason in ("", "x" * 501):
        with pytest.raises(CheckFailed):
            await suspend(admin_db, actor, org.org_id, reason)
    for act in (suspend(admin_db, actor, uuid4(), "why"), lift(admin_db, actor, uuid4())):
        with pytest.raises(NotFound):
            await act


async def test_organizations_are_found_by_an_index_where_there_can_be_one(admin_db: Database) -> None:
    """What a name has in it is the only thing that needs to go through all of them."""
    for text, status, index in (
        ("", None, "organizations_created"),
        ("", OrgStatus.SUSPENDED, "organizations_suspended"),
        ("acme", OrgStatus.SUSPENDED, "organizations_suspended"),
        (str(uuid4()).upper(), None, "organizations_pkey"),
        ("ada@example.com", None, "users_email_key"),
    ):
        plan = await explain(admin_db, partial(search_organizations, text=text, status=status))
        assert index in plan, plan
