"""From the journal into Postgres: everything, once, whatever stops in between."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import gateway.ship
from gateway.ship import Shipper
from gateway.spool import Spool
from storage.bridge import Database, open_database
from storage.errors import DatabaseUnavailable
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.journals import file_bytes_max, opened, record, row, segments
from tests.support.database_line import DatabaseLine, database_line
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering


class Journal:
    """A journal, its shipper, and what has arrived."""

    def __init__(self, spool: Spool, shipper: Shipper, owner: Database) -> None:
        self.spool = spool
        self.shipper = shipper
        self._owner = owner

    def append(self, *numbers: int) -> None:
        for number in numbers:
            self.spool.append(row(record(number)))

    async def arrived(self) -> list[int]:
        rows = await self._owner.fetch("SELECT input_tokens FROM usage ORDER BY input_tokens")
        return [row["input_tokens"] for row in rows]


@asynccontextmanager
async def journal(tenant: Tenant, url: str | None = None) -> AsyncIterator[Journal]:
    with opened(tenant.spool_dir) as spool:
        async with (
            open_database(url or tenant.database_url, role="karta_gateway") as db,
            open_database(tenant.database_url, role=None) as owner,
        ):
            yield Journal(spool, Shipper(spool, db), owner)


async def test_what_is_appended_arrives_once(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        for expected in ([], [1], [1], [1, 2, 3]):
            usage.append(*(number for number in expected if number > usage.shipper.shipped))
            await usage.shipper.ship_all()
            assert await usage.arrived() == expected
        assert usage.shipper.shipped == 3


async def test_finished_segments_are_shipped_whole_and_deleted(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        for number in range(1, 6):
            usage.append(number)
            usage.spool.rotate()
        assert len(segments(own_tenant.spool_dir)) == 6
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 2, 3, 4, 5]
        assert segments(own_tenant.spool_dir) == [usage.spool.current]


async def test_a_segment_that_is_finished_while_half_shipped_goes_on_where_it_was(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1, 2)
        await usage.shipper.ship_all()
        usage.append(3)
        usage.spool.rotate()
        usage.append(4)
        await usage.shipper.ship_all()
        assert usage.shipper.shipped == 4
        assert await usage.arrived() == [1, 2, 3, 4]


async def test_more_than_one_batch(own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.ship, "_BATCH_MAX", 3)
    async with journal(own_tenant) as usage:
        usage.append(*range(1, 8))
        await usage.shipper.ship_all()
        assert await usage.arrived() == list(range(1, 8))


async def test_an_earlier_life_is_shipped_first(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1, 2)
    async with journal(own_tenant) as usage:
        usage.append(3)
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 2, 3]
        assert segments(own_tenant.spool_dir) == [usage.spool.current]


async def test_what_was_shipped_before_a_death_is_not_counted_twice(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1, 2)
        await usage.shipper.ship_all()
        # It dies here, before it could forget the segment.
    async with journal(own_tenant) as usage:
        await usage.shipper.ship_all()
        assert usage.shipper.shipped == 2
        assert await usage.arrived() == [1, 2]


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 100])
async def test_a_torn_tail_costs_only_itself(
    cut: int, own_tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1, 2)
        whole = usage.spool.bytes_waiting
        usage.append(3)
        torn = usage.spool.current
    os.truncate(torn, whole + cut)
    async with journal(own_tenant) as usage:
        usage.append(4)
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 2, 4]
        assert not torn.exists()
        assert "torn record" in caplog.text
        assert torn.with_suffix(".torn").stat().st_size == whole + cut


async def test_a_torn_tail_holds_up_nothing_on_a_full_disk(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1, 2)
        torn = usage.spool.current
    os.truncate(torn, torn.stat().st_size - 1)
    async with journal(own_tenant) as usage:
        with file_bytes_max(0):
            await usage.shipper.ship_all()
        assert await usage.arrived() == [1]
        assert (torn.exists(), torn.with_suffix(".torn").exists()) == (False, True)


async def test_a_damaged_segment_is_set_aside(own_tenant: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1)
        whole = usage.spool.bytes_waiting
        usage.append(2)
        damaged = usage.spool.current
    with damaged.open("r+b") as file:
        file.seek(whole + 20)
        file.write(b"\xff\xff\xff")
    async with journal(own_tenant) as usage:
        usage.append(3)
        content = damaged.read_bytes()
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 3]
    assert not damaged.exists()
    assert damaged.with_suffix(".damaged").read_bytes() == content
    assert "set aside" in caplog.text


async def test_damage_in_the_segment_in_use_holds_up_nothing(own_tenant: Tenant) -> None:
    async with journal(own_tenant) as usage:
        usage.append(1)
        with usage.spool.current.open("ab") as file:
            file.write(b"\xff" * 100)
        for number in (2, 3):
            await usage.shipper.ship_all()
            usage.append(number)
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 2, 3]
    assert len(list(own_tenant.spool_dir.glob("*.damaged"))) == 1


async def test_the_database_away_and_back(own_tenant: Tenant) -> None:
    async with (
        database_line(own_tenant.database_url) as line,
        journal(own_tenant, line.url) as usage,
    ):
        line.cut()
        usage.append(1, 2)
        usage.spool.rotate()
        usage.append(3)
        with pytest.raises(DatabaseUnavailable):
            await usage.shipper.ship_all()
        assert await usage.arrived() == []
        await line.mend()
        await usage.shipper.ship_all()
        assert await usage.arrived() == [1, 2, 3]


async def test_a_line_that_is_cut_again_and_again_doubles_nothing(own_tenant: Tenant) -> None:
    """Also where the database has taken a batch and could not say so."""
    async with (
        database_line(own_tenant.database_url) as line,
        journal(own_tenant, line.url) as usage,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_disturb, line)
        for number in range(1, 100):
            usage.append(number)
            try:
                await usage.shipper.ship_all()
            except DatabaseUnavailable:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        await line.mend()
    async with journal(own_tenant) as usage:
        await usage.shipper.ship_all()
        assert await usage.arrived() == list(range(1, 100))


async def _disturb(line: DatabaseLine) -> None:
    """Cut the line wherever it happens to be after each so many bytes."""
    while True:
        before = line.passed
        while line.passed < before + 20_000:
            await trio.lowlevel.checkpoint()
        line.cut()
        await line.mend()


async def test_usage_arrives_by_itself_although_the_database_was_away(
    stage: Stage, own_tenant: Tenant
) -> None:
    async with (
        database_line(own_tenant.database_url) as line,
        stage(answering(ANSWER), of=own_tenant, database_url=line.url, owner_url=own_tenant.database_url) as (
            gateway_,
            _,
        ),
    ):
        line.cut()
        for _ in range(3):
            assert (await gateway_.ask(post(own_tenant.token))).status == 200
        await line.mend()
        with trio.fail_after(PATIENCE_SECONDS):
            while await gateway_.db.fetch_value("SELECT count(*) FROM usage") < 3:
                await trio.sleep(0.02)
        assert await gateway_.db.fetch_value("SELECT count(DISTINCT request_id) FROM usage") == 3
