"""What browsers report as breaking the pages' policy: one row for each kind, counted.

Anybody may send such reports, so there are `KINDS_MAX` kinds at most: a new one takes the place of the one
seen longest ago.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from storage.audit import printable
from storage.bridge import Database
from storage.queries import Queries

KINDS_MAX = 500
FIELD_CHARS_MAX = 200


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One kind: which directive, what was blocked, in which file, on which page."""

    directive: str
    blocked: str
    source: str
    page: str


class CountedViolation(msgspec.Struct, frozen=True, kw_only=True):
    violation: Violation
    first_at: datetime
    last_at: datetime
    count: int


async def count_violation(db: Database, violation: Violation) -> None:
    """Counts one. Fields are cut, and hold no control characters afterwards."""
    fields = [printable(text, FIELD_CHARS_MAX) for text in msgspec.structs.astuple(violation)]
    digest = hashlib.sha256("\n".join(fields).encode()).digest()
    async with db.transaction() as tx:
        new = await tx.fetch_value(
            """
            INSERT INTO csp_violations AS v (digest, directive, blocked, source, page)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (digest) DO UPDATE SET last_at = now(), count = v.count + 1
            RETURNING v.count = 1
            """,
            digest,
            *fields,
        )
        if new:
            await tx.execute(
                """
                DELETE FROM csp_violations
                 WHERE digest IN (SELECT digest FROM csp_violations ORDER BY last_at DESC, digest OFFSET $1)
                """,
                KINDS_MAX,
            )


async def select_violations(db: Queries, limit: int = KINDS_MAX) -> list[CountedViolation]:
    """All kinds, the one seen last first."""
    rows = await db.fetch(
        "SELECT directive, blocked, source, page, first_at, last_at, count FROM csp_violations"
        " ORDER BY last_at DESC, digest LIMIT $1",
        min(limit, KINDS_MAX),
    )
    return [
        CountedViolation(
            violation=Violation(
                directive=row["directive"], blocked=row["blocked"], source=row["source"], page=row["page"]
            ),
            first_at=row["first_at"],
            last_at=row["last_at"],
            count=row["count"],
        )
        for row in rows
    ]
