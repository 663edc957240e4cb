"""Requests, their sums and the ledger agree; and when one of them is tampered with, the hour is named."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from storage.bridge import Database
from storage.errors import NotFound
from storage.model import Actor, CredentialKind, Organization, Plan
from storage.organizations import create_organization
from storage.queries import Queries
from storage.reconciliation import Difference, Reconciliation, reconcile
from storage.usage_charges import charge_usage, set_prepaid, turn_month
from tests.reconcile_month import run_month
from tests.storage.test_usage_charges import NOON, give, platform
from tests.storage.usage_records import insert_usage

SINCE, UNTIL, NOW = NOON - timedelta(days=3), NOON + timedelta(days=3), NOON + timedelta(days=2)


async def compare(db: Queries, **more: object) -> Reconciliation:
    return await reconcile(db, SINCE, UNTIL, now=NOW, **more)  # type: ignore[arg-type]


@pytest.fixture
async def used(admin_db: Database, gateway_db: Database, actor: Actor, org: Organization) -> Organization:
    """Two organizations' days: own keys and the platform's, paid in advance, one hour not ended."""
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.FREE)
    await give(admin_db, actor, org.org_id, 10**6)
    await set_prepaid(admin_db, actor, org.org_id, True)
    rows = [
        platform(one, 7 + number, started_at=NOON + timedelta(hours=number), credential_kind=kind)
        for number in range(5)
        for one in (org, other)
        for kind in (CredentialKind.PLATFORM, CredentialKind.BYOK)
    ]
    rows.append(platform(org, 50, started_at=NOW))
    await insert_usage(gateway_db, rows)
    await charge_usage(admin_db, NOW)
    await turn_month(admin_db, NOW)
    return org


async def test_a_simulated_month_agrees(admin_db: Database, used: Organization) -> None:
    report = await compare(admin_db)
    assert report.differences == ()
    assert report.agrees
    assert (report.organizations, report.requests, report.billable_requests) == (2, 21, 11)
    assert (report.billable_picodollars, report.posted_picodollars) == (2 * 45 + 50, 2 * 45)
    assert report.open_picodollars == 50
    one = await compare(admin_db, org_id=used.org_id)
    assert (one.organizations, one.requests) == (1, 11)
    with pytest.raises(NotFound):
        await compare(admin_db, org_id=uuid4())


DAMAGE = {
    "requests: rows and hourly sums": "UPDATE usage_hourly SET requests = requests + 1",
    "charged: rows and hourly sums": "UPDATE usage_hourly SET charged_picodollars = 1",
    "cost: rows and hourly sums": "UPDATE usage_hourly SET cost_picodollars = 1",
    "tokens: rows and hourly sums": "UPDATE usage_hourly SET output_tokens = 1",
    "billable requests: rows and billable sums": "UPDATE billable_hourly SET requests = 0",
    "billable: rows and billable sums": "UPDATE billable_hourly SET picodollars = 1",
    "posted: billable sums and ledger": "UPDATE billable_hourly SET posted = 1",
    "charged for: billable sums and ledger": "UPDATE billable_hourly SET picodollars = 1",
}


class _Undo(Exception):
    """Takes the damage back."""


async def test_a_difference_is_named_with_its_hour(owner_db: Database, used: Organization) -> None:
    hour = (NOON + timedelta(hours=2)).replace(minute=0)
    for what, statement in DAMAGE.items():
        with contextlib.suppress(_Undo):
            async with owner_db.transaction() as tx:
                await tx.execute(f"{statement} WHERE org_id = $1 AND hour = $2", used.org_id, hour)
                report = await compare(tx)
                assert not report.agrees
                found = {(one.org_id, one.hour) for one in report.differences if one.hour}
                assert found == {(used.org_id, hour)}, what
                assert what in {one.what for one in report.differences}
                raise _Undo
    assert (await compare(owner_db)).agrees


async def test_a_row_that_is_gone_and_one_that_nobody_counted(
    admin_db: Database, owner_db: Database, used: Organization
) -> None:
    await owner_db.execute("DELETE FROM usage WHERE org_id = $1 AND charged_picodollars = 8", used.org_id)
    report = await compare(admin_db)
    assert {one.what for one in report.differences} >= {"requests: rows and hourly sums"}
    # The first hour's requests all left, as they do by their age: then the sums are believed.
    await owner_db.execute("DELETE FROM usage WHERE started_at < $1", NOON + timedelta(hours=2))
    assert (await compare(admin_db)).agrees


async def test_prepaid_credit_that_gateways_see_otherwise(
    admin_db: Database, owner_db: Database, used: Organization
) -> None:
    await owner_db.execute("UPDATE limits SET amount = amount + 1 WHERE kind = 'credit'")
    [one] = (await compare(admin_db)).differences
    assert (one.what, one.hour, one.found - one.expected) == ("prepaid credit: ledger and limit", None, 1)
    assert one.org_id == used.org_id


async def test_others_may_compare_as_well(admin_db: Database, used: Organization) -> None:
    async def check(db: Queries, org_id: UUID, since: object, until: object) -> Sequence[Difference]:
        assert (since, until) == (SINCE.replace(minute=0), UNTIL.replace(minute=0))
        found = await db.fetch_value("SELECT count(*) FROM ledger_transactions WHERE org_id = $1", org_id)
        return [Difference(org_id=org_id, hour=None, what="told elsewhere", expected=0, found=found)]

    report = await compare(admin_db, org_id=used.org_id, checks=(check,))
    assert [(one.what, one.found) for one in report.differences] == [("told elsewhere", 7)]


async def test_a_month_in_small(database_url: str) -> None:
    """What `tox -e reconcile` does with a million."""
    await run_month(database_url, 1500, 500)
