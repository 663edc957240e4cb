"""Usage becomes entries of the ledger, once; included credit goes first, and by the month; credit in advance
is a limit."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.bridge import Database
from storage.errors import CheckFailed, NotFound
from storage.leases import LeaseRequest, LeaseState, settle_leases
from storage.ledger import Account, Balance, EntryKind, select_balance, select_statement
from storage.limits import LimitScope, select_limits, set_limit
from storage.model import Actor, CredentialKind, LimitKind, Organization, Period, Plan, UsageRecord
from storage.organizations import create_organization
from storage.retention import rebuild_hourly
from storage.usage_charges import _select_behind, charge_usage, set_prepaid, turn_month
from storage.usage_rows import LATE_PREFIX
from tests.storage.explaining import explain
from tests.storage.ledger_posts import select_accounts, top_up
from tests.storage.usage_records import insert_usage, usage

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
DOLLAR = 10**12


def platform(org: Organization, charged: int, **changes: Any) -> UsageRecord:
    facts = {
        "org_id": org.org_id,
        "started_at": NOON,
        "credential_kind": CredentialKind.PLATFORM,
        "credential_id": None,
        "cost_picodollars": charged,
        "charged_picodollars": charged,
    }
    return usage(**(facts | changes))


async def give(db: Database, actor: Actor, org_id: UUID, amount: int, source: str = "stripe:evt") -> None:
    async with db.transaction() as tx:
        await top_up(tx, org_id, amount, f"{source}:{org_id}")


async def test_what_the_platform_paid_for_is_charged_when_its_hour_has_ended(
    admin_db: Database, gateway_db: Database, org: Organization
) -> None:
    rows = [
        platform(org, 5),
        platform(org, 7, cost_picodollars=None),
        platform(org, 100, credential_kind=CredentialKind.BYOK, credential_id=uuid4()),
        platform(org, 1000, credential_kind=CredentialKind.SIMULATED),
        platform(org, 40, started_at=NOON + timedelta(hours=1)),
        usage(credential_kind=CredentialKind.PLATFORM),  # of an organization that does not exist
    ]
    await insert_usage(gateway_db, rows)
    await insert_usage(gateway_db, rows)
    assert await charge_usage(admin_db, NOON + timedelta(minutes=39)) == 0
    assert await charge_usage(admin_db, NOON + timedelta(minutes=40)) == 1
    assert await charge_usage(admin_db, NOON + timedelta(minutes=40)) == 0
    [line] = await select_statement(admin_db, org.org_id)
    assert (line.kind, line.credit, line.note) == (EntryKind.USAGE, -12, "2 requests")
    assert line.source == f"usage:{org.org_id}:2026-03-10T12"
    assert line.period_start == NOON.replace(minute=0)


async def test_what_comes_late_is_a_correction(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await insert_usage(gateway_db, [platform(org, 5)])
    assert await charge_usage(admin_db, LATER) == 1
    late = platform(org, 3, request_id=LATE_PREFIX + uuid4().hex[8:])
    await insert_usage(gateway_db, [late, platform(org, 2)])
    assert await charge_usage(admin_db, LATER) == 1
    # A row that is gone, and sums made anew: what was charged too much is given back.
    await owner_db.execute("DELETE FROM usage WHERE charged_picodollars = 5")
    await rebuild_hourly(owner_db, actor, org.org_id, NOON, LATER)
    assert await charge_usage(admin_db, LATER) == 1
    lines = await select_statement(admin_db, org.org_id)
    assert [(line.kind, line.credit) for line in lines] == [
        (EntryKind.CORRECTION, 5),
        (EntryKind.CORRECTION, -5),
        (EntryKind.USAGE, -5),
    ]
    assert lines[0].source.endswith("T12:3")
    assert (await select_accounts(admin_db, org.org_id))[Account.USAGE] == 5


async def test_included_credit_goes_first_and_comes_back_last(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await turn_month(admin_db, NOON)
    included = 20 * DOLLAR
    assert await select_balance(admin_db, org.org_id) == Balance(credit=0, included=included)
    await insert_usage(gateway_db, [platform(org, included - 5), platform(org, 15)])
    await charge_usage(admin_db, LATER)
    assert await select_balance(admin_db, org.org_id) == Balance(credit=-10, included=0)
    await owner_db.execute("DELETE FROM usage WHERE charged_picodollars = 15")
    await rebuild_hourly(owner_db, actor, org.org_id, NOON, LATER)
    await charge_usage(admin_db, LATER)
    assert await select_balance(admin_db, org.org_id) == Balance(credit=0, included=5)


async def test_whose_month_has_been_turned_is_not_looked_at_again(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    """By a note of it and not by the ledger of everybody; what is given is by the ledger alone."""
    included, noted = 20 * DOLLAR, "SELECT turned_month, turned_given FROM organizations"
    assert "organizations_turned" in await explain(
        admin_db, partial(_select_behind, plan=Plan.PRO, included=included, month=MARCH)
    )
    await admin_db.execute("UPDATE organizations SET turned_month = $1, turned_given = $2", MARCH, included)
    assert await turn_month(admin_db, NOON) == 0
    assert (await select_balance(admin_db, org.org_id)).included == 0
    for noted_given, turned in ((included - 1, 1), (0, 0)):
        await admin_db.execute("UPDATE organizations SET turned_given = $1", noted_given)
        assert await turn_month(admin_db, NOON) == turned
        row = await admin_db.fetch_row(noted)
        assert row is not None
        assert (row["turned_month"], row["turned_given"]) == (MARCH, included)
        assert (await select_balance(admin_db, org.org_id)).included == included


async def test_a_month_brings_its_credit_and_takes_the_rest_of_the_last(
    admin_db: Database, gateway_db: Database, owner_db: Database, org: Organization, actor: Actor
) -> None:
    free = await create_organization(admin_db, actor, name="Free", plan=Plan.FREE)
    whole = await create_organization(admin_db, actor, name="Enterprise", plan=Plan.ENTERPRISE)
    assert await turn_month(admin_db, NOON) == 2
    assert await turn_month(admin_db, NOON) == 0
    await insert_usage(gateway_db, [platform(free, 2 * DOLLAR)])
    await charge_usage(admin_db, LATER)
    # A dearer plan within the month is made up for; a cheaper one takes nothing back, nor gives again.
    for plan, turned in ((Plan.PRO, 1), (Plan.FREE, 0), (Plan.PRO, 0)):
        await owner_db.execute(
            "UPDATE organizations SET plan = $2 WHERE org_id = $1", free.org_id, plan.value
        )
        assert await turn_month(admin_db, LATER) == turned
    assert (await select_balance(admin_db, free.org_id)).included == 18 * DOLLAR
    await owner_db.execute("UPDATE organizations SET plan = 'enterprise' WHERE org_id = $1", org.org_id)

    april = datetime(2026, 4, 1, tzinfo=UTC)
    assert await turn_month(admin_db, april + timedelta(minutes=9)) == 0
    assert await turn_month(admin_db, april + timedelta(minutes=10)) == 2
    assert await turn_month(admin_db, april + timedelta(minutes=10)) == 0
    balances = [(await select_balance(admin_db, one.org_id)).included for one in (free, org, whole)]
    assert balances == [20 * DOLLAR, 0, 0]
    kinds = [(line.kind, line.included // DOLLAR) for line in await select_statement(admin_db, free.org_id)]
    assert kinds == [
        (EntryKind.GRANT, 20),
        (EntryKind.EXPIRY, -18),
        (EntryKind.GRANT, 15),
        (EntryKind.USAGE, -2),
        (EntryKind.GRANT, 5),
    ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), batches=st.integers(1, 6))
async def test_however_usage_arrives_it_is_charged_once(
    admin_db: Database, gateway_db: Database, actor: Actor, seed: int, batches: int
) -> None:
    """Batches come, some of them twice, while several workers charge: the ledger has what the rows say."""
    chance = random.Random(seed)
    org = await create_organization(admin_db, actor, name="x", plan=Plan.PRO)
    await give(admin_db, actor, org.org_id, 50)
    rows = [
        platform(org, chance.randint(0, 9), started_at=NOON + timedelta(hours=chance.randint(0, 3)))
        for _ in range(batches * 3)
    ]

    async def ship(part: list[UsageRecord]) -> None:
        await insert_usage(gateway_db, part)
        if chance.random() < 0.5:
            await insert_usage(gateway_db, part)

    async def charge() -> None:
        for _ in range(2):
            await charge_usage(admin_db, NOON + timedelta(days=1))

    async with trio.open_nursery() as nursery:
        for number in range(batches):
            nursery.start_soon(ship, rows[number::batches])
        nursery.start_soon(charge)
        nursery.start_soon(charge)
    await charge_usage(admin_db, NOON + timedelta(days=1))
    total = sum(row.charged_picodollars for row in rows)
    assert await select_balance(admin_db, org.org_id) == Balance(credit=50 - total, included=0)
    accounts = await select_accounts(admin_db, org.org_id)
    assert sum(accounts.values()) == 0
    assert accounts.get(Account.USAGE, 0) == total


def lease(limit_id: int, wanted: int) -> LeaseRequest:
    return LeaseRequest(limit_id, 0, 1, 0, 0, wanted, 1)


async def test_credit_in_advance_is_a_limit_that_follows_the_ledger(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    with pytest.raises(NotFound):
        await set_prepaid(admin_db, actor, uuid4(), True)
    owner = uuid4()
    await insert_usage(gateway_db, [platform(org, 30)])
    await give(admin_db, actor, org.org_id, 100)
    assert await set_prepaid(admin_db, actor, org.org_id, True)
    assert not await set_prepaid(admin_db, actor, org.org_id, True)
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert (standing.limit.kind, standing.limit.amount, standing.settled) == (LimitKind.CREDIT, 100, 30)
    await give(admin_db, actor, org.org_id, 20, "more")
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert standing.limit.amount == 120

    # Charging the hour changes nothing of what is left: it was counted when it was stored.
    await charge_usage(admin_db, LATER)
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert (standing.limit.amount, standing.settled) == (120, 30)
    [answer] = await settle_leases(gateway_db, owner, 1, [lease(standing.limit.limit_id, 1000)])
    assert (answer.state, answer.granted + answer.available) == (LeaseState.OPEN, 90)

    # Only what the platform paid for is taken from it.
    byok = platform(org, 50, credential_kind=CredentialKind.BYOK, credential_id=uuid4())
    await insert_usage(gateway_db, [byok, platform(org, 10)], owner)
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert (standing.settled, standing.held) == (40, answer.granted - 10)
    with pytest.raises(CheckFailed):
        scope = LimitScope(org_id=org.org_id, kind=LimitKind.CREDIT, period=Period.NONE)
        await set_limit(admin_db, actor, scope, 10**15)
    assert await set_prepaid(admin_db, actor, org.org_id, False)
    assert await select_limits(admin_db, org.org_id, of_plan=True) == []


async def test_credit_lost_with_a_journal_can_be_had_again(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await give(admin_db, actor, org.org_id, 100)
    await set_prepaid(admin_db, actor, org.org_id, True)
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    limit_id = standing.limit.limit_id
    lost, alive = uuid4(), uuid4()
    [answer] = await settle_leases(gateway_db, lost, 1, [lease(limit_id, 40)])
    await owner_db.execute("UPDATE quota_leases SET expires_at = now() - interval '2 days'")
    await settle_leases(gateway_db, alive, 1, [lease(limit_id, 0)])
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert standing.written_off == answer.granted > 0
    await gateway_db.fetch_value("SELECT prune_quota(100)")
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert standing.written_off == answer.granted
    await owner_db.execute(
        "UPDATE quota_leases SET expires_at = now() - interval '8 days' WHERE owner = $1", lost
    )
    await gateway_db.fetch_value("SELECT prune_quota(100)")
    [standing] = await select_limits(admin_db, org.org_id, of_plan=True)
    assert standing.written_off == 0
