"""Money that came in and went out, as payments post it; and the sums of all accounts."""

from __future__ import annotations

from uuid import UUID

from storage import ledger
from storage.bridge import Transaction
from storage.ledger import Account, EntryKind
from storage.queries import Queries


async def top_up(
    tx: Transaction, org_id: UUID, picodollars: int, source: str, *, note: str = ""
) -> int | None:
    """Credit that was paid for in advance."""
    entries = {Account.CREDIT: picodollars, Account.STRIPE: -picodollars}
    return await ledger.post(tx, org_id, EntryKind.TOP_UP, source, entries, note=note)


async def pay(tx: Transaction, org_id: UUID, picodollars: int, source: str) -> int | None:
    """An invoice for usage was paid: what was owed is owed no longer."""
    entries = {Account.CREDIT: picodollars, Account.STRIPE: -picodollars}
    return await ledger.post(tx, org_id, EntryKind.PAYMENT, source, entries)


async def refund(tx: Transaction, org_id: UUID, picodollars: int, source: str) -> int | None:
    """Credit that was paid back."""
    entries = {Account.CREDIT: -picodollars, Account.REFUNDS: picodollars}
    return await ledger.post(tx, org_id, EntryKind.REFUND, source, entries)


async def select_accounts(db: Queries, org_id: UUID) -> dict[Account, int]:
    """The sum of each account's entries; all of them together are zero."""
    rows = await db.fetch(
        "SELECT account, sum(amount)::bigint AS amount FROM ledger_entries WHERE org_id = $1 GROUP BY 1",
        org_id,
    )
    return {Account(row["account"]): row["amount"] for row in rows}
