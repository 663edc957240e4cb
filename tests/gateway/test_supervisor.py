"""Several workers on one port, as real processes: what they verify is shared, and none of them is missed when
it is replaced, or dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import trio

from gateway import supervisor
from gateway.control import Orphaned, ToWorker
from gateway.slot import WorkerProcess
from gateway.spool import SpoolLocked
from gateway.supervisor import _listeners
from storage.bridge import Database, open_database
from storage.settings import Bind
from tests.gateway.conftest import Tenant
from tests.gateway.many_keys import mint_many
from tests.gateway.steady_load import SteadyLoad
from tests.support.database_line import database_line
from tests.support.gateway_process import gateway_process, lives
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering, pausing, scripted_provider
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk
from tests.support.supervised_gateway import (
    PATIENCE_SECONDS,
    SupervisedGateway,
    patiently,
    supervised_gateway,
)

# Each is a quarter of a second of bcrypt; the figures of docs/decisions/0050 are of 50 keys and 4 workers.
KEYS = int(os.environ.get("KARTA_TEST_SHARED_KEYS", "6"))
WORKERS = int(os.environ.get("KARTA_TEST_WORKERS", "3"))


@pytest.fixture
async def owner(own_tenant: Tenant) -> AsyncIterator[Database]:
    async with open_database(own_tenant.database_url, role=None) as db:
        yield db


async def ask_each(gateway: SupervisedGateway, tokens: list[str], clients: int) -> Counter[int]:
    """So many clients at once ask with each key; the statuses they got."""
    statuses: Counter[int] = Counter()

    async def be_a_client(first: int) -> None:
        client = await gateway.client()
        for token in tokens[first:] + tokens[:first]:
            await client.send(post(token))
            with trio.fail_after(PATIENCE_SECONDS):
                statuses[(await client.read_answer()).status] += 1
        await client.close()

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(be_a_client, number % len(tokens))
    return statuses


async def test_each_key_is_verified_once_and_a_reload_verifies_none(
    own_tenant: Tenant, owner: Database
) -> None:
    tokens = await mint_many(owner, own_tenant, KEYS)
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url, workers=WORKERS
        ) as gateway,
    ):
        clients = 6 * WORKERS
        assert await ask_each(gateway, tokens, clients) == {200: clients * KEYS}
        assert await gateway.figure("bcrypt_total") == KEYS
        # Also those that nobody has asked a worker about.
        await gateway.until_figure("verified_keys", KEYS * WORKERS)
        before = gateway.pids()
        await gateway.reload()
        assert not set(before) & set(gateway.pids())
        await gateway.until_figure("verified_keys", KEYS * WORKERS)
        assert await ask_each(gateway, tokens, clients) == {200: clients * KEYS}
        gateway.kill(0)
        await patiently(gateway, lambda: gateway.supervisor.slots[0].restarts == 1)
        await gateway.until_all_serve()
        await gateway.until_figure("verified_keys", KEYS * WORKERS)
        assert await ask_each(gateway, tokens, clients) == {200: clients * KEYS}
        # What the killed worker had counted since it was last asked is lost; it had verified nothing.
        assert await gateway.figure("bcrypt_total") == KEYS
        assert await gateway.figure("shared_claims") == 0


async def test_a_revoked_key_is_refused_however_well_it_is_known(own_tenant: Tenant, owner: Database) -> None:
    """Also by a worker that starts afterwards, and is told that others had verified it."""
    (token,) = await mint_many(owner, own_tenant, 1)
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        assert await ask_each(gateway, [token], 1) == {200: 1}
        await gateway.until_figure("verified_keys", 2)
        (entry,) = gateway.supervisor.keys.join(-1)
        await owner.execute("UPDATE api_keys SET revoked_at = now() WHERE key_id = $1", entry.key_id)
        await patiently(gateway, lambda: len(gateway.supervisor.keys) == 0)
        # As if the news had come too late.
        gateway.supervisor.keys._entries[entry.mac] = entry
        await gateway.reload()
        assert await ask_each(gateway, [token], 6) == {401: 6}


async def test_a_reload_under_load_fails_no_request(own_tenant: Tenant) -> None:
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
        SteadyLoad(gateway.port, own_tenant.token) as load,
    ):
        await load.until_answered(100)
        before = set(gateway.pids())
        for _ in range(2):
            await gateway.reload()
            await load.until_answered(100)
        await patiently(gateway, lambda: all(len(slot.all) == 1 for slot in gateway.supervisor.slots))
        await load.stop()
        assert not before & set(gateway.pids())
        assert load.failures == []
        # And what was refused by nobody was counted by somebody.
        assert await gateway.figure("requests_total") == load.answered
        assert await gateway.observed("total") == load.answered
        # Each generation had its share.
        assert load.connections > load.CLIENTS


async def test_a_stream_outlives_the_worker_that_was_replaced(own_tenant: Tenant, owner: Database) -> None:
    go_on = trio.Event()
    async with (
        scripted_provider(pausing(ANTHROPIC, go_on)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        client = await gateway.client()
        await client.send(post(own_tenant.token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
        before = gateway.pids()
        await gateway.reload()
        await patiently(gateway, lambda: sum(len(slot.all) for slot in gateway.supervisor.slots) == 3)
        go_on.set()
        assert await client.read_until(b"0\r\n\r\n") == REST
        await client.close()
        await patiently(gateway, lambda: all(len(slot.all) == 1 for slot in gateway.supervisor.slots))
        assert not any(map(lives, before))
        assert [row["outcome"] for row in await owner.fetch("SELECT outcome FROM usage")] == ["completed"]


REST = b"".join(map(chunk, ANTHROPIC[1:])) + b"0\r\n\r\n"


async def test_nothing_is_replaced_while_the_database_is_away(own_tenant: Tenant) -> None:
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        database_line(own_tenant.database_url) as line,
        supervised_gateway(line.url, own_tenant.spool_dir, provider_url=provider.base_url) as gateway,
    ):
        assert await ask_each(gateway, [own_tenant.token], 4) == {200: 4}
        await gateway.until_figure("verified_keys", 2)
        line.cut()
        before = gateway.pids()
        signal.raise_signal(signal.SIGHUP)
        await patiently(gateway, lambda: len(list(own_tenant.spool_dir.glob("worker-*"))) == 3)
        assert await ask_each(gateway, [own_tenant.token], 4) == {200: 4}
        assert gateway.pids() == before
        await line.mend()
        await patiently(gateway, lambda: gateway.supervisor.reloads == 1)
        assert await ask_each(gateway, [own_tenant.token], 4) == {200: 4}


async def test_a_worker_that_dies_is_covered_and_replaced(own_tenant: Tenant) -> None:
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        assert await ask_each(gateway, [own_tenant.token], 4) == {200: 4}
        await gateway.until_figure("verified_keys", 2)
        slot = gateway.supervisor.slots[1]
        # No successor before the test says so.
        async with slot._changing:
            gateway.kill(1)
            await patiently(gateway, lambda: not slot.serves)
            # Of sixteen connections one at least comes to the dead worker's socket (all but one in 65536
            # times), and none of them waits for a successor.
            assert await ask_each(gateway, [own_tenant.token], 16) == {200: 16}
        await gateway.until_all_serve()
        assert slot.restarts == 1
        other = gateway.supervisor.slots[0].current
        assert other is not None
        assert other.covers == []
        assert await ask_each(gateway, [own_tenant.token], 16) == {200: 16}


async def test_others_are_told_of_a_death_and_settle_what_is_left(
    own_tenant: Tenant, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, object]] = []
    send = WorkerProcess.send

    def listen(worker: WorkerProcess, message: ToWorker) -> None:
        told.append((worker.slot, message))
        send(worker, message)

    monkeypatch.setattr(WorkerProcess, "send", listen)
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        # One that ends in order has settled what there was.
        await gateway.reload()
        await patiently(gateway, lambda: len(gateway.supervisor.slots[0].all) == 1)
        assert Orphaned() not in [message for _, message in told]
        slot = gateway.supervisor.slots[1]
        # No successor before the test says so.
        async with slot._changing:
            gateway.kill(1)
            await patiently(gateway, lambda: (0, Orphaned()) in told)
            journals = [path for path in own_tenant.spool_dir.glob("worker-*") if (path / "owner").exists()]
            with trio.fail_after(PATIENCE_SECONDS):
                while sum((path / "settled").exists() for path in journals) < len(journals) - 1:
                    await trio.sleep(0.02)
        await gateway.until_all_serve()


async def test_a_worker_that_hangs_is_killed_and_replaced(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "HUNG_SECONDS", 5.0)
    async with supervised_gateway(
        own_tenant.database_url, own_tenant.spool_dir, provider_url="http://127.0.0.1:9"
    ) as gateway:
        hung = gateway.pids()[1]
        os.kill(hung, signal.SIGSTOP)
        await patiently(gateway, lambda: gateway.supervisor.slots[1].restarts == 1)
        await gateway.until_all_serve()
        assert hung not in gateway.pids()
        assert gateway.supervisor.slots[0].restarts == 0
    assert "gateway worker 1 has said nothing for too long and is killed" in caplog.text


async def test_a_worker_that_somebody_stops_is_replaced_while_it_drains(own_tenant: Tenant) -> None:
    go_on = trio.Event()
    async with (
        scripted_provider(pausing(ANTHROPIC, go_on)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        clients = [await gateway.client() for _ in range(8)]
        for client in clients:
            await client.send(post(own_tenant.token, STREAM_BODY))
        for client in clients:
            await client.read_until(chunk(ANTHROPIC[0]))
        before = gateway.pids()
        for pid in before:
            os.kill(pid, signal.SIGTERM)
        await patiently(gateway, lambda: sum_restarts(gateway) == 2)
        await gateway.until_all_serve()
        assert not set(gateway.pids()) & set(before)
        clients.append(await gateway.client())
        await clients[-1].send(post(own_tenant.token, STREAM_BODY))
        await clients[-1].read_until(chunk(ANTHROPIC[0]))
        go_on.set()
        for client in clients:
            assert await client.read_until(b"0\r\n\r\n") == REST
            await client.close()


async def test_whatever_was_answered_is_counted_once_whoever_is_killed(
    own_tenant: Tenant, owner: Database
) -> None:
    history = History()
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
        trio.open_nursery() as nursery,
    ):
        for _ in range(6):
            nursery.start_soon(history.be_a_client, gateway, own_tenant.token)
        for kills in range(1, 5):
            await history.until_answered(60)
            gateway.kill(kills % 2)
            await patiently(gateway, lambda kills=kills: sum_restarts(gateway) == kills)  # type: ignore[misc]
            await gateway.until_all_serve()
        await history.until_answered(60)
        history.stopping = True
        await patiently(gateway, lambda: not nursery.child_tasks)
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            await gateway.stopped.wait()
        rows = await owner.fetch("SELECT request_id, count(*) AS n FROM usage GROUP BY request_id")
        counts = {row["request_id"].hex: row["n"] for row in rows}
        assert set(history.answered) <= set(counts)
        assert set(counts.values()) == {1}
        assert len(history.answered) <= len(counts) <= history.sent
        assert await owner.fetch_value("SELECT count(*) FROM quota_leases WHERE held <> 0") == 0


def sum_restarts(gateway: SupervisedGateway) -> int:
    return sum(slot.restarts for slot in gateway.supervisor.slots)


class History:
    """What clients saw, who start over when a worker dies under them."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered: list[str] = []
        self.stopping = False

    async def be_a_client(self, gateway: SupervisedGateway, token: str) -> None:
        while not self.stopping:
            client = await gateway.client()
            try:
                while not self.stopping:
                    self.sent += 1
                    await client.send(post(token))
                    answer = await client.read_answer()
                    assert answer.status == 200
                    self.answered.append(answer.headers["x-karta-request-id"])
            except (trio.BrokenResourceError, AssertionError):
                # Its worker died.
                assert client.ended
            await client.close()

    async def until_answered(self, more: int) -> None:
        wanted = len(self.answered) + more
        with trio.fail_after(PATIENCE_SECONDS):
            while len(self.answered) < wanted:
                await trio.sleep(0.01)


