"""Journals of several workers: each has one, and what was left behind is settled once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import trio

from gateway import journals
from gateway.journals import Leftovers, take_journal
from gateway.spool import SETTLED_FILE, Spool, SpoolLocked
from storage.bridge import Database
from storage.leases import LeaseRequest, LeaseState, settle_leases
from tests.gateway.conftest import Tenant
from tests.gateway.journals import record, row
from tests.support.database_line import database_line
from tests.support.gateway import poll

pytestmark = pytest.mark.usefixtures("_often")


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LOOK_SECONDS", 0.02)


def leave(directory: Path, *numbers: int) -> UUID:
    """A journal with these records whose worker was killed; its owner."""
    with closing(Spool(directory)) as spool:
        for number in numbers:
            spool.append(row(record(number)))
        return spool.owner


async def stored(db: Database) -> list[int]:
    rows = await db.fetch("SELECT input_tokens FROM usage ORDER BY input_tokens")
    return [one["input_tokens"] for one in rows]


def test_each_worker_takes_the_first_that_is_free(tmp_path: Path) -> None:
    spools = [take_journal(tmp_path) for _ in range(3)]
    assert [spool.current.parent.name for spool in spools] == ["worker-000", "worker-001", "worker-002"]
    owner = spools[1].owner
    spools[1].close()
    with closing(take_journal(tmp_path)) as successor:
        assert successor.current.parent.name == "worker-001"
        assert successor.owner == owner
    close([spools[0], spools[2]])


def test_there_is_an_end_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "JOURNALS_MAX", 2)
    spools = [take_journal(tmp_path), take_journal(tmp_path)]
    with pytest.raises(SpoolLocked, match="all 2"):
        take_journal(tmp_path)
    close(spools)


def close(spools: Iterable[Spool]) -> None:
    for spool in spools:
        spool.close()


async def test_what_was_left_is_shipped_and_what_was_lent_given_back(
    own_tenant: Tenant, owner_db: Database, tmp_path: Path
) -> None:
    del own_tenant
    owner = leave(tmp_path / "worker-001", 1, 2)
    # A worker alone had its journal in the home itself.
    leave(tmp_path, 3)
    await owner_db.execute("INSERT INTO quota_windows VALUES (7, to_timestamp(0))")
    await owner_db.execute(
        "INSERT INTO quota_leases VALUES (7, to_timestamp(0), $1, 5, 0, 5, 1, 1, now() + interval '1 min')",
        owner,
    )
    leftovers = Leftovers(tmp_path, owner_db)
    with closing(take_journal(tmp_path)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leftovers.run)
            await poll(lambda: leftovers.settled == 2)
            nursery.cancel_scope.cancel()
    assert await stored(owner_db) == [1, 2, 3]
    assert await owner_db.fetch_value("SELECT count(*) FROM quota_leases") == 0
    # Whoever takes one over does not find it settled any more.
    with closing(Spool(tmp_path / "worker-001")) as spool:
        assert spool.owner == owner
        assert not (tmp_path / "worker-001" / "settled").exists()


async def test_a_call_of_a_dead_worker_that_comes_after_the_end_of_its_leases_changes_nothing(
    own_tenant: Tenant, owner_db: Database, tmp_path: Path
) -> None:
    """Whatever the clocks of the hosts say: the dead one may have been ahead."""
    del own_tenant
    with closing(Spool(tmp_path / "worker-001")) as dead:
        owner, turn = dead.owner, dead.turn + 1_000_000
    leftovers = Leftovers(tmp_path, owner_db)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leftovers.run)
        await poll(lambda: leftovers.settled == 1)
        nursery.cancel_scope.cancel()
    (answer,) = await settle_leases(owner_db, owner, turn, [LeaseRequest(7, 0, 1, 0, 0, 5, 1)])
    assert answer.state is LeaseState.LATE
    # Its successor's are heard.
    with closing(Spool(tmp_path / "worker-001")) as successor:
        request = LeaseRequest(7, 0, 1, 0, 0, 5, 1)
        (answer,) = await settle_leases(owner_db, owner, successor.turn + 1, [request])
        assert answer.state is LeaseState.GONE, "there is no such limit"


async def test_what_somebody_holds_is_left_alone(owner_db: Database, tmp_path: Path) -> None:
    leftovers = Leftovers(tmp_path, owner_db)
    with closing(take_journal(tmp_path)) as spool:
        spool.append(row(record(1)))
        leave(tmp_path / "worker-001", 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leftovers.run)
            await poll(lambda: leftovers.settled == 1)
            nursery.cancel_scope.cancel()
        assert await stored(owner_db) == [2]


async def test_two_who_look_settle_it_once(owner_db: Database, tmp_path: Path) -> None:
    for number in range(4):
        leave(tmp_path / f"worker-{number:03}", number)
    several = [Leftovers(tmp_path, owner_db) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for leftovers in several:
            nursery.start_soon(leftovers.run)
        await poll(lambda: sum(leftovers.settled for leftovers in several) >= 4)
        nursery.cancel_scope.cancel()
    assert await stored(owner_db) == [0, 1, 2, 3]


async def test_what_another_has_just_settled_is_left_as_it_is(owner_db: Database, tmp_path: Path) -> None:
    leave(tmp_path / "worker-000", 1)
    first, second = Leftovers(tmp_path, owner_db), Leftovers(tmp_path, owner_db)
    for leftovers in (first, second):
        # Both have seen it unsettled.
        await leftovers._settle(tmp_path / "worker-000")
        assert (tmp_path / "worker-000" / SETTLED_FILE).exists()
    assert (first.settled, second.settled) == (1, 0)


class Tried(Leftovers):
    """Counts how often it was at a journal."""

    times = 0

    async def _settle(self, directory: Path) -> None:
        self.times += 1
        await super()._settle(directory)


async def test_what_cannot_be_settled_waits_and_does_not_grow(own_tenant: Tenant, tmp_path: Path) -> None:
    from storage.bridge import open_database

    leave(tmp_path / "worker-000", 1)
    async with (
        database_line(own_tenant.database_url) as line,
        open_database(line.url, role="karta_gateway") as db,
        open_database(own_tenant.database_url, role=None) as owner,
        trio.open_nursery() as nursery,
    ):
        line.cut()
        leftovers = Tried(tmp_path, db)
        nursery.start_soon(leftovers.run)
        await poll(lambda: leftovers.times > 5)
        assert leftovers.settled == 0
        # What was left, and at most the one that is open for a try under way: an outage may last for days.
        assert len(list((tmp_path / "worker-000").glob("*.spool"))) <= 2
        await line.mend()
        await poll(lambda: leftovers.settled == 1)
        assert await stored(owner) == [1]
        nursery.cancel_scope.cancel()


def test_a_journal_is_settled_until_somebody_takes_it(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        spool.settle()
    assert (tmp_path / "settled").exists()
    with closing(Spool(tmp_path)) as spool:
        assert not (tmp_path / "settled").exists()
        # What is in flight at the end would be nobody's.
        spool.in_flight.begin(b"a request")
        spool.settle()
        assert not (tmp_path / "settled").exists()
