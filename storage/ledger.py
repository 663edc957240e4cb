"""The ledger: all money of organizations, as append-only double entries. A balance is a sum of them.

Strategy. One function of the database writes (`post_ledger` of migrations/0024_ledger.sql): it takes entries
that add up to zero, once for each `source`, and never changes what is there; triggers see to that for
everybody. What is wrong is put right by another transaction. Posting the same again is no error, so whoever
does not know whether it happened does it again.

Amounts are picodollars. Of `CREDIT` and `INCLUDED` more is better for the organization: a top-up adds to
credit and takes from `STRIPE`, where it came from; usage takes from them and adds to `USAGE`.

What came in or went out by somebody's doing has its audit row as well; usage has none, since the ledger
itself tells it. `usage_charges` turns usage and plans into entries, `stripe_checkouts` and `stripe_invoices`
what was paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Transaction
from storage.errors import InvalidValue
from storage.model import Actor
from storage.queries import Queries, Record

PAGE_ROWS_MAX: Final = 1000
AMOUNT_MAX: Final = 10**18
"""Of one transaction: a million dollars."""
_SHOWN: Final = "('credit', 'included')"


class Account(StrEnum):
    CREDIT = "credit"
    """What was paid in advance; below zero, what is owed."""
    INCLUDED = "included"
    """What is left of the month's credit that comes with the plan."""
    USAGE = "usage"
    STRIPE = "stripe"
    """Money that Stripe took or gave back."""
    REFUNDS = "refunds"
    PROMOTION = "promotion"
    """Where the plans' credit comes from, and what is unused of it goes."""
    ADJUSTMENTS = "adjustments"


class EntryKind(StrEnum):
    TOP_UP = "top_up"
    PAYMENT = "payment"
    """Of an invoice."""
    PAYMENT_REFUND = "payment_refund"
    """What was paid for usage by an invoice, and went back: it is owed again."""
    CREDIT_NOTE = "credit_note"
    """Usage that is not owed after all, as a credit note to its invoice says."""
    REFUND = "refund"
    USAGE = "usage"
    CORRECTION = "correction"
    """Of an hour's usage that was posted before: requests that were learnt of late."""
    GRANT = "grant"
    EXPIRY = "expiry"
    ADJUSTMENT = "adjustment"


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an organization has to spend, in picodollars."""

    credit: int
    included: int

    @property
    def total(self) -> int:
        return self.credit + self.included


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as the organization sees it: what it did to credit and to included credit, and what
    there was of both afterwards."""

    transaction_id: int
    created_at: datetime
    kind: EntryKind
    source: str
    period_start: datetime | None
    note: str
    credit: int
    included: int
    balance: int


async def post(
    tx: Transaction,
    org_id: UUID,
    kind: EntryKind,
    source: str,
    entries: Mapping[Account, int],
    *,
    period_start: datetime | None = None,
    note: str = "",
) -> int | None:
    """Writes one transaction; returns its id, or None when the same was written before.

    Raises CheckFailed for entries that do not add up to zero, Conflict for another transaction of the same
    source, InvalidReference for an unknown organization.
    """
    kept = {account.value: amount for account, amount in entries.items() if amount}
    posted: int | None = await tx.fetch_value(
        "SELECT post_ledger($1, $2, $3, $4, $5, $6::text[], $7::bigint[])",
        org_id,
        kind.value,
        source,
        period_start,
        audit.printable(note, audit.SUBJECT_CHARS_MAX),
        list(kept),
        list(kept.values()),
    )
    return posted


async def adjust(
    tx: Transaction, actor: Actor, org_id: UUID, picodollars: int, source: str, *, note: str
) -> int | None:
    """Credit that staff give, or take (below zero). `note` says why."""
    if not 0 < abs(picodollars) <= AMOUNT_MAX:
        raise InvalidValue(f"an amount is 1 to {AMOUNT_MAX} picodollars")
    entries = {Account.CREDIT: picodollars, Account.ADJUSTMENTS: -picodollars}
    posted = await post(tx, org_id, EntryKind.ADJUSTMENT, source, entries, note=note)
    if posted is not None:
        details = {"transaction": posted, "picodollars": picodollars, "note": note}
        await audit.record(tx, actor, Event.CREDIT_ADJUSTED, org_id, source, details)
    return posted


async def lock(tx: Transaction, org_id: UUID) -> None:
    """Until the transaction ends nobody else posts for the organization."""
    await tx.execute("SELECT lock_ledger($1)", org_id)


async def select_balance(db: Queries, org_id: UUID) -> Balance:
    """The sums of all entries of what an organization has to spend."""
    row = await db.fetch_row(
        """
        SELECT coalesce(sum(amount) FILTER (WHERE account = 'credit'), 0)::bigint AS credit,
               coalesce(sum(amount) FILTER (WHERE account = 'included'), 0)::bigint AS included
          FROM ledger_entries
         WHERE org_id = $1 AND account IN ('credit', 'included')
        """,
        org_id,
    )
    assert row is not None
    return Balance(credit=row["credit"], included=row["included"])


async def select_statement(
    db: Queries, org_id: UUID, limit: int = PAGE_ROWS_MAX, before: int | None = None
) -> list[StatementLine]:
    """The newest transactions first; `before` is the last transaction's id of the page before."""
    rows = await db.fetch(
        f"""
        WITH page AS (
             SELECT t.transaction_id, t.created_at, t.kind, t.source, t.period_start, t.note
               FROM ledger_transactions t
              WHERE t.org_id = $1 AND ($3::bigint IS NULL OR t.transaction_id < $3)
              ORDER BY t.transaction_id DESC LIMIT $2),
        earlier AS (
             SELECT coalesce(sum(e.amount), 0) AS amount FROM ledger_entries e
              WHERE e.org_id = $1 AND e.account IN {_SHOWN}
                AND e.transaction_id < (SELECT min(transaction_id) FROM page)),
        lines AS (
             SELECT p.*, coalesce(sum(e.amount) FILTER (WHERE e.account = 'credit'), 0)::bigint AS credit,
                    coalesce(sum(e.amount) FILTER (WHERE e.account = 'included'), 0)::bigint AS included
               FROM page p LEFT JOIN ledger_entries e USING (transaction_id)
              GROUP BY 1, 2, 3, 4, 5, 6)
        SELECT l.*, (SELECT amount FROM earlier)::bigint
                    + sum(l.credit + l.included) OVER (ORDER BY l.transaction_id)::bigint AS balance
          FROM lines l
         ORDER BY l.transaction_id DESC
        """,  # noqa: S608
        org_id,
        min(limit, PAGE_ROWS_MAX),
        before,
    )
    return [_to_line(row) for row in rows]


def _to_line(row: Record) -> StatementLine:
    return StatementLine(
        transaction_id=row["transaction_id"],
        created_at=row["created_at"],
        kind=EntryKind(row["kind"]),
        source=row["source"],
        period_start=row["period_start"],
        note=row["note"],
        credit=row["credit"],
        included=row["included"],
        balance=row["balance"],
    )
