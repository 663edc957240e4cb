"""Deliveries of webhook messages: made from events, held by one worker at a time, ended by what came of them.

    spread   events of the outbox become deliveries, one for each endpoint that chose them
    claim    a worker takes some that are due, for `LEASE_SECONDS`
    settle   it says what came of each; only a 2xx makes one delivered
    release  it gives back what it will not do

A worker that dies says nothing: its leases end, and others try again. So a message arrives at least once, and
sometimes twice; its id stays the same.

Fairness: endpoints are served in turn, the one that waited longest first, and none has more than a worker's
`of_endpoint_max` under way; an ordered one has one. Spreading is done by one worker at a time, so that
deliveries are numbered in the order of the events (of an organization's audit log: the order of its rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from storage.bridge import Database
from storage.queries import Queries
from storage.webhook_events import EVERYBODY, TYPES, render
from storage.webhook_schedule import State

LEASE_SECONDS = 60
"""Longer than a try may take, its settling included."""
SPREAD_EVENTS_MAX = 200
"""Of one transaction."""
CLAIM_ENDPOINTS_MAX = 200
EXCERPT_BYTES_MAX = 1024
FAILING_DAYS = 5
"""After so long without one success an endpoint is switched off: longer than all tries of a message take."""
KEPT_DAYS = 30
SWEEP_ROWS_MAX = 2000
_SPREAD_LOCK = 4738126500023
"""Arbitrary, and this module's."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery in a worker's hands."""

    delivery_id: int
    endpoint_id: UUID
    url: str
    event_id: UUID
    body: str
    tries: int
    """Before this one."""

    def __repr__(self) -> str:
        return f"Claimed({self.delivery_id!r})"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try. Either `status` is there or `reason`; `headers` are the request's, without signatures."""

    attempt_id: UUID
    started_at: datetime
    duration_ms: int
    status: int | None
    reason: str | None
    headers: dict[str, str]
    excerpt: str
    """The beginning of what was answered."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a try came to."""

    delivery_id: int
    endpoint_id: UUID
    state: State
    delay_seconds: float
    attempt: Attempt


async def spread(db: Database) -> int:
    """Makes deliveries of events that wait; how many events. 0 also while somebody else does it."""
    if not await db.fetch_value("SELECT EXISTS (SELECT FROM webhook_events WHERE spread_at IS NULL)"):
        return 0
    async with db.transaction() as tx:
        if not await tx.fetch_value("SELECT pg_try_advisory_xact_lock($1)", _SPREAD_LOCK):
            return 0
        rows = await tx.fetch(
            """
            SELECT seq, org_id, type, created_at, data::text AS data FROM webhook_events
             WHERE spread_at IS NULL ORDER BY seq LIMIT $1
            """,
            SPREAD_EVENTS_MAX,
        )
        if not rows:
            return 0
        seqs = [row["seq"] for row in rows]
        bodies = [
            # A type that a newer release knows is let go by an older one's worker, not stumbled over.
            render(row["type"], row["org_id"], row["created_at"], msgspec.json.decode(row["data"]))
            if row["type"] in TYPES
            else ""
            for row in rows
        ]
        await tx.execute(
            "UPDATE webhook_events w SET body = made.body, spread_at = now()"
            " FROM unnest($1::bigint[], $2::text[]) AS made (seq, body) WHERE w.seq = made.seq",
            seqs,
            bodies,
        )
        await tx.execute(
            """
            INSERT INTO webhook_deliveries (endpoint_id, event_seq)
            SELECT endpoint_id, seq FROM (
                SELECT e.endpoint_id, w.seq
                  FROM webhook_events w JOIN webhook_endpoints e USING (org_id)
                 WHERE w.seq = ANY ($1) AND w.endpoint_id IS NULL AND w.type = ANY (e.events)
                   AND e.state = 'enabled' AND e.created_at <= w.created_at AND w.body <> ''
                UNION ALL
                SELECT e.endpoint_id, w.seq
                  FROM webhook_events w JOIN webhook_endpoints e ON w.type = ANY (e.events)
                 WHERE w.seq = ANY ($1) AND w.endpoint_id IS NULL AND w.org_id = $2
                   AND e.state = 'enabled' AND e.created_at <= w.created_at AND w.body <> ''
                UNION ALL
                SELECT w.endpoint_id, w.seq FROM webhook_events w
                 WHERE w.seq = ANY ($1) AND w.endpoint_id IS NOT NULL) AS chosen
             ORDER BY seq, endpoint_id
            ON CONFLICT DO NOTHING
            """,
            seqs,
            EVERYBODY,
        )
    return len(rows)


