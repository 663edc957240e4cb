"""Rows 18 and 23: no room for the journal, and no descriptors left."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.faults.arena import arena, scaled
from tests.faults.conftest import Table
from tests.gateway.conftest import Tenant
from tests.support.gateway import POLL_SECONDS

CPU_SHARE_MAX = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def limited(pid: int, kind: int, amount: int) -> Iterator[None]:
    """A process with a resource limit, until the context ends."""
    soft, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (amount, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, (soft, hard))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_a_journal_without_room(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """As on a full disk, by the largest file its process may write: nothing is served uncounted, and what
    was under way is counted when there is room again."""
    async with arena(own_tenant, tmp_path) as stand, stand.control():
        await stand.warm()
        gateway = stand.gateways[0]
        running = []

        async def stream() -> None:
            running.append(await stand.ask("tokens=60,pace_ms=50"))

        async with trio.open_nursery() as nursery:
            for _ in range(scaled(50, 3)):
                nursery.start_soon(stream)
            while not any(entry["tokens_sent"] for entry in await stand.ledger()):
                await trio.sleep(POLL_SECONDS)
            with limited(gateway.pid, resource.RLIMIT_FSIZE, 1):
                # The one that finds out has been served already, and is held in memory.
                first = await stand.ask("tokens=1", stream=False)
                assert first.status == 200
                refused = await stand.ask("tokens=1", stream=False)
                assert refused.status == 503
                assert await stand.probe("/readyz") == 503
                assert await stand.probe("/healthz") == 200
                nursery.cancel_scope.deadline = trio.current_time() + 60
                while len(running) < scaled(50, 3):
                    await trio.sleep(POLL_SECONDS)
        began = trio.current_time()
        while await stand.probe("/readyz") != 200:
            await trio.sleep(POLL_SECONDS)
        healed = trio.current_time() - began
        assert (await stand.ask("tokens=1", stream=False)).status == 200
        assert all(one.whole for one in running)
        await stand.rows_of(*(one for one in stand.history if one.whole and one.status == 200))
        found = await stand.findings()
        assert found.none, found
        assert not any(row["model_asked"] == refused.model for row in await stand.rows())
    table.add(
        18,
        "journal without room",
        f"503 meanwhile; {len(running)} streams whole; healed in {healed:.1f} s; 0 lost",
    )


async def test_no_descriptors_left(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    async with arena(own_tenant, tmp_path) as stand, stand.control():
        await stand.warm()
        gateway = stand.gateways[0]
        async with stand.client() as known:
            attempt, request = stand.request("tokens=1", stream=False)
            await known.send(request)
            assert (await known.read_answer()).status == 200
            with limited(gateway.pid, resource.RLIMIT_NOFILE, descriptors(gateway.pid) + 4):
                async with contextlib.AsyncExitStack() as crowd:
                    for _ in range(scaled(500, 40)):
                        await crowd.enter_async_context(stand.client())
                    await trio.sleep(0.3)
                    before, began = cpu_seconds(gateway.pid), trio.current_time()
                    await trio.sleep(scaled(5.0, 1.0))
                    share = (cpu_seconds(gateway.pid) - before) / (trio.current_time() - began)
                    # The control stream's own share is in it.
                    assert share < scaled(CPU_SHARE_MAX, 0.6)
                    again, request = stand.request("tokens=1", stream=False)
                    await known.send(request)
                    assert (await known.read_answer()).status == 200
                began = trio.current_time()
                with trio.fail_after(20):
                    assert (await stand.ask("tokens=1")).status == 200
                healed = trio.current_time() - began
        del attempt, again
    table.add(
        23,
        "no descriptors left",
        f"CPU {share * 100:.0f} % (max 20); known clients served; healed in {healed:.1f} s",
    )