async def test_a_stop_tells_those_that_do_not_end(own_tenant: Tenant, owner: Database) -> None:
    async with (
        scripted_provider(pausing(ANTHROPIC, trio.Event())) as provider,
        gateway_process(
            own_tenant.database_url,
            own_tenant.spool_dir,
            provider_url=provider.base_url,
            workers=2,
            KARTA_DRAIN_SECONDS="0.5",
        ) as gateway,
    ):
        clients = [RawClient(await gateway.connect()) for _ in range(8)]
        for client in clients:
            await client.send(post(own_tenant.token, STREAM_BODY))
        for client in clients:
            await client.read_until(chunk(ANTHROPIC[0]))
        assert await gateway.stop() == 0
        for client in clients:
            cut, whole = dechunk(await client.read_to_end())
            assert not whole
            assert cut.startswith(b"event: error\n")
            assert b"overloaded_error" in cut
            await client.close()
        rows = await owner.fetch("SELECT outcome, count(*) AS n FROM usage GROUP BY outcome")
        assert [(row["outcome"], row["n"]) for row in rows] == [("stopped", 8)]


async def test_a_stop_under_load_breaks_no_stream(own_tenant: Tenant, owner: Database) -> None:
    """Each stream that began ends well, and each of them is counted."""
    go_on = trio.Event()
    async with (
        scripted_provider(pausing(ANTHROPIC, go_on)) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:
            await client.send(post(own_tenant.token, STREAM_BODY))
        for client in clients:
            await client.read_until(chunk(ANTHROPIC[0]))
        signal.raise_signal(signal.SIGTERM)
        await until_refused(gateway.port)
        go_on.set()
        for client in clients:
            assert await client.read_to_end() == REST
            await client.close()
        with trio.fail_after(PATIENCE_SECONDS):
            await gateway.stopped.wait()
        rows = await owner.fetch("SELECT outcome, count(*) AS n FROM usage GROUP BY outcome")
        assert [(row["outcome"], row["n"]) for row in rows] == [("completed", 20)]
        assert await owner.fetch_value("SELECT count(*) FROM quota_leases WHERE held <> 0") == 0
    journals = list(own_tenant.spool_dir.glob("worker-*"))
    assert journals
    assert all((one / "settled").exists() for one in journals)


async def until_refused(port: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                return


async def test_workers_end_with_a_supervisor_that_was_killed(own_tenant: Tenant, owner: Database) -> None:
    """The port is free, and their journals are settled by whoever comes next, once."""
    async with scripted_provider(answering(ANSWER)) as provider:
        options = {"provider_url": provider.base_url, "KARTA_DRAIN_SECONDS": "1"}
        async with gateway_process(
            own_tenant.database_url, own_tenant.spool_dir, workers=2, **options
        ) as first:
            async with await first.connect() as stream:
                client = RawClient(stream)
                for _ in range(3):
                    await client.send(post(own_tenant.token))
                    assert (await client.read_answer()).status == 200
            workers = first.workers()
            assert len(workers) == 2
            port = first.port
            await first.kill()
            await until_refused(port)
        bind = {"KARTA_GATEWAY_BIND": f"127.0.0.1:{port}"}
        async with gateway_process(
            own_tenant.database_url, own_tenant.spool_dir, workers=2, **options, **bind
        ) as second:
            with trio.fail_after(PATIENCE_SECONDS):
                while any(map(lives, workers)):
                    await trio.sleep(0.05)
                while await owner.fetch_value("SELECT count(*) FROM usage") < 3:
                    await trio.sleep(0.05)
            assert await second.stop() == 0
        assert await owner.fetch_value("SELECT count(*) FROM usage") == 3


async def test_a_second_one_on_the_same_journals_does_not_start(own_tenant: Tenant) -> None:
    async with (
        gateway_process(
            own_tenant.database_url, own_tenant.spool_dir, provider_url="http://127.0.0.1:9", workers=2
        ) as first,
    ):
        with pytest.raises(AssertionError, match="ended before it was ready"):
            async with gateway_process(
                own_tenant.database_url, own_tenant.spool_dir, provider_url="http://127.0.0.1:9", workers=2
            ):
                pass
        assert not first.ended


async def test_a_taken_port_is_not_shared_with_another_gateway() -> None:
    with (
        _listeners(Bind("127.0.0.1", 0), 2) as (one, other),
        pytest.raises(OSError, match="in use"),
        _listeners(Bind("127.0.0.1", one.getsockname()[1]), 2),
    ):
        raise SpoolLocked(other)
