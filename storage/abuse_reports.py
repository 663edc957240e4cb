"""Reports of abuse, from anybody: kept, told to those who look after them, and closed with a note."""

from __future__ import annotations

import secrets
from datetime import datetime
from enum import StrEnum

import msgspec

from storage import audit
from storage.audit import ADDRESS_CHARS_MAX, Event
from storage.bridge import Database
from storage.errors import NotFound
from storage.model import Actor
from storage.outbox import Letter, post
from storage.queries import Queries, Record
from storage.sealing import MasterKeys

PAGE_ROWS_MAX = 100
REPORT_CHARS_MAX = 3000
NOTE_CHARS_MAX = 2000
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without letters that are read as others."""
_REFERENCE_CHARS = 10
_COLUMNS = "reference, received_at, category, report, email, address, closed_at, note"


class Category(StrEnum):
    CONTENT = "content"
    SECURITY = "security"
    SPAM = "spam"
    OTHER = "other"


class AbuseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One report as it came. `email` is what its sender gave, and may be anybody's."""

    reference: str
    received_at: datetime
    category: Category
    report: str
    email: str | None
    address: str | None
    closed_at: datetime | None
    note: str | None


def make_reference() -> str:
    """What the sender is told, and nobody can guess."""
    return "AB-" + "".join(secrets.choice(_ALPHABET) for _ in range(_REFERENCE_CHARS))


async def file_report(
    db: Database,
    actor: Actor,
    reference: str,
    category: Category,
    report: str,
    email: str | None,
    letter: tuple[MasterKeys, Letter] | None,
) -> None:
    """Keeps a report, and puts the letter about it into the outbox. Raises CheckFailed for a report that is
    empty or over `REPORT_CHARS_MAX`."""
    async with db.transaction() as tx:
        await tx.execute(
            "INSERT INTO abuse_reports (reference, category, report, email, address)"
            " VALUES ($1, $2, $3, $4, $5)",
            reference,
            category.value,
            report,
            email,
            audit.printable(actor.address, ADDRESS_CHARS_MAX),
        )
        if letter is not None:
            await post(tx, *letter)
        await audit.record(tx, actor, Event.ABUSE_REPORTED, None, reference, {"category": category.value})


async def close_report(db: Database, actor: Actor, reference: str, note: str) -> None:
    """Notes what came of a report. Raises NotFound when there is none, or it is closed."""
    async with db.transaction() as tx:
        done = await tx.fetch_value(
            "UPDATE abuse_reports SET closed_at = now(), note = $2"
            " WHERE reference = $1 AND closed_at IS NULL RETURNING true",
            reference,
            note[:NOTE_CHARS_MAX],
        )
        if not done:
            raise NotFound("there is no such open report")
        await audit.record(tx, actor, Event.ABUSE_CLOSED, None, reference, {})


async def select_reports(
    db: Queries, *, before: datetime | None = None, limit: int = PAGE_ROWS_MAX
) -> list[AbuseReport]:
    """Reports from before a moment, newest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM abuse_reports WHERE $1::timestamptz IS NULL OR received_at < $1"  # noqa: S608
        " ORDER BY received_at DESC, reference LIMIT $2",
        before,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_report(row) for row in rows]


def _to_report(row: Record) -> AbuseReport:
    return AbuseReport(
        reference=row["reference"],
        received_at=row["received_at"],
        category=Category(row["category"]),
        report=row["report"],
        email=row["email"],
        address=row["address"],
        closed_at=row["closed_at"],
        note=row["note"],
    )
