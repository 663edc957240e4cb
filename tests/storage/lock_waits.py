"""When a statement waits for a lock, which no event tells."""

from __future__ import annotations

import trio

from storage.bridge import Database

SECONDS_MAX = 60
_WAITING = """
    SELECT count(DISTINCT pid) FROM pg_locks
     WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


async def until_waiting(db: Database, number: int = 1) -> None:
    """Until so many sessions of this database wait for a lock."""
    with trio.fail_after(SECONDS_MAX):
        while await db.fetch_value(_WAITING) < number:
            await trio.sleep(0.01)
