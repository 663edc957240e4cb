"""The one clock that all processes share: the database's. A host's own may be wrong, and jump."""

from __future__ import annotations

from datetime import datetime

from storage.queries import Queries


async def tell_time(db: Queries) -> datetime:
    """The time at the database, now (not when a transaction began)."""
    now: datetime = await db.fetch_value("SELECT clock_timestamp()")
    return now
