"""How often something may be tried: counted in the database, so for all processes together.

The generic cell rate algorithm: a rule of N uses a period gives each subject N uses at once and one more
every period / N. One time per subject says it all, and one statement decides, so that of two requests at the
same moment one is counted before the other. A refused use does not count: who keeps trying is not kept out
for longer.

The table stays in proportion to who is counted now: uses clear away, now and then, what has run out.
"""

from __future__ import annotations

import hashlib
import math
import random
from datetime import timedelta

import msgspec

from storage.queries import Queries

_CLEARED_ROWS_MAX = 200
_CLEARED_EVERY = 20
"""On average every twentieth use clears; ten times as many rows as were added since."""


class Rule(msgspec.Struct, frozen=True):
    """At most `uses` in `period_seconds`. The name is kept in the table."""

    name: str
    uses: int
    period_seconds: float


async def use(db: Queries, rule: Rule, subject: str) -> int | None:
    """Counts one use. None when it may go on; else the seconds after which to come back, at least 1."""
    if random.randrange(_CLEARED_EVERY) == 0:  # noqa: S311 - spreads work, guards nothing
        await _clear(db)
    digest = _digest(subject)
    step = timedelta(seconds=rule.period_seconds / rule.uses)
    period = timedelta(seconds=rule.period_seconds)
    granted = await db.fetch_value(
        """
        INSERT INTO throttles AS t (rule, subject, free_at) VALUES ($1, $2, now() + $3::interval)
        ON CONFLICT (rule, subject) DO UPDATE SET free_at = greatest(t.free_at, now()) + $3
         WHERE greatest(t.free_at, now()) + $3 <= now() + $4::interval
        RETURNING true
        """,
        rule.name,
        digest,
        step,
        period,
    )
    if granted:
        return None
    waiting = await db.fetch_value(
        "SELECT extract(epoch FROM free_at + ($3::interval - $4::interval) - now())::float8 FROM throttles"
        " WHERE rule = $1 AND subject = $2",
        rule.name,
        digest,
        step,
        period,
    )
    return max(1, math.ceil(waiting or 0))


async def forgive(db: Queries, rule: Rule, subject: str) -> None:
    """Begins anew for one subject, as after a success."""
    await db.execute("DELETE FROM throttles WHERE rule = $1 AND subject = $2", rule.name, _digest(subject))


async def give_back(db: Queries, rule: Rule, subject: str) -> None:
    """Takes back one use that was counted, and turned out to be none of those that the rule is for."""
    await db.execute(
        "UPDATE throttles SET free_at = free_at - $3::interval WHERE rule = $1 AND subject = $2",
        rule.name,
        _digest(subject),
        timedelta(seconds=rule.period_seconds / rule.uses),
    )


async def _clear(db: Queries) -> None:
    await db.execute(
        """
        DELETE FROM throttles
         WHERE (rule, subject) IN (
               SELECT rule, subject FROM throttles WHERE free_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)
        """,
        _CLEARED_ROWS_MAX,
    )


def _digest(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()[:16]
