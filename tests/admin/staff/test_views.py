"""The staff console: for staff with a second factor alone, each view recorded, each change with proof."""

from __future__ import annotations

import json

import pytest

from admin.authorization import TABLE, Audience
from storage.audit import AuditRow, select_audit_rows
from storage.bridge import Database
from storage.model import OrgStatus, Plan
from storage.organizations import select_organization
from storage.staff import grant_staff
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person, make_person, make_stale
from tests.admin.test_authorization import ROUTES, path_of

REASON = "Sends spam <to> everybody."


@pytest.fixture
async def subject(admin_db: Database) -> Person:
    """Somebody whose organization staff look at."""
    return await make_person(admin_db, "eve@example.com", name="Elsewhere & Co")


@pytest.fixture
async def operator(signed_in: Visitor, person: Person, owner_db: Database) -> Visitor:
    """One of the staff, signed in, with a second factor."""
    await grant_staff(owner_db, ACTOR, person.email)
    await owner_db.execute(
        "INSERT INTO totp_factors (user_id, sealed_secret, confirmed_at) VALUES ($1, 'x', now())",
        person.user.user_id,
    )
    return signed_in


def at(subject: Person, act: str = "") -> str:
    return f"/staff/organizations/{subject.organization.org_id}{act and '/' + act}"


async def views(db: Database, subject: Person | None) -> list[AuditRow]:
    rows = await select_audit_rows(db, subject.organization.org_id if subject else None)
    return [row for row in rows if row.event == "staff:viewed"]


async def test_nobody_else_finds_it(signed_in: Visitor, subject: Person, owner_db: Database) -> None:
    token = await signed_in.token("/account")
    asked = [endpoint for endpoint, access in TABLE.items() if access.audience is Audience.STAFF]
    assert len(asked) >= 5
    for fresh in (True, False):
        if not fresh:
            await make_stale(owner_db)
        for endpoint in asked:
            method, _ = ROUTES[endpoint]
            path = path_of(endpoint, "")
            data = None if method == "GET" else {"csrf_token": token}
            assert (await signed_in.request(method, path, data=data)).status_code == 404, endpoint
    assert "/staff" not in (await signed_in.get("/account")).text
    assert await views(owner_db, subject) == []


async def test_staff_without_a_second_factor_are_sent_for_one(
    signed_in: Visitor, person: Person, subject: Person, owner_db: Database
) -> None:
    await grant_staff(owner_db, ACTOR, person.email)
    for path in ("/staff", at(subject)):
        sent = await signed_in.get(path)
        assert (sent.status_code, sent.headers["location"]) == (303, "/account/factors?done=required")
    assert await views(owner_db, subject) == []


async def test_each_view_is_recorded_where_it_belongs(
    operator: Visitor, person: Person, subject: Person, owner_db: Database
) -> None:
    page = (await operator.get("/staff", params={"search": "elsewhere"})).text
    assert "Elsewhere &amp; Co" in page
    assert "Acme" not in page.partition("</nav>")[2]
    shown = (await operator.get(at(subject))).text
    for told in ("eve@example.com", "Owner", str(subject.organization.org_id)):
        assert told in shown
    (mine,) = await views(owner_db, subject)
    assert (mine.actor_kind, mine.actor_id) == ("user", str(person.user.user_id))
    (systems,) = await views(owner_db, None)
    assert json.loads(systems.details)["search"] == "elsewhere"


async def test_suspending_needs_proof_and_a_reason_and_the_members_read_it(
    operator: Visitor, subject: Person, admin_db: Database, admin_url: str
) -> None:
    suspend = at(subject, "suspend")
    for reason in ("", "x" * 501):
        assert (await operator.submit(at(subject), {"reason": reason}, suspend)).status_code == 422
    await make_stale(admin_db)
    asked = await operator.submit(at(subject), {"reason": REASON}, suspend)
    assert asked.headers["location"] == "/prove"
    org_id = subject.organization.org_id
    assert (await select_organization(admin_db, org_id)).status is OrgStatus.ACTIVE
    await admin_db.execute("UPDATE sessions SET stepped_up_at = now()")
    done = await operator.submit(at(subject), {"reason": REASON}, suspend)
    assert "is suspended" in (await operator.get(done.headers["location"])).text
    async with Visitor(admin_url) as member:
        await member.sign_in(subject.email, subject.password)
        page = (await member.get(f"/organizations/{org_id}")).text
        assert "Sends spam &lt;to&gt; everybody." in page
    lifted = await operator.submit(at(subject), {}, at(subject, "lift"))
    assert "is lifted" in (await operator.get(lifted.headers["location"])).text
    assert (await select_organization(admin_db, org_id)).status is OrgStatus.ACTIVE
    # Once more does nothing.
    assert (await operator.submit(at(subject), {}, at(subject, "lift"))).status_code == 303


async def test_a_member_is_signed_out_everywhere(
    operator: Visitor, person: Person, subject: Person, admin_db: Database, admin_url: str
) -> None:
    act = at(subject, f"members/{subject.user.user_id}/sign-out")
    async with Visitor(admin_url) as member:
        await member.sign_in(subject.email, subject.password)
        assert (await member.get("/account")).status_code == 200
        await make_stale(admin_db)
        assert (await operator.submit(at(subject), {}, act)).headers["location"] == "/prove"
        assert (await member.get("/account")).status_code == 200
        await admin_db.execute("UPDATE sessions SET stepped_up_at = now()")
        done = await operator.submit(at(subject), {}, act)
        assert "was signed out everywhere" in (await operator.get(done.headers["location"])).text
        assert (await member.get("/account")).status_code == 303
    for log in (None, subject.organization.org_id):
        rows = [row for row in await select_audit_rows(admin_db, log) if row.event == "session:ended"]
        assert (rows[-1].actor_id, rows[-1].subject) == (str(person.user.user_id), str(subject.user.user_id))
    # Nobody is signed out by way of an organization that they are no member of.
    stranger = at(subject, f"members/{person.user.user_id}/sign-out")
    assert (await operator.submit(at(subject), {}, stranger)).status_code == 404
    assert (await operator.get("/account")).status_code == 200


async def test_a_plan_is_changed(operator: Visitor, subject: Person, admin_db: Database) -> None:
    done = await operator.submit(at(subject), {"plan": "enterprise"}, at(subject, "plan"))
    assert "The plan was changed" in (await operator.get(done.headers["location"])).text
    org_id = subject.organization.org_id
    assert (await select_organization(admin_db, org_id)).plan is Plan.ENTERPRISE
    assert (await operator.submit(at(subject), {"plan": "gold"}, at(subject, "plan"))).status_code == 400


async def test_what_is_not_there(operator: Visitor, subject: Person) -> None:
    token = {"csrf_token": await operator.token("/staff")}
    gone = "/staff/organizations/00000000-0000-4000-8000-000000000000"
    assert (await operator.get(gone)).status_code == 404
    for act, form in (("suspend", {"reason": "x"}), ("lift", {}), ("plan", {"plan": "pro"})):
        assert (await operator.post(f"{gone}/{act}", {**token, **form})).status_code == 404
    assert (await operator.get("/staff?after=x")).status_code == 404
    assert "No organization is like that" in (await operator.get("/staff?search=nobody")).text
