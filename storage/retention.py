"""How old usage leaves the database, and how its sums are made anew.

Requests leave by the month, a whole partition at a time: no row is looked at, and nothing is left behind to
be vacuumed (as the owner of the schema only). Those of organizations whose plan keeps them for less leave
before that, by the week: it is noted first which (`usage_expiry`), with an audit row, and then they are
deleted in batches. The hourly sums stay; they are a hundredth of the size.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.errors import InvalidValue
from storage.model import Actor, Plan
from storage.plan_terms import SUSPENDED_KEPT, TERMS

DAYS_MIN = 1
DEFAULT_ROWS_MAX = 50_000
"""Rows outside of any month, which are few, deleted in one call."""
MARKED_ORGS_MAX = 200
BATCH_ROWS_MAX = 5000
"""Of one organization, in one transaction: some tens of milliseconds."""
BATCHES_MAX = 200
"""Of one call: a million requests."""
_DAY = timedelta(days=1)


async def drop_usage(db: Database, actor: Actor, days: int) -> list[str]:
    """Drops the months of requests that ended more than `days` ago; returns what was dropped."""
    if days < DAYS_MIN:
        raise InvalidValue(f"keep usage for {DAYS_MIN} day at least")
    kept_since = datetime.now(UTC) - timedelta(days=days)
    async with db.transaction() as tx:
        dropped = list(await tx.fetch_value("SELECT drop_usage($1, $2)", kept_since, DEFAULT_ROWS_MAX))
        if dropped:
            details = {"dropped": dropped, "days": days}
            await audit.record(tx, actor, Event.USAGE_DROPPED, None, "usage", details)
    return dropped


async def expire_usage(db: Database, actor: Actor) -> int:
    """Deletes the requests that organizations' plans keep no longer, `BATCHES_MAX` batches at most; returns
    how many. What is left then, or when it is cut off, is the next call's. Safe to call concurrently."""
    for terms in TERMS.values():
        while terms.usage_days is not None and await _mark(db, actor, terms.plan, terms.usage_days):
            pass
    deleted = 0
    for _ in range(BATCHES_MAX):
        rows = await db.fetch_value("SELECT expire_usage($1)", BATCH_ROWS_MAX)
        if rows is None:
            break
        deleted += rows
    return deleted


async def _mark(db: Database, actor: Actor, plan: Plan, days: int) -> bool:
    """Notes what is to go of some organizations; false when there was none."""
    async with db.transaction() as tx:
        marked = await tx.fetch(
            "SELECT * FROM mark_usage_expiry($1, $2, $3, $4) ORDER BY org_id",
            plan.value,
            days,
            SUSPENDED_KEPT,
            MARKED_ORGS_MAX,
        )
        for row in marked:
            if row["going"]:
                details = {"before": row["kept_since"].isoformat(), "plan": plan.value, "days": days}
                await audit.record(tx, actor, Event.USAGE_DROPPED, row["org_id"], "usage", details)
    return bool(marked)


async def rebuild_hourly(db: Database, actor: Actor, org_id: UUID, since: datetime, until: datetime) -> int:
    """Makes an organization's sums anew for the whole hours of [since, until), a day in each transaction;
    returns how many there are. The sums of hours whose requests have been dropped stay as they are."""
    made = 0
    start = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    end = until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while start < end:
        following = min(start.replace(hour=0) + _DAY, end)
        async with db.transaction() as tx:
            rows = await tx.fetch_value("SELECT rebuild_hourly($1, $2, $3)", org_id, start, following)
            details = {"since": start.isoformat(), "until": following.isoformat(), "rows": rows}
            await audit.record(tx, actor, Event.USAGE_REBUILT, org_id, str(org_id), details)
        made += rows
        start = following
    return made
