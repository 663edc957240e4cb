"""Readings are numbered in the order in which they begin."""

from __future__ import annotations

from storage.bridge import Database
from storage.stripe_objects import begin_reading


async def test_each_reading_has_a_higher_number(admin_db: Database) -> None:
    first = await begin_reading(admin_db)
    assert await begin_reading(admin_db) > first > 0
