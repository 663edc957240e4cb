"""Whether usage, its sums and the ledger say the same, hour by hour; and what else is asked to agree.

Three are compared of each hour: the requests themselves, the sums that were made of them as they were stored
(`usage_hourly`, `billable_hourly`), and what the ledger was posted. Of each organization besides: that its
entries add up to zero, and that prepaid credit as gateways see it is the ledger's. Whoever keeps figures
elsewhere (a payment provider) gives a `Check` of theirs.

Each question is one statement, and so of one moment; a day at a time, so that none is long. Where requests
are no longer kept, their sums are believed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from storage.errors import NotFound
from storage.meter_reports import PICODOLLARS_PER_UNIT
from storage.queries import Queries
from storage.usage_charges import CLOSED_AFTER

ORGS_PAGE: Final = 500
DIFFERENCES_MAX: Final = 1000
"""Named at most; they are counted beyond that."""
_DAY: Final = timedelta(days=1)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two that should be the same. `hour` is None for what is of no hour."""

    org_id: UUID
    hour: datetime | None
    what: str
    """Such as `requests: rows and hourly sums`."""
    expected: int
    found: int


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, in sums, and what did not agree."""

    since: datetime
    until: datetime
    organizations: int
    requests: int
    billable_requests: int
    billable_picodollars: int
    posted_picodollars: int
    open_picodollars: int
    """Of hours that have not ended, and so are not to be charged yet."""
    reported_picodollars: int
    """What of these hours no credit covered, as it was put down for Stripe's meter."""
    differences: tuple[Difference, ...]
    difference_count: int

    @property
    def agrees(self) -> bool:
        return self.difference_count == 0


Check = Callable[[Queries, UUID, datetime, datetime], Awaitable[Sequence[Difference]]]
"""Compares something else of an organization, within a span of time."""


async def reconcile(
    db: Queries,
    since: datetime,
    until: datetime,
    *,
    org_id: UUID | None = None,
    checks: Sequence[Check] = (),
    now: datetime | None = None,
) -> Reconciliation:
    """Compares the whole hours of [since, until), of one organization or of all. Raises NotFound."""
    closed = (now or datetime.now(UTC)) - CLOSED_AFTER
    start, end = _hour(since), _hour(until)
    sums = dict.fromkeys(("requests", "billable_requests", "billable", "posted", "open", "reported"), 0)
    differences: list[Difference] = []
    count = organizations = 0
    async for one in _organizations(db, org_id):
        organizations += 1
        found = [*await _check_ledger(db, one), *await _check_credit(db, one)]
        day = start
        while day < end:
            following = min(day + _DAY, end)
            found += await _check_hours(db, one, day, following, closed, sums)
            day = following
        sums["reported"] += await _sum_reports(db, one, start, end)
        for check in checks:
            found += await check(db, one, start, end)
        count += len(found)
        differences += found[: DIFFERENCES_MAX - len(differences)]
    return Reconciliation(
        since=start,
        until=end,
        organizations=organizations,
        requests=sums["requests"],
        billable_requests=sums["billable_requests"],
        billable_picodollars=sums["billable"],
        posted_picodollars=sums["posted"],
        open_picodollars=sums["open"],
        reported_picodollars=sums["reported"],
        differences=tuple(differences),
        difference_count=count,
    )


async def _sum_reports(db: Queries, org_id: UUID, since: datetime, until: datetime) -> int:
    units: int = await db.fetch_value(
        "SELECT coalesce(sum(value), 0)::bigint FROM meter_reports"
        " WHERE org_id = $1 AND hour >= $2 AND hour < $3",
        org_id,
        since,
        until,
    )
    return units * PICODOLLARS_PER_UNIT


async def _organizations(db: Queries, org_id: UUID | None) -> AsyncIterator[UUID]:
    if org_id is not None:
        if not await db.fetch_value("SELECT true FROM organizations WHERE org_id = $1", org_id):
            raise NotFound(f"there is no organization {org_id}: see `karta org list`")
        yield org_id
        return
    after = UUID(int=0)
    while rows := await db.fetch(
        "SELECT org_id FROM organizations WHERE org_id > $1 ORDER BY org_id LIMIT $2", after, ORGS_PAGE
    ):
        for row in rows:
            yield row["org_id"]
        after = rows[-1]["org_id"]


