"""The plan's page, and going to a smaller plan."""

from __future__ import annotations

import pytest

from storage.bridge import Database
from storage.credentials import select_credentials, set_credential
from storage.model import Plan
from storage.organizations import select_organization, set_plan
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person

FREE = {"to": "free"}


async def bring_key(db: Database, person: Person) -> None:
    secret = bytearray(b"sk-ant-0123456789-abcd")
    org_id = person.organization.org_id
    await set_credential(db, ACTOR, MASTER_KEYS, org_id=org_id, provider="anthropic", secret=secret)


async def test_the_page_shows_what_there_is_and_what_is_used(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    home = f"/organizations/{person.organization.org_id}"
    page = (await signed_in.get(f"{home}/plan")).text
    assert "<h1>Pro plan</h1>" in page
    assert "1 of 25" in page
    # Nobody gives themselves a dearer plan where no payments are set up.
    assert "karta org set-plan" in page
    assert f"{home}/plan/change?to=free" in page
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    page = (await signed_in.get(f"{home}/plan")).text
    assert "<h1>Free plan</h1>" in page
    assert "Requests a minute" in page
    assert "plan/change" not in page


async def test_a_smaller_plan_is_taken_after_what_follows_was_told(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    home = f"/organizations/{org_id}"
    await bring_key(admin_db, person)
    told = (await signed_in.get(f"{home}/plan/change?to=free")).text
    assert "are suspended at once" in told
    assert "30 days" in told
    response = await signed_in.submit(f"{home}/plan/change?to=free", FREE, f"{home}/plan/change")
    assert response.status_code == 303
    assert (await select_organization(admin_db, org_id)).plan is Plan.FREE
    [credential] = await select_credentials(admin_db, org_id)
    assert credential.suspended_at is not None
    page = (await signed_in.get(f"{home}/plan?done=changed")).text
    assert "The plan was changed." in page
    assert "are suspended, since" in page
    assert "suspended" in (await signed_in.get(f"{home}/provider-keys")).text


@pytest.mark.parametrize("to", ["pro", "enterprise", "gold", ""])
async def test_no_other_plan_is_taken_here(
    signed_in: Visitor, person: Person, admin_db: Database, to: str
) -> None:
    home = f"/organizations/{person.organization.org_id}"
    assert (await signed_in.get(f"{home}/plan/change?to={to}")).status_code == 400
    response = await signed_in.submit(f"{home}/plan/change?to=free", {"to": to}, f"{home}/plan/change")
    assert response.status_code == 400
    assert (await select_organization(admin_db, person.organization.org_id)).plan is Plan.PRO


async def test_what_the_plan_has_no_room_for_is_told_with_the_mend(
    signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    org_id = person.organization.org_id
    home = f"/organizations/{org_id}"
    await set_plan(admin_db, ACTOR, org_id, Plan.FREE)
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        SELECT lpad(n::text, 12, '0'), $1, 'k', 'live', 'abcd', $2 FROM generate_series(1, 10) n
        """,
        org_id,
        b"$2b$12$" + b"a" * 53,
    )
    page = await signed_in.get(f"{home}/keys/new")
    once = page.text.partition('name="once" value="')[2].partition('"')[0]
    refused = await signed_in.submit(f"{home}/keys/new", {"name": "k", "mode": "live", "once": once})
    assert refused.status_code == 403
    assert "10 API keys, and 10 are in use" in refused.text
    assert "karta org set-plan" in refused.text
    for name in ("bob", "cleo"):
        form = {"email": f"{name}@example.com", "role": "viewer"}
        sent = await signed_in.submit(f"{home}/members", form, f"{home}/invitations")
        assert sent.status_code == 303
    form = {"email": "dan@example.com", "role": "viewer"}
    refused = await signed_in.submit(f"{home}/members", form, f"{home}/invitations")
    assert refused.status_code == 409
    assert "3 seats, and 3 are in use" in refused.text


async def test_a_plan_that_is_paid_for_is_ended_where_it_is_paid(
    signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    org_id = person.organization.org_id
    home = f"/organizations/{org_id}"
    await owner_db.execute(
        """
        INSERT INTO stripe_subscriptions
               (subscription_id, org_id, status, plan, seats, metered, started_at, reading)
        VALUES ('sub_1', $1, 'active', 'pro', 1, true, now(), 1)
        """,
        org_id,
    )
    page = (await signed_in.get(f"{home}/plan")).text
    assert "plan/change" not in page
    assert f"{home}/payments" in page
    refused = await signed_in.submit(f"{home}/plan", FREE, f"{home}/plan/change")
    assert refused.headers["location"] == f"{home}/payments?done=first"
    assert (await select_organization(admin_db, org_id)).plan is Plan.PRO
    await owner_db.execute("UPDATE stripe_subscriptions SET status = 'canceled', ended_at = now()")
    assert "plan/change" in (await signed_in.get(f"{home}/plan")).text
