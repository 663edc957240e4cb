"""What an organization used: summed from the hourly roll-ups, or row by row.

Whole hours come from `usage_hourly`, which has a row for each hour, key and model however many requests there
were; only where a span begins or ends within an hour are the requests of that hour themselves added up. The
roll-ups are kept up with every batch (`usage_rows`), so the hour that is running is in them as well.

Bounds: pages, of groups and of rows, each going on after the last of the page before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.model import Actor, CredentialKind, Outcome, UsageRecord
from storage.queries import Queries, Record
from storage.request_ids import made_at
from storage.usage_tuple import COLUMNS

PAGE_ROWS_MAX = 1000
"""The most groups, and the most requests, of one page."""

SEARCHED_ROWS_MAX = 100_000
"""How far back a request is looked for by its id alone where the id does not tell its time: there is no index
of ids, since it would cost every row something."""

_NEAR = timedelta(seconds=5)
"""An id is made when its request's head arrives, which is the request's time but for a clock that was set."""
_TRIED = timedelta(hours=1)
"""The id of a further try may be made so much later than the request began, and that of a slow upload so much
earlier."""
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_EVER = datetime(1, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


class Grouping(StrEnum):
    """What totals are given for each of."""

    DAY = "day"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"


class UsageTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a group of requests. `group` is a UTC day (2026-01-31), a key id, a model as answered, a
    provider, or None for all."""

    group: str | None
    requests: int
    incomplete: int
    """Requests whose provider never told its final figures."""
    unpriced: int
    """Requests whose price is unknown: their cost is not in the sum."""
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    server_tool_calls: int
    cost_picodollars: int
    charged_picodollars: int


_SUMMED = tuple(name for name in UsageTotal.__struct_fields__ if name != "group")
_OF_ROWS = {
    "requests": "1",
    "incomplete": "CASE WHEN usage_complete THEN 0 ELSE 1 END",
    "unpriced": "CASE WHEN cost_picodollars IS NULL THEN 1 ELSE 0 END",
    "cost_picodollars": "coalesce(cost_picodollars, 0)",
}
# Of an hour, and of a request. Days are spelt out only once they are few.
_GROUPS = {
    None: ("NULL::text", "NULL::text"),
    Grouping.DAY: ("(hour AT TIME ZONE 'UTC')::date", "(started_at AT TIME ZONE 'UTC')::date"),
    Grouping.KEY: ("key_id", "key_id"),
    Grouping.MODEL: ("model", "coalesce(model_answered, model_asked, '')"),
    Grouping.PROVIDER: ("provider", "provider"),
}


async def select_totals(
    db: Queries,
    org_id: UUID,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    by: Grouping | None = None,
    after: str | None = None,
    limit: int = PAGE_ROWS_MAX,
    dearest_first: bool = False,
) -> list[UsageTotal]:
    """Sums of one organization's requests started in [since, until): one row for all, or one for each group,
    `limit` at most: in the groups' order, from behind the group `after`, or those first that cost most."""
    spans = _split(since or _EVER, until or _FOREVER)
    of_hours, of_rows = _GROUPS[by]
    spelt = {None: "NULL::text", Grouping.DAY: "to_char(parts.\"group\", 'YYYY-MM-DD')"}.get(
        by, 'parts."group"'
    )
    sums = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in _SUMMED)
    rows = await db.fetch(
        f"""
        WITH parts AS (
             SELECT {of_hours} AS "group", {", ".join(_SUMMED)}
               FROM usage_hourly
              WHERE org_id = $1 AND hour >= $2 AND hour < $3
              UNION ALL
             SELECT {of_rows}, {", ".join(_OF_ROWS.get(name, name) for name in _SUMMED)}
               FROM usage
              WHERE org_id = $1 AND (started_at >= $4 AND started_at < $5
                                     OR started_at >= $6 AND started_at < $7))
        SELECT {spelt} AS "group", {sums}
          FROM parts
         {'GROUP BY parts."group"' if by else ""}
        HAVING $8::text IS NULL OR {spelt} > $8
         ORDER BY {"cost_picodollars DESC, requests DESC, 1" if dearest_first else "1"}
         LIMIT $9
        """,  # noqa: S608
        org_id,
        *spans,
        after,
        min(limit, PAGE_ROWS_MAX),
    )
    return [_to_total(row) for row in rows]


