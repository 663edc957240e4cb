"""Usage that credit does not cover, for Stripe's meter: one row for an organization and hour, sent once.

Strategy. The hourly roll-up (`billable_hourly`) is charged to credit by the ledger, hour by hour, and credit
may go below zero. What is below zero and was not reported before is the next report. It says up to which
transaction it read the ledger, so that anybody can make it out again (`payment_checks`). It is put here in a
transaction that holds the ledger's lock, and sent only afterwards, under an identifier that Stripe takes
once. So after a crash it is sent again, and counted once. Stripe promises that for a day: what was tried
longer ago and never answered stays `unsure`, for people to look at (`karta billing reconcile` shows what
Stripe has) and to settle (`karta billing settle-report`), and is never sent again by itself.

Invoices do not come into it, whether they were paid, paid back or credited: what is reported is usage less
what was prepaid, and both only grow. Only organizations with a metered subscription are reported; the others
owe nothing that is not prepaid.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from storage import audit, ledger
from storage.audit import Event
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.model import Actor
from storage.queries import Queries

PICODOLLARS_PER_UNIT: Final = 10**6
"""Stripe counts whole numbers: millionths of a dollar."""
OF_INVOICES: Final = ("payment", "payment_refund", "credit_note")
"""Kinds of transactions that follow from invoices, and so from what was reported."""
CLAIM = timedelta(minutes=3)
SURE_FOR = timedelta(hours=20)
"""Within this after its first try a report may be sent again. Stripe knows an identifier for 24 hours at
least."""
ORGANIZATIONS_MAX = 500
CUSTOMERS_MAX = 100
"""Of one organization, one after the other: each was deleted at Stripe."""
TRIES_MAX = 100
WAIT_SECONDS_MAX = 1800


class MeterReport(msgspec.Struct, frozen=True, kw_only=True):
    org_id: UUID
    hour: datetime
    customer_id: str
    identifier: UUID
    value: int
    """Millionths of a dollar."""
    tries: int


async def select_metered(db: Queries, after: UUID | None = None) -> list[tuple[UUID, str]]:
    """Organizations with a metered subscription, and what Stripe calls them; `ORGANIZATIONS_MAX` at most,
    from behind `after`."""
    rows = await db.fetch(
        """
        SELECT c.org_id, c.customer_id
          FROM stripe_customers c
         WHERE c.customer_id IS NOT NULL AND ($1::uuid IS NULL OR c.org_id > $1)
           AND EXISTS (SELECT FROM stripe_subscriptions s
                        WHERE s.org_id = c.org_id AND s.metered AND s.ended_at IS NULL
                          AND s.status IN ('active', 'trialing', 'past_due'))
         ORDER BY c.org_id
         LIMIT $2
        """,
        after,
        ORGANIZATIONS_MAX,
    )
    return [(row["org_id"], row["customer_id"]) for row in rows]


async def add_report(db: Database, org_id: UUID, customer_id: str) -> int:
    """Puts down what is owed and was not reported yet, once an hour at most, for the last hour that was
    charged (`usage_charges.CLOSED_AFTER` its end). Returns the value, 0 for none."""
    async with db.transaction() as tx:
        await ledger.lock(tx, org_id)
        value = await tx.fetch_value(
            """
            INSERT INTO meter_reports (org_id, hour, customer_id, value, reported, through_transaction)
            SELECT $1, date_trunc('hour', now() - interval '75 minutes', 'UTC'), $2,
                   owed.units - earlier.units, owed.units, owed.through_transaction
              FROM (SELECT floor(-coalesce(sum(e.amount), 0) / $3)::bigint AS units,
                           max(e.transaction_id) AS through_transaction
                      FROM ledger_entries e JOIN ledger_transactions t USING (transaction_id)
                     WHERE e.org_id = $1 AND e.account = 'credit' AND t.kind <> ALL ($4)) owed,
                   (SELECT coalesce(sum(r.value), 0)::bigint AS units
                      FROM meter_reports r WHERE r.org_id = $1) earlier
             WHERE owed.units > earlier.units
            ON CONFLICT (org_id, hour) DO NOTHING
            RETURNING value
            """,
            org_id,
            customer_id,
            PICODOLLARS_PER_UNIT,
            list(OF_INVOICES),
        )
    return value or 0


async def claim_report(db: Queries) -> MeterReport | None:
    """The report that waits longest, for this caller alone. What was first tried too long ago becomes
    `unsure` instead."""
    await db.execute(
        "UPDATE meter_reports SET state = 'unsure'"
        " WHERE state = 'waiting' AND try_after <= now() AND tried_at < now() - $1::interval",
        SURE_FOR,
    )
    row = await db.fetch_row(
        """
        UPDATE meter_reports
           SET tries = tries + 1, tried_at = coalesce(tried_at, now()), try_after = now() + $1::interval
         WHERE (org_id, hour) = (SELECT org_id, hour FROM meter_reports
                                  WHERE state = 'waiting' AND try_after <= now()
                                  ORDER BY try_after LIMIT 1
                                    FOR UPDATE SKIP LOCKED)
        RETURNING org_id, hour, customer_id, identifier, value, tries
        """,
        CLAIM,
    )
    return None if row is None else MeterReport(**dict(row))


async def finish_report(db: Queries, report: MeterReport) -> None:
    """Stripe has taken it."""
    await db.execute(
        "UPDATE meter_reports SET state = 'sent', sent_at = now(), problem = NULL WHERE identifier = $1",
        report.identifier,
    )


async def put_off_report(db: Queries, report: MeterReport, problem: str, *, refused: bool = False) -> None:
    """Later again; or never, where Stripe has refused it."""
    await db.execute(
        """
        UPDATE meter_reports SET state = $2, problem = $3, try_after = now() + $4::interval
         WHERE identifier = $1 AND state = 'waiting'
        """,
        report.identifier,
        "refused" if refused else "waiting",
        audit.printable(problem, 500),
        timedelta(seconds=min(10 * 2 ** min(report.tries, 10), WAIT_SECONDS_MAX)),
    )


async def count_stuck_reports(db: Queries) -> int:
    """How many reports Stripe has refused, or may not have: people have to look."""
    count: int = await db.fetch_value(
        "SELECT count(*) FROM meter_reports WHERE state IN ('unsure', 'refused')"
    )
    return count


async def settle_report(db: Database, actor: Actor, org_id: UUID, hour: datetime, *, arrived: bool) -> None:
    """Somebody has found out what became of a report that is `unsure` or was refused: it counts as sent, or
    is sent again. Raises NotFound, and Conflict for one in another state."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            "SELECT identifier, state, value FROM meter_reports WHERE org_id = $1 AND hour = $2 FOR UPDATE",
            org_id,
            hour,
        )
        if row is None:
            raise NotFound("there is no report to the meter of that organization and hour")
        if row["state"] not in ("unsure", "refused"):
            raise Conflict(f"that report is {row['state']}, and there is nothing to settle")
        await tx.execute(
            """
            UPDATE meter_reports SET state = 'sent', sent_at = now(), problem = NULL WHERE identifier = $1
            """
            if arrived
            else """
            UPDATE meter_reports SET state = 'waiting', tries = 0, tried_at = NULL, try_after = now()
             WHERE identifier = $1
            """,
            row["identifier"],
        )
        details = {"hour": hour, "value": row["value"], "before": row["state"], "arrived": arrived}
        subject = str(row["identifier"])
        await audit.record(tx, actor, Event.PAYMENT_REPORT_SETTLED, org_id, subject, details)


async def sum_sent(db: Queries, org_id: UUID, since: datetime, until: datetime) -> dict[str, int]:
    """What Stripe has taken of the hours in [since, until), by customer."""
    rows = await db.fetch(
        """
        SELECT customer_id, sum(value)::bigint AS value FROM meter_reports
         WHERE org_id = $1 AND hour >= $2 AND hour < $3 AND state = 'sent'
         GROUP BY customer_id ORDER BY customer_id LIMIT $4
        """,
        org_id,
        since,
        until,
        CUSTOMERS_MAX,
    )
    return {row["customer_id"]: row["value"] for row in rows}
