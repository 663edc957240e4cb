"""Events as Stripe tells them: kept before anything is done about them, and done until they are.

An event is claimed by one statement (`FOR UPDATE SKIP LOCKED`) that puts its next try off, so a worker that
dies loses nothing: the claim runs out. `finish` is part of the transaction that changes what the event is
about. After `TRIES_MAX` an event is dead: it stays for staff to see, and to replay.

The rows hold no content, only what the event names; they go `KEPT` after they were done. Stripe itself tells
an event again for some days at most.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import NotFound
from storage.model import Actor
from storage.queries import Queries, Record
from storage.stripe_objects import ObjectKind

CLAIM_SECONDS = 180
"""Longer than any event takes to be read and put in."""
TRIES_MAX = 16
"""With the waits below: about a day."""
FIRST_WAIT_SECONDS = 5
WAIT_SECONDS_MAX = 6 * 3600
KEPT = timedelta(days=90)
PAGE_ROWS_MAX = 100
CLEARED_ROWS_MAX = 1000
PROBLEM_CHARS_MAX = 500

_OF_STATE = {
    None: "true",
    "waiting": "state = 'waiting'",
    "done": "state = 'done'",
    "dead": "state = 'dead'",
}
"""Written out, for the index of those that are not done."""
_COLUMNS = """
    event_id, kind, object_kind, object_id, happened_at, received_at, state, tries, try_after, done_at,
    org_id, problem
"""


class NamedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as far as it is kept."""

    event_id: str
    kind: str
    """Stripe's own name for it, such as `invoice.paid`."""
    object_kind: ObjectKind
    object_id: str
    happened_at: datetime


class KeptEvent(NamedEvent, frozen=True, kw_only=True):
    received_at: datetime
    state: str
    tries: int
    try_after: datetime
    done_at: datetime | None
    org_id: UUID | None
    problem: str | None


async def store_event(db: Queries, event: NamedEvent) -> bool:
    """Keeps an event that was told. False when it was told before. Raises CheckFailed for odd ids."""
    stored = await db.fetch_value(
        """
        INSERT INTO stripe_events (event_id, kind, object_kind, object_id, happened_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (event_id) DO NOTHING
        RETURNING true
        """,
        event.event_id,
        event.kind,
        event.object_kind.value,
        event.object_id,
        event.happened_at,
    )
    return bool(stored)


async def claim_event(db: Queries) -> KeptEvent | None:
    """The event that waits longest, for this caller alone; None when none is due."""
    row = await db.fetch_row(
        f"""
        UPDATE stripe_events
           SET tries = tries + 1, try_after = now() + $1::interval
         WHERE event_id = (SELECT event_id FROM stripe_events
                            WHERE state = 'waiting' AND try_after <= now()
                            ORDER BY try_after
                            LIMIT 1
                              FOR UPDATE SKIP LOCKED)
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        timedelta(seconds=CLAIM_SECONDS),
    )
    return None if row is None else _to_event(row)


async def finish_event(tx: Transaction, event_id: str, org_id: UUID | None, note: str | None = None) -> None:
    """That what it names was put in, in the transaction that does it."""
    await tx.execute(
        "UPDATE stripe_events SET state = 'done', done_at = now(), org_id = $2, problem = $3"
        " WHERE event_id = $1",
        event_id,
        org_id,
        note,
    )


async def put_off(db: Queries, event: KeptEvent, problem: str) -> bool:
    """After a try that failed: later, and later each time. False when that was the last try."""
    dead = event.tries >= TRIES_MAX
    wait = min(FIRST_WAIT_SECONDS * 2 ** (event.tries - 1), WAIT_SECONDS_MAX)
    await db.execute(
        """
        UPDATE stripe_events
           SET state = $2, problem = $3, try_after = now() + $4::interval * (0.75 + random() / 2)
         WHERE event_id = $1 AND state = 'waiting'
        """,
        event.event_id,
        "dead" if dead else "waiting",
        audit.printable(problem, PROBLEM_CHARS_MAX),
        timedelta(seconds=wait),
    )
    return not dead


async def select_events(
    db: Queries, state: str | None = None, after: str | None = None, limit: int = PAGE_ROWS_MAX
) -> list[KeptEvent]:
    """Newest first, of one state or all; `after` is the last event of the page before."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM stripe_events
         WHERE {_OF_STATE[state]}
           AND ($1::text IS NULL OR (received_at, event_id)
                                    < (SELECT received_at, event_id FROM stripe_events WHERE event_id = $1))
         ORDER BY received_at DESC, event_id DESC
         LIMIT $2
        """,  # noqa: S608
        after,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_event(row) for row in rows]


async def count_stuck(db: Queries) -> tuple[int, int]:
    """How many events are dead, and how many have waited for ten minutes or more."""
    row = await db.fetch_row(
        """
        SELECT count(*) FILTER (WHERE state = 'dead') AS dead,
               count(*) FILTER (WHERE state = 'waiting' AND received_at < now() - interval '10 minutes') AS
               late
          FROM stripe_events WHERE state <> 'done'
        """
    )
    assert row is not None
    return row["dead"], row["late"]


async def replay_event(db: Database, actor: Actor, event_id: str) -> None:
    """Has an event done once more, whatever became of it. For staff. Raises NotFound."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            "SELECT org_id, state, kind FROM stripe_events WHERE event_id = $1 FOR UPDATE", event_id
        )
        if row is None:
            raise NotFound("there is no such event")
        await tx.execute(
            "UPDATE stripe_events SET state = 'waiting', tries = 0, try_after = now(), done_at = NULL"
            " WHERE event_id = $1",
            event_id,
        )
        details = {"kind": row["kind"], "before": row["state"]}
        await audit.record(tx, actor, Event.PAYMENT_EVENT_REPLAYED, row["org_id"], event_id, details)


async def clear_events(db: Queries) -> int:
    """Lets go what was done long ago, `CLEARED_ROWS_MAX` at most; returns how many."""
    status = await db.execute(
        """
        DELETE FROM stripe_events
         WHERE event_id IN (SELECT event_id FROM stripe_events
                             WHERE state = 'done' AND received_at < now() - $1::interval
                             LIMIT $2
                               FOR UPDATE SKIP LOCKED)
        """,
        KEPT,
        CLEARED_ROWS_MAX,
    )
    return int(status.rsplit(" ", 1)[-1])


def _to_event(row: Record) -> KeptEvent:
    return KeptEvent(**{**dict(row), "object_kind": ObjectKind(row["object_kind"])})


async def select_oldest_waiting(db: Queries) -> float | None:
    """Seconds that the oldest event waits to be put in; None when none does. The dead wait for staff."""
    seconds: float | None = await db.fetch_value(
        "SELECT extract(epoch FROM now() - min(received_at))::float8 FROM stripe_events"
        " WHERE state = 'waiting'"
    )
    return seconds
