"""What usage costs and plans give, posted to the ledger: by hours that have ended, and by months.

What went up with the platform's provider keys is charged for; requests with keys of the organization's own
and test keys are not. The amount is what budgets are charged: the cost, or the stand-in where the price is
unknown (docs/decisions/0112). Requests that are learnt of later change an hour's sum, and the difference is
posted as a correction.

Exactly once. An hour and what of it was posted are one row, changed in the transaction that posts; each
posting has a source of its own, which the ledger takes once. So it does not matter how many do this at a
time, or where one of them is cut off.

A month's included credit is given in the month's first round, after the last hours of the month before were
charged; what was left of that month's goes. A plan that gives more is made up for within the month.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from storage import audit, ledger
from storage.audit import Event
from storage.bridge import Database
from storage.ledger import Account, EntryKind
from storage.model import Actor, Plan
from storage.plans import TERMS, lock_plan
from storage.queries import Queries

CLOSED_AFTER: Final = timedelta(minutes=10)
"""How long after its end an hour is charged: journals are shipped within seconds. What comes later is a
correction."""
ORGS_MAX: Final = 500
"""Of one look; a round looks again until nothing is left."""
ROUNDS_MAX: Final = 100
"""Looks of one call: what is left then is the next call's."""
HOURS_MAX: Final = 1000
"""Posted in one transaction: about a second."""


async def charge_usage(db: Database, now: datetime | None = None) -> int:
    """Posts all hours that have ended; returns how many. Safe to call at any time and concurrently."""
    before = _hour((now or datetime.now(UTC)) - CLOSED_AFTER)
    charged = 0
    for _ in range(ROUNDS_MAX):
        done = 0
        for org_id in await _select_due(db, before):
            async with db.transaction() as tx:
                done += await tx.fetch_value("SELECT charge_usage($1, $2, $3)", org_id, before, HOURS_MAX)
        charged += done
        if not done:
            break  # Nothing is left, or others are at it.
    return charged


async def _select_due(db: Queries, before: datetime) -> list[UUID]:
    rows = await db.fetch(
        """
        SELECT DISTINCT b.org_id FROM billable_hourly b JOIN organizations o USING (org_id)
         WHERE b.picodollars <> b.posted AND b.hour < $1
         ORDER BY b.org_id LIMIT $2
        """,
        before,
        ORGS_MAX,
    )
    return [row["org_id"] for row in rows]


async def turn_month(db: Database, now: datetime | None = None) -> int:
    """Gives this month's included credit to whom it is missing, and takes back what is left of an earlier
    month's; returns how many organizations were concerned. Call it after `charge_usage`.

    What a correction gives back within the month stays until the month ends.
    """
    # Not before the last hour of the month before has been charged.
    month = _month((now or datetime.now(UTC)) - CLOSED_AFTER)
    turned = 0
    for terms in TERMS.values():
        for _ in range(ROUNDS_MAX):
            behind = await _select_behind(db, terms.plan, terms.included_picodollars, month)
            if not behind:
                break
            for org_id in behind:
                turned += await _turn(db, org_id, month)
    return turned


async def _select_behind(db: Queries, plan: Plan, included: int, month: datetime) -> list[UUID]:
    """Those whose month was not turned yet, or who have been given less than that of it."""
    rows = await db.fetch(
        """
        SELECT org_id FROM organizations
         WHERE plan = $1 AND deleted_at IS NULL AND status = 'active'
           AND (turned_month, turned_given) < ($3, $2)
         ORDER BY turned_month, turned_given LIMIT $4
        """,
        plan.value,
        included,
        month,
        ORGS_MAX,
    )
    return [row["org_id"] for row in rows]


async def _turn(db: Database, org_id: UUID, month: datetime) -> bool:
    async with db.transaction() as tx:
        plan, _ = await lock_plan(tx, org_id)
        await ledger.lock(tx, org_id)
        row = await tx.fetch_row(
            """
            SELECT count(*) AS grants, coalesce(sum(e.amount), 0)::bigint AS given
              FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
             WHERE t.org_id = $1 AND t.period_start = $2 AND t.kind = 'grant' AND e.account = 'included'
            """,
            org_id,
            month,
        )
        assert row is not None
        left = (await ledger.select_balance(tx, org_id)).included
        turned = False
        if not row["grants"] and left > 0:
            entries = {Account.INCLUDED: -left, Account.PROMOTION: left}
            source = f"expiry:{org_id}:{month:%Y-%m}"
            turned = (
                await ledger.post(tx, org_id, EntryKind.EXPIRY, source, entries, period_start=month)
                is not None
            )
        missing = TERMS[plan].included_picodollars - row["given"]
        if missing > 0:
            entries = {Account.INCLUDED: missing, Account.PROMOTION: -missing}
            source = f"grant:{org_id}:{month:%Y-%m}:{row['grants'] + 1}"
            note = f"{TERMS[plan].name} plan, {month:%B %Y}"
            await ledger.post(tx, org_id, EntryKind.GRANT, source, entries, period_start=month, note=note)
            turned = True
        await tx.execute(
            "UPDATE organizations SET turned_month = $2, turned_given = $3 WHERE org_id = $1",
            org_id,
            month,
            row["given"] + max(missing, 0),
        )
    return turned


async def set_prepaid(db: Database, actor: Actor, org_id: UUID, prepaid: bool) -> bool:
    """Whether an organization pays in advance: then nothing goes up with the platform's keys beyond its
    credit. Returns whether that changed. Raises NotFound."""
    async with db.transaction() as tx:
        await lock_plan(tx, org_id)
        before = await tx.fetch_value("SELECT prepaid FROM organizations WHERE org_id = $1", org_id)
        if before is prepaid:
            return False
        await tx.execute("UPDATE organizations SET prepaid = $2 WHERE org_id = $1", org_id, prepaid)
        if prepaid:
            await tx.execute("SELECT open_credit($1)", org_id)
        else:
            await tx.execute(
                "UPDATE limits SET removed_at = now(), updated_at = now()"
                " WHERE org_id = $1 AND kind = 'credit' AND removed_at IS NULL",
                org_id,
            )
        details = {"prepaid": prepaid}
        await audit.record(tx, actor, Event.ORGANIZATION_BILLING_CHANGED, org_id, str(org_id), details)
    return True


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _month(moment: datetime) -> datetime:
    return _hour(moment).replace(day=1, hour=0)
