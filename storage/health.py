"""How each part of Karta is: a sample a minute, and sums by the day that are kept for ever.

A minute without a sample was not looked at. It is never taken for a good one: not in what is shown now, and
not in what a day adds up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import msgspec

from storage.bridge import Database
from storage.queries import Queries

SAMPLES_DAYS = 7
"""How long single samples are kept; their sums stay."""
COMPONENTS_MAX = 50
RECENT_MINUTES = 15
"""How far back the newest sample of a component is looked for."""
_DELETED_ROWS_MAX = 5000


class State(StrEnum):
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Sample(msgspec.Struct, frozen=True):
    """What one look at a component found. `latency_ms` where there is such a thing."""

    component: str
    state: State
    latency_ms: int | None = None


class Recent(msgspec.Struct, frozen=True):
    """A component's newest samples, the newest first, with their minutes."""

    component: str
    minutes: list[datetime]
    states: list[State]
    latency_ms: int | None


class Day(msgspec.Struct, frozen=True):
    """Minutes of each state in one day. `first_at` is the first that was looked at."""

    component: str
    day: date
    up: int
    degraded: int
    down: int
    first_at: datetime


def this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


async def claim_round(db: Queries, minute: datetime) -> bool:
    """Whether the round of that minute is ours: of all who ask, one is told yes."""
    claimed = await db.fetch_value(
        "INSERT INTO health_rounds (minute) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true", minute
    )
    return bool(claimed)


async def insert_samples(db: Database, minute: datetime, samples: Sequence[Sample]) -> None:
    """Keeps a round's samples, adds them to their day, and clears away what is old."""
    async with db.transaction() as tx:
        for sample in samples[:COMPONENTS_MAX]:
            new = await tx.fetch_value(
                "INSERT INTO health_samples (component, minute, state, latency_ms) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT DO NOTHING RETURNING true",
                sample.component,
                minute,
                sample.state.value,
                sample.latency_ms,
            )
            if new:
                await tx.execute(
                    """
                    INSERT INTO health_days AS d (component, day, up, degraded, down, first_at)
                    VALUES ($1, ($2::timestamptz AT TIME ZONE 'UTC')::date,
                            ($3 = 'up')::integer, ($3 = 'degraded')::integer, ($3 = 'down')::integer, $2)
                    ON CONFLICT (component, day) DO UPDATE
                       SET up = d.up + excluded.up, degraded = d.degraded + excluded.degraded,
                           down = d.down + excluded.down
                    """,
                    sample.component,
                    minute,
                    sample.state.value,
                )
        old = minute - timedelta(days=SAMPLES_DAYS)
        for table in ("health_samples", "health_rounds"):
            await tx.execute(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608 - one of two names
                f"SELECT ctid FROM {table} WHERE minute < $1 LIMIT $2))",
                old,
                _DELETED_ROWS_MAX,
            )


async def select_recent(db: Queries, now: datetime) -> list[Recent]:
    """Each component that was ever looked at, with its samples of the last minutes (none, when the job has
    not run)."""
    rows = await db.fetch(
        """
        SELECT k.component,
               array_agg(s.minute ORDER BY s.minute DESC) FILTER (WHERE s.minute IS NOT NULL) AS minutes,
               array_agg(s.state ORDER BY s.minute DESC) FILTER (WHERE s.minute IS NOT NULL) AS states,
               (array_agg(s.latency_ms ORDER BY s.minute DESC))[1] AS latency_ms
          FROM (SELECT DISTINCT component FROM health_days WHERE day > ($1::timestamptz)::date - 90) k
          LEFT JOIN health_samples s ON s.component = k.component AND s.minute > $1 - $2::interval
         GROUP BY k.component
         ORDER BY k.component
         LIMIT $3
        """,
        now,
        timedelta(minutes=RECENT_MINUTES),
        COMPONENTS_MAX,
    )
    return [
        Recent(
            component=row["component"],
            minutes=list(row["minutes"] or []),
            states=[State(state) for state in row["states"] or []],
            latency_ms=row["latency_ms"],
        )
        for row in rows
    ]


async def select_days(db: Queries, since: date) -> list[Day]:
    """All days of all components from `since` on, oldest first."""
    rows = await db.fetch(
        "SELECT component, day, up, degraded, down, first_at FROM health_days WHERE day >= $1"
        " ORDER BY component, day",
        since,
    )
    return [
        Day(row["component"], row["day"], row["up"], row["degraded"], row["down"], row["first_at"])
        for row in rows
    ]


class Month(msgspec.Struct, frozen=True):
    """A component's whole month: minutes by state, and since when in it there was anything to look at."""

    component: str
    month: date
    up: int
    degraded: int
    down: int
    first_at: datetime


async def select_months(db: Queries) -> list[Month]:
    """The full history, newest first."""
    rows = await db.fetch(
        """
        SELECT component, date_trunc('month', day)::date AS month, sum(up)::bigint AS up,
               sum(degraded)::bigint AS degraded, sum(down)::bigint AS down, min(first_at) AS first_at
          FROM health_days
         GROUP BY 1, 2
         ORDER BY 2 DESC, 1
         LIMIT $1
        """,
        COMPONENTS_MAX * 120,
    )
    return [
        Month(row["component"], row["month"], row["up"], row["degraded"], row["down"], row["first_at"])
        for row in rows
    ]