def add_up(totals: Sequence[UsageTotal]) -> UsageTotal:
    """The sum of all groups, without asking again."""
    sums = {name: sum(getattr(total, name) for total in totals) for name in _SUMMED}
    return UsageTotal(group=None, **sums)


async def select_usage(
    db: Queries,
    org_id: UUID,
    *,
    since: datetime | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = PAGE_ROWS_MAX,
) -> list[UsageRecord]:
    """An organization's requests, newest first, from behind `before` (when one was started, and its id), down
    to those started at `since`."""
    rows = await db.fetch(
        f"""
        SELECT {", ".join(COLUMNS)} FROM usage
         WHERE org_id = $1 AND started_at <= $2 AND (started_at, request_id) < ($2, $3) AND started_at >= $5
         ORDER BY started_at DESC, request_id DESC
         LIMIT $4
        """,  # noqa: S608
        org_id,
        _FOREVER if before is None else before[0],
        UUID(int=2**128 - 1) if before is None else UUID(before[1]),
        min(limit, PAGE_ROWS_MAX),
        since or _EVER,
    )
    return [_to_record(row) for row in rows]


async def select_request(
    db: Queries,
    org_id: UUID,
    request_id: UUID,
    started_at: datetime | None = None,
    *,
    since: datetime | None = None,
) -> UsageRecord | None:
    """One of an organization's requests, of those started at `since` or later: at once where its time is
    known or told by its id (`request_ids`), else among the newest `SEARCHED_ROWS_MAX`."""
    if started_at is not None:
        row = await db.fetch_row(
            f"SELECT {', '.join(COLUMNS)} FROM usage"  # noqa: S608
            " WHERE started_at = $1 AND request_id = $2 AND org_id = $3",
            started_at,
            request_id,
            org_id,
        )
    else:
        row = await _search(db, org_id, request_id)
    return None if row is None or row["started_at"] < (since or _EVER) else _to_record(row)


async def _search(db: Queries, org_id: UUID, request_id: UUID) -> Record | None:
    made = made_at(request_id)
    spans = [] if made is None else [(made - near, made + near) for near in (_NEAR, _TRIED)]
    for begin, end in (*spans, (_EVER, _FOREVER)):
        row = await db.fetch_row(
            f"""
            SELECT {", ".join(COLUMNS)}
              FROM (SELECT * FROM usage
                     WHERE org_id = $1 AND started_at BETWEEN $4 AND $5
                     ORDER BY started_at DESC LIMIT $3) newest
             WHERE request_id = $2
             LIMIT 1
            """,  # noqa: S608
            org_id,
            request_id,
            SEARCHED_ROWS_MAX,
            begin,
            end,
        )
        if row is not None:
            return row
    return None


async def select_first_usage(db: Queries, org_id: UUID) -> UsageRecord | None:
    """The oldest request of an organization that is kept."""
    row = await db.fetch_row(
        f"SELECT {', '.join(COLUMNS)} FROM usage WHERE org_id = $1 ORDER BY started_at LIMIT 1",  # noqa: S608
        org_id,
    )
    return None if row is None else _to_record(row)


def _split(since: datetime, until: datetime) -> tuple[datetime, ...]:
    """The whole hours of a span, and what is left of it before and after them: three pairs."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if first < since:
        first += _HOUR
    last = until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if first >= last:
        return first, first, since, until, until, until
    return first, last, since, first, last, until


def _to_total(row: Record) -> UsageTotal:
    # PostgreSQL's sums of bigint are numeric, so that they cannot overflow.
    return UsageTotal(group=row["group"], **{name: int(row[name]) for name in _SUMMED})


def _to_record(row: Record) -> UsageRecord:
    values = {name: row[name] for name in COLUMNS}
    values["request_id"] = row["request_id"].hex
    values["credential_kind"] = CredentialKind(row["credential_kind"])
    values["outcome"] = Outcome(row["outcome"])
    return UsageRecord(**values)


async def record_export(db: Database, actor: Actor, org_id: UUID, by: Grouping, since: datetime) -> None:
    """Tells the audit log that usage is being exported."""
    async with db.transaction() as tx:
        details = {"by": by.value, "since": since.isoformat()}
        await audit.record(tx, actor, Event.USAGE_EXPORTED, org_id, str(org_id), details)
