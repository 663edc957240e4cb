from __future__ import annotations

from storage import deadlines
from storage.bridge import Database


def test_deadlines_nest_so_that_the_most_precise_error_comes_first() -> None:
    assert deadlines.STATEMENT_SECONDS_MAX < deadlines.QUERY_SECONDS_MAX < deadlines.POOL_WAIT_SECONDS_MAX
    assert deadlines.RETIRE_SECONDS_MAX < deadlines.POOL_WAIT_SECONDS_MAX


async def test_the_server_knows_its_share(admin_db: Database) -> None:
    settings = "SELECT current_setting('statement_timeout') || current_setting($1)"
    seen = await admin_db.fetch_value(settings, "idle_in_transaction_session_timeout")
    assert seen == f"{deadlines.STATEMENT_SECONDS_MAX}s{deadlines.IDLE_IN_TRANSACTION_SECONDS_MAX}s"
