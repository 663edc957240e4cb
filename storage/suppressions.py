"""Addresses that get no mail any more: those that bounced for good, and those whose readers complained or
unsubscribed.

Who tells of it (Postmark, by webhook or in an answer) may tell twice and out of order. What happened last by
its own clock is kept, so the order of arrival makes no difference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import NotFound
from storage.model import Actor
from storage.queries import Queries, Record

PAGE_ROWS_MAX = 100
EVERY_STREAM = "*"
"""An address that does not exist exists for no mail at all."""


class Reason(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    SPAM_COMPLAINT = "spam_complaint"
    UNSUBSCRIBED = "unsubscribed"
    INACTIVE = "inactive"
    """Postmark takes no mail for it, and says no more than that."""


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    email: str
    stream: str
    reason: Reason
    changed_at: datetime


async def suppress(
    db: Database, actor: Actor, email: str, stream: str, reason: Reason, changed_at: datetime
) -> bool:
    """Notes that an address gets no mail of a stream. False when that, or something later, is known.

    Raises CheckFailed for what is no address or no stream.
    """
    email = email.lower()
    async with db.transaction() as tx:
        changed = await tx.fetch_value(
            """
            INSERT INTO mail_suppressions AS m (email, stream, reason, changed_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (email, stream) DO UPDATE
               SET reason = excluded.reason, changed_at = excluded.changed_at, lifted_at = NULL
             WHERE m.changed_at < excluded.changed_at
            RETURNING true
            """,
            email,
            stream,
            reason.value,
            changed_at,
        )
        if changed:
            details = {"reason": reason.value, "stream": stream}
            await audit.record(tx, actor, Event.MAIL_SUPPRESSED, None, await _subject(tx, email), details)
    return bool(changed)


async def reactivate(db: Database, actor: Actor, email: str, stream: str, changed_at: datetime) -> bool:
    """Notes that an address gets mail again, as was told. False when it did, or something later is known.

    A hard bounce is of all streams, so its end is as well. It is noted also where nothing was to be lifted:
    the bounce before it may come later."""
    email, lifted = email.lower(), False
    async with db.transaction() as tx:
        for one in (stream, EVERY_STREAM):
            lifted |= await _lift(tx, actor, email, one, changed_at)
            await tx.execute(
                """
                INSERT INTO mail_suppressions AS m (email, stream, reason, changed_at, lifted_at)
                VALUES ($1, $2, $3, $4, now())
                ON CONFLICT (email, stream) DO UPDATE SET changed_at = excluded.changed_at
                 WHERE m.lifted_at IS NOT NULL AND m.changed_at < excluded.changed_at
                """,
                email,
                one,
                Reason.INACTIVE.value,
                changed_at,
            )
    return lifted


async def lift(db: Database, actor: Actor, email: str, stream: str) -> None:
    """Lets an address have mail again, because somebody says so. Raises NotFound when it is not
    suppressed."""
    async with db.transaction() as tx:
        if not await _lift(tx, actor, email.lower(), stream, None):
            raise NotFound("that address is not suppressed")


async def select_suppressed(db: Queries, emails: Sequence[str]) -> set[tuple[str, str]]:
    """Of some addresses, those that get no mail, each with the stream."""
    rows = await db.fetch(
        "SELECT email, stream FROM mail_suppressions WHERE email = ANY ($1) AND lifted_at IS NULL",
        [email.lower() for email in emails],
    )
    return {(row["email"], row["stream"]) for row in rows}


async def select_suppressions(
    db: Queries, *, email: str | None = None, limit: int = PAGE_ROWS_MAX
) -> list[Suppression]:
    """Those of one address, or the newest of all."""
    rows = await db.fetch(
        """
        SELECT email, stream, reason, changed_at FROM mail_suppressions
         WHERE lifted_at IS NULL AND ($1::text IS NULL OR email = $1)
         ORDER BY changed_at DESC, email, stream LIMIT $2
        """,
        None if email is None else email.lower(),
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_suppression(row) for row in rows]


async def _lift(tx: Transaction, actor: Actor, email: str, stream: str, changed_at: datetime | None) -> bool:
    """Ends a suppression that is older than a moment, or at any rate."""
    done = await tx.fetch_value(
        """
        UPDATE mail_suppressions
           SET lifted_at = now(), changed_at = greatest(changed_at, coalesce($3::timestamptz, now()))
         WHERE email = $1 AND stream = $2 AND lifted_at IS NULL
           AND ($3::timestamptz IS NULL OR changed_at < $3)
        RETURNING true
        """,
        email,
        stream,
        changed_at,
    )
    if done:
        subject = await _subject(tx, email)
        await audit.record(tx, actor, Event.MAIL_SUPPRESSION_LIFTED, None, subject, {"stream": stream})
    return bool(done)


async def _subject(tx: Transaction, email: str) -> str:
    """Whose address it is. The log is kept for long, and addresses are not written into it."""
    user_id: UUID | None = await tx.fetch_value("SELECT user_id FROM users WHERE email = $1", email)
    return "unknown" if user_id is None else str(user_id)


def _to_suppression(row: Record) -> Suppression:
    return Suppression(
        email=row["email"], stream=row["stream"], reason=Reason(row["reason"]), changed_at=row["changed_at"]
    )
