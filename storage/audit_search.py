"""Reading the audit log: looking for rows, newest first, and going through all of them, oldest first.

No statement looks at more than a fixed number of rows, whatever is looked for: a search that finds nothing in
its stretch says where to go on. Nothing here needs a transaction, since rows never change.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import COLUMNS, SYSTEM_CHAIN, AuditRow, Event, to_row
from storage.bridge import Database
from storage.model import Actor
from storage.queries import Queries

PAGE_ROWS_MAX = 100
SCANNED_ROWS_MAX = 50_000
"""Looked at for one page: some tens of milliseconds."""
BATCH_ROWS = 2000
"""Read at once when going through all: a megabyte or so."""
TEXT_CHARS_MAX = 200

_MATCHES = """
    ($4::text IS NULL OR event = $4 OR event LIKE $4 || ':%')
    AND ($5::text IS NULL OR strpos(lower(concat_ws(' ', event, actor_id, subject, address, user_agent,
                                                    request_id, details::text)), lower($5)) > 0)
    AND ($6::timestamptz IS NULL OR created_at >= $6)
    AND ($7::timestamptz IS NULL OR created_at < $7)
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. None: all.

    `event` is an event or its first part (`api_key`). `text` may be anywhere in a row; case does not matter.
    Times are [since, until).
    """

    event: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Found(msgspec.Struct, frozen=True):
    """One page. `before` is where the next one begins; None at the log's beginning."""

    rows: list[AuditRow]
    before: int | None


async def search(
    db: Queries, org_id: UUID | None, wanted: Wanted, *, before: int | None = None, limit: int = PAGE_ROWS_MAX
) -> Found:
    """Rows that match, newest first, from before number `before` on; `limit` at most."""
    chain = org_id or SYSTEM_CHAIN
    if before is None:
        before = await select_head_seq(db, chain) + 1
    first = await _select_first_seq(db, chain)
    floor = max(before - SCANNED_ROWS_MAX, first)
    limit = min(limit, PAGE_ROWS_MAX)
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM audit_log WHERE org_id = $1 AND seq >= $2 AND seq < $3 AND {_MATCHES}"  # noqa: S608
        " ORDER BY seq DESC LIMIT $8",
        chain,
        floor,
        before,
        *_values(wanted),
        limit,
    )
    if len(rows) == limit:
        floor = rows[-1]["seq"]
    return Found([to_row(row) for row in rows], floor if floor > first else None)


async def go_through(
    db: Queries, org_id: UUID | None, wanted: Wanted, until_seq: int
) -> AsyncGenerator[list[AuditRow], None]:
    """All rows that match up to number `until_seq`, oldest first, in batches that bound memory."""
    chain = org_id or SYSTEM_CHAIN
    start = await _select_first_seq(db, chain)
    while start <= until_seq:
        end = min(start + BATCH_ROWS, until_seq + 1)
        rows = await db.fetch(
            f"SELECT {COLUMNS} FROM audit_log WHERE org_id = $1 AND seq >= $2 AND seq < $3 AND {_MATCHES}"  # noqa: S608
            " ORDER BY seq",
            chain,
            start,
            end,
            *_values(wanted),
        )
        if rows:
            yield [to_row(row) for row in rows]
        start = end


async def record_export(db: Database, actor: Actor, org_id: UUID | None, form: str, wanted: Wanted) -> int:
    """Tells the log that it is being exported; returns the number that the export goes up to, its own row's
    included."""
    sought = {name: value for name in ("event", "text") if (value := getattr(wanted, name)) is not None}
    times = {name: value.isoformat() for name in ("since", "until") if (value := getattr(wanted, name))}
    async with db.transaction() as tx:
        details = {"format": form, **sought, **times}
        await audit.record(tx, actor, Event.AUDIT_EXPORTED, org_id, str(org_id or SYSTEM_CHAIN), details)
        return await select_head_seq(tx, org_id)


async def select_head_seq(db: Queries, org_id: UUID | None) -> int:
    """The number of a chain's newest row; 0 when there is none."""
    seq = await db.fetch_value("SELECT seq FROM audit_heads WHERE org_id = $1", org_id or SYSTEM_CHAIN)
    return int(seq or 0)


async def _select_first_seq(db: Queries, chain: UUID) -> int:
    seq = await db.fetch_value("SELECT seq FROM audit_log WHERE org_id = $1 ORDER BY seq LIMIT 1", chain)
    return int(seq or 1)


def _values(wanted: Wanted) -> tuple[object, ...]:
    text = None if wanted.text is None else wanted.text[:TEXT_CHARS_MAX].replace("\0", "")
    event = None if wanted.event is None else wanted.event.replace("%", "").replace("\\", "")
    return event, text, wanted.since, wanted.until
