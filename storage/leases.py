"""Slices of limits, lent to the journals of gateways: asked for, given back and renewed in one statement.

The rules are in migrations/0006_limits.sql, the deciding in `gateway.quota`. An owner tells for each lease
how much it was granted in all so far; the database takes back whatever it had granted beyond that, so an
answer that was lost on its way, or a call that was sent twice, mends itself with the next one. To give
something back is to say less than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import msgspec

from storage.errors import InvalidValue
from storage.queries import Queries

BATCH_LEASES_MAX = 10_000
"""In one statement: about half a second of the server's time."""
PLANNED_ANEW_MIN = 200
"""From so many on, each call is planned for what it brings, in three milliseconds. The plan that PostgreSQL
keeps for all calls of a session is one for a handful, and takes time by the square: seconds for thousands."""
LEASE_SECONDS = 60
"""How long a silent owner is believed to live."""
PRUNE_ROWS_MAX = 1000
"""Windows deleted in one statement."""
_AMOUNT_MAX = 2**62
"""Far above any limit; keeps sums of a few in range."""


class LeaseState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    """The window is too far from the database's own time."""
    GONE = "gone"
    """There is no such limit any more, or it is soft."""
    LATE = "late"
    """A later call of the same owner has overtaken this one."""


class LeaseRequest(msgspec.Struct, frozen=True):
    """What an owner says of one lease: `acquired` in all, less what it has given back, since it `opened` it
    (a number that is another when it has forgotten); `unspent`, free and reserved; what more is `wanted`, and
    the `minimum` below which a grant is of no use. `window_start` is in seconds since 1970."""

    limit_id: int
    window_start: int
    opened: int
    acquired: int
    unspent: int
    wanted: int
    minimum: int


class LeaseAnswer(msgspec.Struct, frozen=True):
    """`granted` adds to what the owner has acquired; `available` could have been had on top.

    `last_turn` is the newest turn the database has seen; the next call's must be above it.
    """

    limit_id: int
    window_start: int
    state: LeaseState
    granted: int
    available: int
    last_turn: int


async def settle_leases(
    db: Queries,
    owner: UUID,
    turn: int,
    requests: Sequence[LeaseRequest],
    *,
    lease_seconds: int = LEASE_SECONDS,
) -> list[LeaseAnswer]:
    """Refills, gives back and renews; one answer for each request, in no order. All of them are renewed.

    Args:
      turn: above that of the owner's call before.
      requests: one at most for each limit and window, `BATCH_LEASES_MAX` in all.
    """
    if len(requests) > BATCH_LEASES_MAX:
        raise InvalidValue(f"ask for {BATCH_LEASES_MAX} leases at most at a time")
    if not requests:
        return []
    # The function is handed what comes of setting the mode, so that this is done first.
    rows = await db.fetch(
        """
        SELECT limit_id, window_start, state, granted, available, last_turn
          FROM set_config('plan_cache_mode', $11, true) AS mode,
       LATERAL settle_leases(CASE WHEN mode <> '' THEN $1::uuid END, $2, $3, $4::bigint[], $5::bigint[],
                             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
        """,
        owner,
        turn,
        lease_seconds,
        [request.limit_id for request in requests],
        [request.window_start for request in requests],
        [request.opened for request in requests],
        [_bound(request.acquired) for request in requests],
        [_bound(request.unspent) for request in requests],
        [_bound(request.wanted) for request in requests],
        [_bound(request.minimum) for request in requests],
        "force_custom_plan" if len(requests) >= PLANNED_ANEW_MIN else "auto",
    )
    return [
        LeaseAnswer(
            row["limit_id"],
            row["window_start"],
            LeaseState(row["state"]),
            row["granted"],
            row["available"],
            row["last_turn"],
        )
        for row in rows
    ]


async def release_owner(db: Queries, owner: UUID, turn: int) -> int:
    """Ends all leases of an owner; returns how many there were. Its calls with a turn up to this one change
    nothing from then on, though they be under way.

    Only when its whole journal is stored: what it had used but not yet told would be lent a second time.
    """
    released: int = await db.fetch_value("SELECT release_owner($1, $2)", owner, turn)
    return released


async def prune_quota(db: Queries) -> int:
    """Deletes some of the windows that nobody needs any more; returns how many rows, 0 when all are gone."""
    pruned: int = await db.fetch_value("SELECT prune_quota($1)", PRUNE_ROWS_MAX)
    return pruned


def _bound(amount: int) -> int:
    return max(-_AMOUNT_MAX, min(amount, _AMOUNT_MAX))