async def claim(db: Queries, worker: UUID, *, limit: int, of_endpoint_max: int) -> list[Claimed]:
    """Takes up to `limit` deliveries that are due, for `LEASE_SECONDS`.

    Endpoints that another worker looks at in this moment are left to it. Whatever was taken since this
    statement began is left out by the last condition, which PostgreSQL checks again on the newest row.
    """
    rows = await db.fetch(
        """
        WITH ready AS MATERIALIZED (
            SELECT e.endpoint_id, e.ordered, e.claimed_at FROM webhook_endpoints e
             WHERE e.state = 'enabled'
               AND EXISTS (SELECT FROM webhook_deliveries d
                            WHERE d.endpoint_id = e.endpoint_id AND d.state = 'pending' AND d.due_at <= now())
             ORDER BY e.claimed_at, e.endpoint_id
             LIMIT $3
               FOR NO KEY UPDATE SKIP LOCKED),
        chosen AS MATERIALIZED (
            SELECT r.endpoint_id, d.delivery_id FROM ready r CROSS JOIN LATERAL (
                SELECT locked.delivery_id FROM (
                    SELECT due.delivery_id FROM webhook_deliveries due
                     WHERE NOT r.ordered AND due.endpoint_id = r.endpoint_id AND due.state = 'pending'
                       AND due.due_at <= now()
                     ORDER BY due.due_at
                     LIMIT greatest(0, $4 - (SELECT count(*) FROM webhook_deliveries held
                                              WHERE held.endpoint_id = r.endpoint_id
                                                AND held.state = 'pending' AND held.claim IS NOT NULL
                                                AND held.due_at > now()))
                       FOR UPDATE SKIP LOCKED) AS locked
                UNION ALL
                SELECT first.delivery_id FROM (
                    SELECT f.delivery_id, f.due_at FROM webhook_deliveries f
                     WHERE r.ordered AND f.endpoint_id = r.endpoint_id AND f.state = 'pending'
                     ORDER BY f.delivery_id LIMIT 1) AS first
                 WHERE first.due_at <= now()) AS d
             ORDER BY r.claimed_at, r.endpoint_id
             LIMIT $2),
        served AS (
            UPDATE webhook_endpoints SET claimed_at = clock_timestamp()
             WHERE endpoint_id IN (SELECT endpoint_id FROM chosen))
        UPDATE webhook_deliveries d SET claim = $1, due_at = now() + make_interval(secs => $5)
          FROM chosen, webhook_endpoints e, webhook_events w
         WHERE d.delivery_id = chosen.delivery_id AND e.endpoint_id = d.endpoint_id AND w.seq = d.event_seq
           AND d.state = 'pending' AND d.due_at <= now()
        RETURNING d.delivery_id, d.endpoint_id, e.url, w.event_id, w.body, d.tries
        """,
        worker,
        limit,
        CLAIM_ENDPOINTS_MAX,
        of_endpoint_max,
        LEASE_SECONDS,
    )
    return [
        Claimed(
            delivery_id=row["delivery_id"],
            endpoint_id=row["endpoint_id"],
            url=row["url"],
            event_id=row["event_id"],
            body=row["body"],
            tries=row["tries"],
        )
        for row in sorted(rows, key=lambda row: row["delivery_id"])
    ]


async def settle(db: Database, worker: UUID, settlements: Sequence[Settlement]) -> list[UUID]:
    """Keeps what came of tries; returns the endpoints that have done nothing but fail for `FAILING_DAYS`.

    A worker whose lease has ended changes nothing any more, with one exception: a message that arrived has
    arrived. Its try is kept in any case.
    """
    ok = {one.endpoint_id for one in settlements if one.state == "delivered"}
    bad = [one.endpoint_id for one in settlements if one.state != "delivered" and one.endpoint_id not in ok]
    async with db.transaction() as tx:
        # Endpoints before deliveries, and in their order: as `claim` locks them.
        failing = await tx.fetch(
            """
            WITH touched AS MATERIALIZED (
                SELECT endpoint_id FROM webhook_endpoints
                 WHERE endpoint_id = ANY ($2) OR (endpoint_id = ANY ($1) AND failing_since IS NOT NULL)
                 ORDER BY endpoint_id FOR NO KEY UPDATE)
            UPDATE webhook_endpoints e
               SET failing_since = CASE WHEN e.endpoint_id = ANY ($1) THEN NULL
                                        ELSE coalesce(e.failing_since, now()) END,
                   failures = CASE WHEN e.endpoint_id = ANY ($1) THEN 0 ELSE e.failures + 1 END
              FROM touched WHERE touched.endpoint_id = e.endpoint_id
            RETURNING e.endpoint_id,
                      e.state = 'enabled'
                      AND coalesce(e.failing_since < now() - make_interval(days => $3), false) AS failing
            """,
            list(ok),
            bad,
            FAILING_DAYS,
        )
        await tx.execute(
            """
            UPDATE webhook_deliveries d
               SET state = s.state, tries = d.tries + 1, claim = NULL,
                   due_at = now() + make_interval(secs => s.delay),
                   ended_at = CASE WHEN s.state <> 'pending' THEN now() END
              FROM unnest($2::bigint[], $3::text[], $4::float8[]) AS s (delivery_id, state, delay)
             WHERE d.delivery_id = s.delivery_id AND d.state = 'pending'
               AND (d.claim = $1 OR s.state = 'delivered')
            """,
            worker,
            [one.delivery_id for one in settlements],
            [one.state for one in settlements],
            [one.delay_seconds for one in settlements],
        )
        await _insert_attempts(tx, settlements)
    return [row["endpoint_id"] for row in failing if row["failing"]]


