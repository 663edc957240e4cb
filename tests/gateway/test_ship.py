"""From the journal to the table: everything, once each, whatever was in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import spool as spool_module
from gateway.ship import Shipper
from storage.bridge import Database, open_database
from storage.errors import DatabaseUnavailable
from tests.gateway.journals import opened, record


async def numbers(db: Database) -> list[int]:
    """The records in the table, by the number each was made from."""
    rows = await db.fetch("SELECT input_tokens FROM usage ORDER BY input_tokens")
    return [row["input_tokens"] for row in rows]


async def test_records_are_shipped_once(gateway_db: Database, owner_db: Database, tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        shipper = Shipper(spool, gateway_db)
        for number in (1, 2):
            spool.append(record(number))
        await shipper.ship_all()
        await shipper.ship_all()
        spool.append(record(3))
        await shipper.ship_all()
        assert shipper.shipped == 3
    assert await numbers(owner_db) == [1, 2, 3]


async def test_a_journal_left_by_an_earlier_life_is_shipped_and_removed(
    gateway_db: Database, owner_db: Database, tmp_path: Path
) -> None:
    with opened(tmp_path) as spool:
        spool.append(record(1))
        first = spool.current
    with opened(tmp_path) as spool:
        spool.append(record(2))
        await Shipper(spool, gateway_db).ship_all()
        assert not first.exists()
        assert spool.finished == []
    assert await numbers(owner_db) == [1, 2]


async def test_what_was_shipped_before_a_kill_is_not_counted_twice(
    gateway_db: Database, owner_db: Database, tmp_path: Path
) -> None:
    with opened(tmp_path) as spool:
        spool.append(record(1))
        await Shipper(spool, gateway_db).ship_all()
    # The offset was only in memory: the next life sends the segment again from its beginning.
    with opened(tmp_path) as spool:
        await Shipper(spool, gateway_db).ship_all()
    assert await numbers(owner_db) == [1]


async def test_segments_follow_each_other(
    gateway_db: Database, owner_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 500)
    with opened(tmp_path) as spool:
        shipper = Shipper(spool, gateway_db)
        for number in range(10):
            spool.append(record(number))
            if number == 4:
                await shipper.ship_all()
        await shipper.ship_all()
        assert spool.finished == []
    assert await numbers(owner_db) == list(range(10))


async def test_a_torn_record_loses_itself_and_nothing_else(
    gateway_db: Database, owner_db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as spool:
        spool.append(record(1))
        spool.append(record(2))
        torn = spool.current
    torn.write_bytes(torn.read_bytes()[:-3])
    with opened(tmp_path) as spool:
        spool.append(record(3))
        await Shipper(spool, gateway_db).ship_all()
    assert await numbers(owner_db) == [1, 3]
    assert "torn record" in caplog.text


async def test_a_damaged_segment_is_set_aside(
    gateway_db: Database, owner_db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as spool:
        for number in (1, 2, 3):
            spool.append(record(number))
        damaged = spool.current
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 0xFF
    damaged.write_bytes(content)
    with opened(tmp_path) as spool:
        await Shipper(spool, gateway_db).ship_all()
    assert await numbers(owner_db) == [1, 2]
    assert damaged.with_suffix(".damaged").read_bytes() == bytes(content)
    assert "set aside" in caplog.text


async def test_a_database_that_is_away_loses_nothing(
    gateway_db: Database, owner_db: Database, tmp_path: Path
) -> None:
    with opened(tmp_path) as spool:
        spool.append(record(1))
        async with open_database("postgresql://karta@127.0.0.1:9/karta", role=None) as nowhere:
            with pytest.raises(DatabaseUnavailable):
                await Shipper(spool, nowhere).ship_all()
        spool.append(record(2))
        await Shipper(spool, gateway_db).ship_all()
    assert await numbers(owner_db) == [1, 2]