_HOURS = """
    WITH rows AS (
         SELECT date_trunc('hour', started_at, 'UTC') AS hour, count(*) AS requests,
                sum(charged_picodollars) AS charged, coalesce(sum(cost_picodollars), 0) AS cost,
                sum(input_tokens::bigint + output_tokens + cache_read_tokens + cache_write_5m_tokens
                    + cache_write_1h_tokens) AS tokens,
                count(*) FILTER (WHERE credential_kind = 'platform') AS billable_requests,
                coalesce(sum(charged_picodollars) FILTER (WHERE credential_kind = 'platform'), 0) AS billable
           FROM usage WHERE org_id = $1 AND started_at >= $2 AND started_at < $3 GROUP BY 1),
    sums AS (
         SELECT hour, sum(requests) AS requests, sum(charged_picodollars) AS charged,
                sum(cost_picodollars) AS cost,
                sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens
                    + cache_write_1h_tokens) AS tokens
           FROM usage_hourly WHERE org_id = $1 AND hour >= $2 AND hour < $3 GROUP BY 1),
    billing AS (
         SELECT hour, requests, picodollars, posted FROM billable_hourly
          WHERE org_id = $1 AND hour >= $2 AND hour < $3),
    posted AS (
         SELECT t.period_start AS hour, sum(e.amount) AS amount
           FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
          WHERE t.org_id = $1 AND t.kind IN ('usage', 'correction') AND e.account = 'usage'
            AND t.period_start >= $2 AND t.period_start < $3
          GROUP BY 1)
    SELECT hour, r.hour IS NOT NULL AS kept,
           coalesce(r.requests, 0)::bigint AS requests, coalesce(s.requests, 0)::bigint AS sum_requests,
           coalesce(r.charged, 0)::bigint AS charged, coalesce(s.charged, 0)::bigint AS sum_charged,
           coalesce(r.cost, 0)::bigint AS cost, coalesce(s.cost, 0)::bigint AS sum_cost,
           coalesce(r.tokens, 0)::bigint AS tokens, coalesce(s.tokens, 0)::bigint AS sum_tokens,
           coalesce(r.billable_requests, 0)::bigint AS billable_requests,
           coalesce(b.requests, 0)::bigint AS sum_billable_requests,
           coalesce(r.billable, 0)::bigint AS billable, coalesce(b.picodollars, 0) AS sum_billable,
           coalesce(b.posted, 0) AS marked, coalesce(p.amount, 0)::bigint AS posted
      FROM rows r FULL JOIN sums s USING (hour) FULL JOIN billing b USING (hour)
      FULL JOIN posted p USING (hour)
     ORDER BY hour
"""
_ROWS_AND_SUMS: Final = (
    ("requests: rows and hourly sums", "requests", "sum_requests"),
    ("charged: rows and hourly sums", "charged", "sum_charged"),
    ("cost: rows and hourly sums", "cost", "sum_cost"),
    ("tokens: rows and hourly sums", "tokens", "sum_tokens"),
    ("billable requests: rows and billable sums", "billable_requests", "sum_billable_requests"),
    ("billable: rows and billable sums", "billable", "sum_billable"),
)


async def _check_hours(
    db: Queries, org_id: UUID, since: datetime, until: datetime, closed: datetime, sums: dict[str, int]
) -> list[Difference]:
    kept_since = await db.fetch_value("SELECT min(started_at) FROM usage WHERE org_id = $1", org_id)
    going = await db.fetch_value("SELECT kept_since FROM usage_expiry WHERE org_id = $1", org_id)
    found: list[Difference] = []
    for row in await db.fetch(_HOURS, org_id, since, until):
        hour = row["hour"]
        pairs = []
        kept = going is None or hour >= going
        if kept and (row["kept"] or (kept_since is not None and hour > kept_since)):
            pairs += [(what, row[expected], row[other]) for what, expected, other in _ROWS_AND_SUMS]
        pairs.append(("posted: billable sums and ledger", row["marked"], row["posted"]))
        if hour + timedelta(hours=1) <= closed:
            pairs.append(("charged for: billable sums and ledger", row["sum_billable"], row["posted"]))
        else:
            sums["open"] += row["sum_billable"] - row["posted"]
        found += [
            Difference(org_id=org_id, hour=hour, what=what, expected=expected, found=other)
            for what, expected, other in pairs
            if expected != other
        ]
        sums["requests"] += row["sum_requests"]
        sums["billable_requests"] += row["sum_billable_requests"]
        sums["billable"] += row["sum_billable"]
        sums["posted"] += row["posted"]
    return found


async def _check_ledger(db: Queries, org_id: UUID) -> list[Difference]:
    row = await db.fetch_row(
        """
        SELECT coalesce(sum(amount), 0)::bigint AS total,
               (SELECT count(*) FROM ledger_transactions t
                 WHERE t.org_id = $1 AND NOT EXISTS (
                       SELECT FROM ledger_entries e WHERE e.transaction_id = t.transaction_id)) AS bare,
               (SELECT count(*) FROM (
                       SELECT FROM ledger_entries WHERE org_id = $1
                        GROUP BY transaction_id HAVING sum(amount) <> 0) odd) AS odd
          FROM ledger_entries WHERE org_id = $1
        """,
        org_id,
    )
    assert row is not None
    found = [
        ("ledger: all entries together", row["total"]),
        ("ledger: transactions without entries", row["bare"]),
        ("ledger: transactions that do not add up", row["odd"]),
    ]
    return [
        Difference(org_id=org_id, hour=None, what=what, expected=0, found=amount)
        for what, amount in found
        if amount
    ]


async def _check_credit(db: Queries, org_id: UUID) -> list[Difference]:
    """What gateways may still lend of prepaid credit is the ledger's balance, less what is not posted."""
    row = await db.fetch_row(
        """
        SELECT l.amount - w.settled AS left,
               (SELECT coalesce(sum(amount), 0) FROM ledger_entries
                 WHERE org_id = $1 AND account IN ('credit', 'included'))::bigint
               - (SELECT coalesce(sum(picodollars - posted), 0) FROM billable_hourly
                   WHERE org_id = $1)::bigint AS balance
          FROM limits l JOIN quota_windows w USING (limit_id)
         WHERE l.org_id = $1 AND l.kind = 'credit' AND l.removed_at IS NULL
        """,
        org_id,
    )
    if row is None or row["left"] == row["balance"]:
        return []
    what = "prepaid credit: ledger and limit"
    return [Difference(org_id=org_id, hour=None, what=what, expected=row["balance"], found=row["left"])]


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