async def _insert_attempts(db: Queries, settlements: Iterable[Settlement]) -> None:
    """Those that were kept already are left: a worker settles again what it does not know to be committed."""
    attempts = [(one.delivery_id, one.attempt) for one in settlements]
    await db.execute(
        """
        INSERT INTO webhook_attempts
               (attempt_id, delivery_id, started_at, duration_ms, status, reason, headers, excerpt)
        SELECT a.attempt_id, a.delivery_id, a.started_at, a.duration_ms, a.status, a.reason, a.headers::jsonb,
               a.excerpt
          FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::integer[], $6::text[],
                      $7::text[], $8::text[])
               AS a (attempt_id, delivery_id, started_at, duration_ms, status, reason, headers, excerpt)
          JOIN webhook_deliveries d USING (delivery_id)
            ON CONFLICT (attempt_id) DO NOTHING
        """,
        [one.attempt_id for _, one in attempts],
        [delivery_id for delivery_id, _ in attempts],
        [one.started_at for _, one in attempts],
        [one.duration_ms for _, one in attempts],
        [one.status for _, one in attempts],
        [one.reason for _, one in attempts],
        [msgspec.json.encode(one.headers).decode() for _, one in attempts],
        [one.excerpt for _, one in attempts],
    )


async def release(db: Queries, worker: UUID) -> None:
    """Gives back all that a worker holds; its tries do not count."""
    await db.execute(
        "UPDATE webhook_deliveries SET claim = NULL, due_at = now() WHERE claim = $1 AND state = 'pending'",
        worker,
    )


async def sweep(db: Queries) -> int:
    """Forgets some of what is older than `KEPT_DAYS`, sent or not, and secrets that sign nothing any more.
    How many events; call it until there are none."""
    await db.execute("DELETE FROM webhook_secrets WHERE ends_at <= now()")
    gone: int = await db.fetch_value(
        """
        WITH gone AS (
            DELETE FROM webhook_events WHERE seq IN (
                SELECT seq FROM webhook_events WHERE created_at < now() - make_interval(days => $1)
                 ORDER BY created_at LIMIT $2)
            RETURNING 1)
        SELECT count(*) FROM gone
        """,
        KEPT_DAYS,
        SWEEP_ROWS_MAX,
    )
    return gone


async def sweep_deleted(db: Database) -> int:
    """Forgets some of the messages for endpoints that were deleted, with their tries, and the endpoints of
    which none is left. How many rows; call it until there are none."""
    async with db.transaction() as tx:
        messages: int = await tx.fetch_value(
            """
            WITH gone AS (
                DELETE FROM webhook_deliveries WHERE delivery_id IN (
                    SELECT d.delivery_id
                      FROM webhook_endpoints e JOIN webhook_deliveries d USING (endpoint_id)
                     WHERE e.deleted_at IS NOT NULL
                     LIMIT $1 FOR UPDATE OF d SKIP LOCKED)
                RETURNING 1)
            SELECT count(*) FROM gone
            """,
            SWEEP_ROWS_MAX,
        )
        if messages:
            return messages
        endpoints: int = await tx.fetch_value(
            """
            WITH gone AS (
                DELETE FROM webhook_endpoints e
                 WHERE e.deleted_at IS NOT NULL
                   AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.endpoint_id)
                RETURNING 1)
            SELECT count(*) FROM gone
            """
        )
    return endpoints


async def select_oldest_unspread(db: Queries) -> float | None:
    """Seconds that the oldest event waits to become messages; None when none does."""
    seconds: float | None = await db.fetch_value(
        "SELECT extract(epoch FROM now() - min(created_at))::float8 FROM webhook_events"
        " WHERE spread_at IS NULL"
    )
    return seconds
