"""One process as a whole: it starts without its database, and what it answered is counted however it ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

import gateway.worker
from gateway.settings import GatewaySettings
from gateway.spool import Spool, SpoolLocked
from gateway.worker import serve
from storage.bridge import Database, open_database
from storage.settings import Bind
from tests.gateway.conftest import Stage, Tenant
from tests.support.database_line import database_line
from tests.support.gateway import PATIENCE_SECONDS, poll, running_gateway
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, answering, pausing, scripted_provider, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk

READY = b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


async def streaming_too(line: Line) -> None:
    """A provider that answers, and streams where a stream is asked for."""
    while True:
        head, body = await line.read_request()
        if not head:
            return
        if b"stream" in body:
            await line.begin_stream()
            for event in ANTHROPIC:
                await line.send_chunk(event)
            await line.end_stream()
        else:
            await line.answer(ANSWER)


class History:
    """What clients saw: the requests they sent, and the ids of those whose answer they read to its end."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered: list[str] = []

    async def ask_until_it_dies(self, gateway: GatewayProcess, token: str) -> None:
        async with await gateway.connect() as stream:
            client = RawClient(stream)
            try:
                while True:
                    self.sent += 1
                    await client.send(
                        post(token, STREAM_BODY if self.sent % 2 else b'{"model":"claude-test"}')
                    )
                    self.answered.append((await client.read_answer()).headers["x-karta-request-id"])
            except (trio.BrokenResourceError, AssertionError):
                assert client.ended


async def count_rows(db: Database) -> dict[str, int]:
    rows = await db.fetch("SELECT request_id, count(*) AS n FROM usage GROUP BY request_id")
    return {row["request_id"].hex: row["n"] for row in rows}


@pytest.mark.parametrize("after", [1, 40, 150])
async def test_whatever_was_answered_before_a_kill_is_counted_once(after: int, own_tenant: Tenant) -> None:
    history = History()
    async with (
        scripted_provider(streaming_too) as provider,
        open_database(own_tenant.database_url, role=None) as db,
    ):
        url, spool_dir = own_tenant.database_url, own_tenant.spool_dir
        async with (
            gateway_process(url, spool_dir, provider_url=provider.base_url) as first,
            trio.open_nursery() as nursery,
        ):
            for _ in range(4):
                nursery.start_soon(history.ask_until_it_dies, first, own_tenant.token)
            await poll(lambda: len(history.answered) >= after)
            await first.kill()
        async with gateway_process(url, spool_dir, provider_url=provider.base_url) as second:
            assert await second.stop() == 0
        counts = await count_rows(db)
        assert set(history.answered) <= set(counts)
        assert set(counts.values()) == {1}
        assert len(history.answered) <= len(counts) <= history.sent
        assert list(own_tenant.spool_dir.glob("*.damaged")) == []


async def test_a_stop_finishes_what_runs_and_ships_it(own_tenant: Tenant) -> None:
    go_on = trio.Event()
    provider = pausing(ANTHROPIC, go_on)

    async with (
        scripted_provider(provider) as upstream,
        open_database(own_tenant.database_url, role=None) as db,
        gateway_process(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=upstream.base_url
        ) as gateway_,
        await gateway_.connect() as stream,
        trio.open_nursery() as nursery,
    ):
        client = RawClient(stream)
        await client.send(post(own_tenant.token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
        codes: list[int] = []

        @nursery.start_soon
        async def stop() -> None:
            codes.append(await gateway_.stop())

        await until_refused(gateway_)
        go_on.set()
        assert (await client.read_to_end()).endswith(b"0\r\n\r\n")
        await poll(lambda: codes)
        assert codes == [0]
        assert await db.fetch_value("SELECT output_tokens FROM usage") == 5


async def until_refused(gateway_: GatewayProcess) -> None:
    """Until it takes no more connections."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                await (await gateway_.connect()).aclose()
            except OSError:
                return


async def test_two_workers_cannot_share_a_journal(tenant: Tenant) -> None:
    async with running_gateway(tenant.database_url, tenant.spool_dir, provider_url="http://127.0.0.1:9"):
        with pytest.raises(SpoolLocked):
            Spool(tenant.spool_dir)


def settings_for(tenant: Tenant, *, port: int = 0) -> GatewaySettings:
    return GatewaySettings.load(
        database_url=tenant.database_url,
        spool_dir=tenant.spool_dir,
        gateway_bind=Bind("127.0.0.1", port),
        provider_variables={},
    )


async def test_a_second_worker_on_a_journal_does_not_start(tenant: Tenant) -> None:
    async with running_gateway(tenant.database_url, tenant.spool_dir, provider_url="http://127.0.0.1:9"):
        with pytest.raises(SpoolLocked, match="in use by another gateway worker"):
            await serve(settings_for(tenant), lambda _: None)


async def test_a_worker_whose_port_is_taken_does_not_start(tenant: Tenant) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(settings_for(tenant, port=taken.getsockname()[1]), lambda _: None)
    # And leaves the journal to whoever does.
    Spool(tenant.spool_dir).close()


async def test_it_tells_where_it_serves(tenant: Tenant) -> None:
    told: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, settings_for(tenant), told.append)
        await poll(lambda: told)
        host, port = told[0].removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await RawClient(stream).read_answer()).status == 200
        nursery.cancel_scope.cancel()


async def test_it_serves_as_soon_as_its_database_is_there(stage: Stage, tenant: Tenant) -> None:
    async with database_line(tenant.database_url) as line:
        line.cut()
        async with stage(
            answering(ANSWER), cold=True, database_url=line.url, owner_url=tenant.database_url
        ) as (gateway_, _):
            refused = await gateway_.ask(post(tenant.token))
            assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
            assert (await gateway_.ask(READY)).status == 503
            await line.mend()
            await poll(lambda: gateway_.worker.snapshot.ready)
            assert (await gateway_.ask(READY)).status == 200
            assert (await gateway_.ask(post(tenant.token))).body == ANSWER


async def test_a_service_that_fails_starts_again(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway.worker, "_RESTART_SECONDS", 0.01)
    async with stage(answering(ANSWER), faulty=True) as (gateway_, _):
        shipper = gateway_.worker.shipper
        db, shipper._db = shipper._db, None  # type: ignore[assignment]
        assert (await gateway_.ask(post(tenant.token))).status == 200
        await poll(lambda: "Shipper.run failed and starts again: AttributeError" in caplog.text)
        shipper._db = db
        assert (await gateway_.ask(post(tenant.token))).status == 200
        await poll(lambda: shipper.shipped == 2)


async def test_it_starts_without_its_database_and_says_so(tmp_path: Path) -> None:
    nowhere = "postgresql://karta@127.0.0.1:9/karta"
    async with running_gateway(nowhere, tmp_path / "spool", provider_url="http://127.0.0.1:9") as gateway:
        answer = await gateway.exchange(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        alive = await gateway.exchange(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert alive.startswith(b"HTTP/1.1 200 ")


async def test_a_worker_is_ready_once_it_has_seen_its_database(stage: Stage) -> None:
    async with stage(silent) as (gateway, _):
        await poll(lambda: gateway.worker.snapshot.ready)
        answer = await gateway.exchange(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_it_leaves_no_core_file(tenant: Tenant) -> None:
    async with gateway_process(
        tenant.database_url, tenant.spool_dir, provider_url="http://127.0.0.1:9"
    ) as gateway_:
        assert gateway_.limit("Max core file size") == "0"
