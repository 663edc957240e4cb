"""The ledger as an organization reads it: what came in, what was used, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from quart import Blueprint, request
from quart.typing import ResponseReturnValue

from admin.rendering import render_template
from admin.services import services
from storage.ledger import EntryKind, StatementLine, select_balance, select_statement

LINES_MAX = 200
WORDS = {
    EntryKind.TOP_UP: "Credit bought",
    EntryKind.PAYMENT: "Invoice paid",
    EntryKind.PAYMENT_REFUND: "Invoice, paid back",
    EntryKind.CREDIT_NOTE: "Credit note",
    EntryKind.REFUND: "Paid back",
    EntryKind.USAGE: "Usage",
    EntryKind.CORRECTION: "Usage, learnt of later",
    EntryKind.GRANT: "Included credit",
    EntryKind.EXPIRY: "Included credit, unused",
    EntryKind.ADJUSTMENT: "Adjustment",
}

blueprint = Blueprint("statement", __name__, template_folder="templates")


class Entry(NamedTuple):
    """One line of the page: a transaction, or a day's hours of usage together."""

    at: datetime
    what: str
    note: str
    amount: int
    balance: int


@blueprint.get("/organizations/<uuid:org_id>/statement")
async def show(org_id: UUID) -> ResponseReturnValue:
    db = services().db
    typed = request.args.get("before", "")
    before = int(typed) if typed.isascii() and typed.isdigit() and len(typed) <= 18 else None
    lines = await select_statement(db, org_id, LINES_MAX, before)
    return await render_template(
        "billing/statement.html",
        balance=await select_balance(db, org_id),
        entries=fold(lines),
        older=lines[-1].transaction_id if len(lines) == LINES_MAX else None,
        first=before is None,
    )


def fold(lines: Sequence[StatementLine]) -> list[Entry]:
    """Hours of usage of the same day become one line; the newest come first, and so does the balance after
    the last of them."""
    entries: list[Entry] = []
    folded: tuple[EntryKind, object] | None = None
    hours = 0
    for line in lines:
        amount = line.credit + line.included
        key = (line.kind, line.period_start.date() if line.period_start else line.transaction_id)
        if line.kind in (EntryKind.USAGE, EntryKind.CORRECTION) and line.period_start:
            if key == folded:
                hours += 1
                last = entries[-1]
                note = f"{line.period_start:%-d %b %Y}, {hours} hours"
                entries[-1] = last._replace(amount=last.amount + amount, note=note)
                continue
            hours = 1
            note = f"{line.period_start:%-d %b %Y, %H:00}, {line.note}"
        else:
            note = line.note
        folded = key
        entries.append(Entry(line.created_at, WORDS[line.kind], note, amount, line.balance))
    return entries
