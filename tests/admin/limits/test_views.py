"""Limits and budgets on their pages: what is set is kept, what is left alone stays as it was."""

from __future__ import annotations

import pytest

from admin import csrf
from storage.api_keys import mint_key
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.limits import LimitScope, select_limits, set_limit
from storage.model import LimitKind, Mode, Period, Role
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person

DOLLAR = 10**12


async def kept(db: Database, person: Person, key_id: str | None = None) -> dict[tuple[str, str], int]:
    found = await select_limits(db, person.organization.org_id, key_id)
    return {
        (one.limit.kind.value, one.limit.period.value): one.limit.amount
        for one in found
        if one.limit.key_id == key_id
    }


async def test_an_organizations_limits(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    page = f"/organizations/{person.organization.org_id}/limits"
    done = await signed_in.submit(page, {"requests": "60", "month": "12.50", "concurrent": "5"})
    assert done.status_code == 303
    assert await kept(admin_db, person) == {
        ("requests", "minute"): 60,
        ("money", "month"): 12_500_000_000_000,
        ("concurrent", "none"): 5,
    }
    shown = (await signed_in.get(done.headers["location"])).text
    assert "The limits were set" in shown
    assert 'value="12.50"' in shown
    assert "$0.00 of $12.50 used" in shown
    before = len(await select_audit_rows(admin_db, person.organization.org_id))
    await signed_in.submit(page, {"requests": "60", "month": "12.50"})
    assert await kept(admin_db, person) == {
        ("requests", "minute"): 60,
        ("money", "month"): 12_500_000_000_000,
    }
    assert len(await select_audit_rows(admin_db, person.organization.org_id)) == before + 1


async def test_a_keys_own(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    org_id = person.organization.org_id
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="Web", mode=Mode.LIVE)
    page = f"/organizations/{org_id}/keys/{key.key_id}/limits"
    assert (await signed_in.submit(page, {"tokens": "1000"})).status_code == 303
    assert await kept(admin_db, person, key.key_id) == {("tokens", "minute"): 1000}
    assert await kept(admin_db, person) == {}


async def test_what_was_chosen_elsewhere_stays(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    scope = LimitScope(org_id=org_id, kind=LimitKind.MONEY, period=Period.MONTH)
    await set_limit(admin_db, ACTOR, scope, DOLLAR, hard=False, thresholds=(90,))
    other = LimitScope(org_id=org_id, kind=LimitKind.MONEY, period=Period.MONTH, model="gpt-6-sol")
    await set_limit(admin_db, ACTOR, other, 5 * DOLLAR)
    await signed_in.submit(f"/organizations/{org_id}/limits", {"month": "2"})
    limits = {one.limit.model: one.limit for one in await select_limits(admin_db, org_id)}
    assert (limits[None].amount, limits[None].hard, limits[None].thresholds) == (2 * DOLLAR, False, (90,))
    assert limits["gpt-6-sol"].amount == 5 * DOLLAR


@pytest.mark.parametrize("amount", ["-1", "0", "x", "1.5", "9" * 25])
async def test_what_is_no_amount_changes_nothing(
    signed_in: Visitor, person: Person, admin_db: Database, amount: str
) -> None:
    page = f"/organizations/{person.organization.org_id}/limits"
    refused = await signed_in.submit(page, {"tokens": "100", "requests": amount})
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert await kept(admin_db, person) == {}


async def test_the_largest_amount_is_kept(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    page = f"/organizations/{person.organization.org_id}/limits"
    assert (await signed_in.submit(page, {"requests": str(10**18)})).status_code == 303
    assert await kept(admin_db, person) == {("requests", "minute"): 10**18}


async def test_a_viewer_sees_and_sets_nothing(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    page = f"/organizations/{person.organization.org_id}/limits"
    await signed_in.submit(page, {"requests": "60"})
    await admin_db.execute("UPDATE memberships SET role = $1", Role.VIEWER.value)
    shown = (await signed_in.get(page)).text
    assert "0 of 60 used" in shown
    assert "Set the limits" not in shown
    form = {csrf.FIELD: await signed_in.token("/account"), "requests": "1"}
    assert (await signed_in.post(page, form)).status_code == 403
