"""Row 17: PostgreSQL's disk is full: a small file system in memory that the test mounts, so only as root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from storage.audit import Event
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.model import Plan
from storage.organizations import create_organization
from tests.faults.arena import arena, scaled
from tests.faults.conftest import Table
from tests.faults.test_database import DATABASE, Outage, complete, streaming
from tests.gateway.conftest import ACTOR
from tests.support.postgres import PostgresServer

DISK = "320m"
ACTS_MAX = 2000
HEALED_SECONDS_MAX = scaled(30.0, 60.0)


class Disk:
    """A small file system. `fill` leaves no byte of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @asynccontextmanager
    async def filled(self) -> AsyncIterator[None]:
        try:
            # In a thread: what is measured meanwhile must not wait for it.
            await trio.to_thread.run_sync(self._fill)
            yield
        finally:
            self._ballast.unlink()

    def _fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="karta-disk-") as name:
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name], capture_output=True
            ).returncode
        )
        if not mounted:
            pytest.skip("no file system may be mounted here")
        try:
            yield Disk(Path(name))
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@pytest.fixture
def outage(disk: Disk) -> Iterator[Outage]:
    server = PostgresServer(disk.folder / "pg")
    server.start()
    made = Outage(server)
    try:
        yield made
    finally:
        made.close()
        server.stop()


async def test_a_database_whose_disk_is_full(
    outage: Outage, disk: Disk, tmp_path: Path, table: Table
) -> None:
    streams: list[object] = []
    acts: list[bool] = []
    async with arena(outage.tenant(tmp_path), tmp_path) as stand, stand.control():
        await stand.warm()
        async with streaming(stand, streams), disk.filled():  # type: ignore[arg-type]
            for number in range(scaled(300, 20)):
                assert (await stand.ask("tokens=2", gateway=number)).status == 200
            async with open_database(outage.url, role="karta_admin", connections_max=1) as admin:
                while not acts or (acts[-1] and len(acts) < ACTS_MAX):
                    acts.append(await act(admin))
        assert all(one.whole for one in stand.history if one.status == 200 and one.body_sha256)
        if outage.server._process is not None and outage.server._process.poll() is not None:
            # It gives up where its log finds no room, which is its right; whoever keeps it starts it again.
            outage.server._process = None
            await outage.start()
        began = trio.current_time()
        await complete(stand)
        healed = trio.current_time() - began
        assert healed <= HEALED_SECONDS_MAX
        found = await stand.findings()
        assert found.none, found
    made = outage.server.sql("SELECT count(*) FROM organizations WHERE name = 'Full'", DATABASE)
    told = outage.server.sql(
        f"SELECT count(*) FROM audit_log WHERE event = '{Event.ORGANIZATION_CREATED}'"
        " AND details->>'name' = 'Full'",
        DATABASE,
    )
    # Small changes find room in what the database has already, until one does not.
    assert int(made) == int(told) == len(acts) - 1
    assert not acts[-1]
    table.add(
        17,
        "database's disk is full",
        f"{len(streams)} streams whole; act {len(acts)} of the administration failed, and whole; "
        f"healed in {healed:.1f} s (max 30); 0 lost",
    )


async def act(admin: Database) -> bool:
    """Whether an organization could be made, with its audit row, on the full disk."""
    try:
        await create_organization(admin, ACTOR, name="Full", plan=Plan.FREE)
    except StorageError:
        return False
    return True
