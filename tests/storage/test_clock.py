"""The database's clock."""

from __future__ import annotations

from storage.bridge import Database
from storage.clock import tell_time


async def test_it_goes_on_within_a_transaction(admin_db: Database) -> None:
    before = await tell_time(admin_db)
    async with admin_db.transaction() as tx:
        began = await tx.fetch_value("SELECT now()")
        first, second = await tell_time(tx), await tell_time(tx)
    assert before < began < first < second
    assert first.tzinfo is not None
