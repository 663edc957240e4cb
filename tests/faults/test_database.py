"""Rows 1, 2, 3 and 17: PostgreSQL is down, stops in the middle, or hangs."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from storage.api_keys import mint_key
from storage.bridge import open_database
from storage.migrate import migrate
from storage.model import Mode, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys
from tests.faults.arena import Arena, arena, only_in_full, scaled
from tests.faults.conftest import Table
from tests.faults.history import Attempt, percentile
from tests.gateway.conftest import ACTOR, Tenant
from tests.support.gateway import POLL_SECONDS
from tests.support.gateway_process import gateway_process
from tests.support.postgres import PostgresServer, run_in_own_trio, running_server
from tests.support.raw_client import RawClient
from tests.support.requests import post

STREAMS = scaled(100, 8)
BACK_SECONDS_MAX = 30.0
DATABASE = "karta_faults"


class Outage:
    """A server of this module's own, to be stopped at will, with a tenant in it and a key nobody has used."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        # One that stays: the kernel takes the end of the thread that started a server for its parent's.
        self._starter = ThreadPoolExecutor(1)
        self.url = server.url(DATABASE)
        server.create_database(DATABASE)
        run_in_own_trio(migrate, self.url)
        self.org_id, self.key_id, self.token, self.other_token = run_in_own_trio(self._make)

    async def _make(self) -> tuple[object, str, str, str]:
        async with open_database(self.url, role="karta_admin") as db:
            org = await create_organization(db, ACTOR, name="Acme", plan=Plan.PRO)
            key, token = await mint_key(db, ACTOR, org_id=org.org_id, name="live", mode=Mode.LIVE)
            _, other = await mint_key(db, ACTOR, org_id=org.org_id, name="other", mode=Mode.LIVE)
            return org.org_id, key.key_id, token, other

    async def start(self) -> None:
        """Start it again, without holding up what runs here."""
        await trio.to_thread.run_sync(lambda: self._starter.submit(self.server.start).result())

    def close(self) -> None:
        self._starter.shutdown()

    def tenant(self, folder: Path) -> Tenant:
        return Tenant(
            database_url=self.url,
            org_id=self.org_id,  # type: ignore[arg-type]
            key_id=self.key_id,
            token=self.token,
            test_token="",
            master_keys=MasterKeys.generate(),
            spool_dir=folder,
        )

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Every process of the server stands still, with its connections open."""
        processes = self._processes()
        try:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        main = self.server._process
        assert main is not None
        children = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
        return [main.pid, *map(int, children)]


@pytest.fixture(scope="module")
def outage() -> Iterator[Outage]:
    with running_server() as server:
        made = Outage(server)
        yield made
        made.close()


@pytest.fixture
def database(outage: Outage) -> Iterator[Outage]:
    """Running and empty of usage, before and after."""
    yield outage
    if outage.server._process is None:
        outage.server.start()
    outage.server.sql("TRUNCATE usage", DATABASE)


@asynccontextmanager
async def streaming(stand: Arena, streams: list[Attempt]) -> AsyncIterator[None]:
    """`STREAMS` streams over both gateways, all of them begun."""

    async def stream(number: int) -> None:
        streams.append(await stand.ask("tokens=100,pace_ms=50", gateway=number % 2))

    async with trio.open_nursery() as nursery:
        for number in range(STREAMS):
            nursery.start_soon(stream, number)
        while sum(0 < entry["tokens_sent"] < 100 for entry in await stand.ledger()) < STREAMS:
            await trio.sleep(POLL_SECONDS)
        yield


async def complete(stand: Arena) -> float:
    """Seconds until every attempt that the provider saw to its end has its row."""
    began = trio.current_time()
    whole = [one for one in stand.history if one.whole and one.status == 200]
    with trio.fail_after(BACK_SECONDS_MAX):
        await stand.rows_of(*whole)
    return trio.current_time() - began


async def test_a_database_that_is_down_at_the_start(database: Outage, tmp_path: Path, table: Table) -> None:
    await trio.to_thread.run_sync(database.server.stop)
    tenant = database.tenant(tmp_path)
    with trio.fail_after(60):
        async with gateway_process(database.url, tmp_path, provider_url="http://127.0.0.1:9") as gateway:

            async def status(request: bytes) -> tuple[int, str | None]:
                async with await gateway.connect() as stream:
                    client = RawClient(stream)
                    await client.send(request)
                    answer = await client.read_answer()
                    return answer.status, answer.headers.get("retry-after")

            ready = b"GET /readyz HTTP/1.1\r\nhost: karta\r\n\r\n"
            assert (await status(ready))[0] == 503
            assert (await status(ready.replace(b"readyz", b"healthz")))[0] == 200
            refused, retry_after = await status(post(tenant.token))
            assert refused == 503
            assert retry_after is not None
            await database.start()
            back = trio.current_time()
            while (await status(ready))[0] != 200:
                await trio.sleep(POLL_SECONDS)
            seconds = trio.current_time() - back
            assert seconds <= scaled(5.0, 30.0)
            assert not gateway.ended
    table.add(1, "database down at start", f"503 meanwhile; ready {seconds:.1f} s after it was back (max 5)")


async def test_a_database_that_stops_within_streams(database: Outage, tmp_path: Path, table: Table) -> None:
    streams: list[Attempt] = []
    async with arena(database.tenant(tmp_path), tmp_path) as stand, stand.control():
        await stand.warm()
        async with streaming(stand, streams):
            await trio.to_thread.run_sync(database.server.stop, signal.SIGQUIT)
            # A key that is known works on; one that is not cannot be looked up.
            for number in range(2):
                assert (await stand.ask("tokens=2", gateway=number)).status == 200
            attempt = await stand.ask("tokens=2", token=database.other_token)
            assert attempt.status == 503
        assert [one.whole for one in streams] == [True] * STREAMS
        await database.start()
        seconds = await complete(stand)
        found = await stand.findings()
        assert found.none, found
    table.add(
        2,
        "database stops mid-stream",
        f"{STREAMS} of {STREAMS} streams byte-identical; 0 lost, 0 doubled, {seconds:.1f} s after (max 30)",
    )


@only_in_full
async def test_a_database_that_hangs(database: Outage, tmp_path: Path, table: Table) -> None:
    streams: list[Attempt] = []
    hanging_seconds = scaled(30.0, 3.0)
    async with arena(database.tenant(tmp_path), tmp_path) as stand, stand.control():
        await stand.warm()
        before = percentile(await stand.ask_many(scaled(200, 20), "tokens=1"), 0.99)
        async with streaming(stand, streams):
            with database.hanging():
                began = trio.current_time()
                during: list[float] = []
                while trio.current_time() - began < hanging_seconds:
                    during += await stand.ask_many(5, "tokens=1", gateway=len(during) % 2)
                assert await stand.probe("/healthz") == 200
        added = percentile(during, 0.99) - before
        assert added < scaled(0.05, 5.0)
        assert [one.whole for one in streams] == [True] * STREAMS
        seconds = await complete(stand)
        found = await stand.findings()
        assert found.none, found
    table.add(
        3,
        "database hangs",
        f"{hanging_seconds:g} s: {len(during)} requests, added p99 {added * 1000:.0f} ms (max 50); 0 lost, "
        f"0 doubled, {seconds:.1f} s after",
    )


@only_in_full
async def test_a_table_that_is_locked(database: Outage, tmp_path: Path, table: Table) -> None:
    async with arena(database.tenant(tmp_path), tmp_path) as stand, stand.control():
        await stand.warm()
        async with open_database(database.url, role=None) as db, db.transaction() as lock:
            await lock.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
            times = await stand.ask_many(scaled(500, 30), "tokens=1")
            assert percentile(times, 0.99) < scaled(0.1, 5.0)
        seconds = await complete(stand)
        found = await stand.findings()
        assert found.none, found
    table.add(3, "usage table locked", f"{len(times)} requests served; 0 lost, {seconds:.1f} s after")
