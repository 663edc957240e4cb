"""What the control plane posts by itself."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from admin import bookkeeping
from admin.bookkeeping import keep_books, post_due
from storage import error_reports
from storage.bridge import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.ledger import Balance, select_balance
from tests.admin.conftest import Person
from tests.storage.test_usage_charges import DOLLAR, platform
from tests.storage.usage_records import insert_usage


async def test_usage_is_charged_and_months_turn(
    admin_db: Database, gateway_db: Database, person: Person
) -> None:
    org = person.organization
    earlier = datetime.now(UTC) - timedelta(hours=3)
    await insert_usage(gateway_db, [platform(org, 5, started_at=earlier)])
    assert await post_due(admin_db) == 1
    assert await select_balance(admin_db, org.org_id) == Balance(credit=-5, included=20 * DOLLAR)
    assert await post_due(admin_db) == 0


def test_a_round_that_fails_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = []
    told: list[BaseException] = []
    busy = DatabaseBusy("too long")

    async def fail(_: object) -> int:
        rounds.append(trio.current_time())
        if len(rounds) == 3:
            raise trio.TooSlowError
        raise busy if len(rounds) == 2 else DatabaseUnavailable("away")

    monkeypatch.setattr(bookkeeping, "post_due", fail)
    monkeypatch.setattr(error_reports, "report", lambda error, _: told.append(error))

    async def run() -> None:
        await keep_books(None)  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING), pytest.raises(trio.TooSlowError):
        trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert "away" in caplog.text
    assert told == [busy], "a database that is away is no fault"
    assert rounds[1] - rounds[0] == pytest.approx(bookkeeping.EVERY_SECONDS)
