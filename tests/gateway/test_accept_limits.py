"""What bounds a client connection: in time, in number, in descriptors, and at the end of the process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket

import pytest
import trio
import trio.testing

from gateway.accept import Acceptor, listen
from gateway.limits import Limits
from gateway.readiness import Readiness
from gateway.wait import Waiting
from gateway.watchdog import Watchdog
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import PATIENCE_SECONDS, RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, answering, pausing, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk


async def test_a_slow_head_is_told_and_closed(stage: Stage) -> None:
    async with stage(silent, limits={"head_seconds": 0.05}) as (gateway, _), gateway.client() as client:
        await client.send(b"POST /v1/messages HTTP/1.1\r\n")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        # No head, so no dialect: one body that both SDKs can read.
        body = json.loads(answer.body)
        assert (body["type"], body["error"]["code"]) == ("error", "request_timeout")
        assert await client.read_to_end() == b""


async def test_a_silent_connection_is_just_closed(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), limits={"idle_seconds": 0.05}) as (gateway, _):
        async with gateway.client() as client:
            assert await client.read_to_end() == b""
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            await client.read_answer()
            assert await client.read_to_end() == b""
            assert not client.was_reset


async def test_a_slow_body_is_told_and_closed(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, limits={"body_stall_seconds": 0.05}) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token)[:-1])
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert json.loads(answer.body)["error"]["type"] == "timeout_error"
        assert await client.read_to_end() == b""


async def test_a_body_that_trickles_is_cut(stage: Stage, tenant: Tenant) -> None:
    """Each byte comes in time, and the last of them never would."""
    async with (
        stage(silent, limits={"body_stall_seconds": 0.5}) as (gateway, _),
        gateway.client() as client,
        trio.open_nursery() as nursery,
    ):
        await client.send(post(tenant.token, b" " * 10_000).removesuffix(b" " * 10_000))
        nursery.start_soon(trickle, client)
        assert (await client.read_answer()).status == 408
        nursery.cancel_scope.cancel()


async def trickle(client: RawClient) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await client.send(b" ")
            await trio.sleep(0.02)


async def test_more_connections_than_allowed_are_closed(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), limits={"connections_max": 2}) as (gateway, _):
        async with gateway.client() as first, gateway.client() as second:
            for client in (first, second):
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER
            async with gateway.client() as third:
                assert await third.read_to_end() == b""
        await poll(lambda: not gateway.worker.watchdog.watched)
        assert (await gateway.ask(post(tenant.token))).body == ANSWER


async def test_the_listener_outlives_a_want_of_descriptors(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        await poll(lambda: not gateway.worker.watchdog.watched)
        # The kernel completes these; the gateway has no descriptor left to accept them with.
        waiting = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(3)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert not gateway.worker.watchdog.watched
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await poll(lambda: len(gateway.worker.watchdog.watched) == 3)
        for sock in waiting:
            sock.close()
        assert (await gateway.ask(post(tenant.token))).body == ANSWER


async def flood(line: Line) -> None:
    """A stream without an end."""
    await line.read_request()
    await line.begin_stream()
    while True:
        await line.send_chunk(bytes(30_000))


async def test_a_client_that_takes_nothing_is_cut(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(flood, write_stall_seconds=0.05) as (gateway, provider),
        gateway.client(receive_buffer=4096) as client,
    ):
        await client.send(post(tenant.token, STREAM_BODY))
        await provider.accepted.wait()
        await provider.lines[0].closed.wait()
        row = await gateway.only_row()
        assert (row["outcome"], row["status"], row["usage_complete"]) == ("timed_out", 200, False)
        await client.read_to_end()
        assert client.was_reset


async def test_a_client_that_takes_little_is_not_cut(stage: Stage, tenant: Tenant) -> None:
    async with stage(flood) as (gateway, provider), gateway.client(receive_buffer=4096) as client:
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_head()
        connection = await gateway.only_connection()
        await poll(lambda: connection._waiting is Waiting.WRITE)
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = connection._taken_bytes
        await client.read_exactly(50_000)
        await trio.testing.wait_all_tasks_blocked(0.02)
        connection.expire()
        assert connection._taken_bytes > before
        assert not provider.lines[0].closed.is_set()

        def cut() -> bool:
            # Not at the first look for certain: its kernel may take some more by itself.
            connection.expire()
            return provider.lines[0].closed.is_set()

        await poll(cut)


async def test_a_stop_lets_answers_finish_and_closes_what_is_idle(stage: Stage, tenant: Tenant) -> None:
    go_on = trio.Event()
    provider = pausing(ANTHROPIC, go_on)

    async with stage(provider) as (gateway, _), gateway.client() as idle, gateway.client() as busy:
        await busy.send(post(tenant.token, STREAM_BODY))
        await busy.read_until(ANTHROPIC[0])
        signal.raise_signal(signal.SIGTERM)
        assert await idle.read_to_end() == b""
        sock = trio.socket.socket()
        try:
            await sock.connect(("127.0.0.1", gateway.port))
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("a stopping gateway takes no connections")
        finally:
            sock.close()
        assert not gateway.stopped.is_set()
        go_on.set()
        assert (await busy.read_to_end()).endswith(ANTHROPIC[-1] + b"\r\n0\r\n\r\n")
        assert not busy.was_reset
        await gateway.stopped.wait()
        row = await gateway.only_row()
        assert (row["outcome"], row["output_tokens"]) == ("completed", 5)


async def test_a_stop_answers_what_the_kernel_has_accepted(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accept_nothing(_acceptor: Acceptor, _listener: socket.socket, _nursery: trio.Nursery) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Acceptor, "serve", accept_nothing)
    limits = {"drain_idle_seconds": 30.0}
    async with (
        stage(answering(ANSWER), limits=limits) as (gateway, _),
        contextlib.AsyncExitStack() as clients,
    ):
        waiting = [await clients.enter_async_context(gateway.client()) for _ in range(20)]
        for client in waiting[1:]:
            await client.send(post(tenant.token))
        signal.raise_signal(signal.SIGTERM)
        await until_refused(gateway)
        # One whose request is still on its way.
        await waiting[0].send(post(tenant.token))
        for client in waiting:
            answer = await client.read_answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await client.read_to_end() == b""
            assert not client.was_reset


async def test_a_stop_answers_a_request_that_crosses_it(stage: Stage, tenant: Tenant) -> None:
    limits = {"drain_idle_seconds": 30.0}
    async with stage(answering(ANSWER), limits=limits) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 200
        signal.raise_signal(signal.SIGTERM)
        await until_refused(gateway)
        await client.send(post(tenant.token))
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.read_to_end() == b""


async def until_refused(gateway: RunningGateway) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                await (await gateway.connect()).aclose()
            except OSError:
                return


async def test_readiness_may_say_no_before_connections_are_refused(stage: Stage, tenant: Tenant) -> None:
    """So that a load balancer has time to see it."""
    ready = b"GET /readyz HTTP/1.1\r\nhost: karta\r\nconnection: close\r\n\r\n"
    async with stage(answering(ANSWER), drain_notice_seconds=60.0) as (gateway, _):
        await poll(lambda: gateway.worker.snapshot.ready)
        assert (await gateway.ask(ready)).status == 200
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            while (refused := await gateway.ask(ready)).status == 200:
                pass
        assert b"draining: this worker is stopping" in refused.body
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert not gateway.stopped.is_set()
        gateway.worker.abandon()
        with trio.fail_after(PATIENCE_SECONDS):
            await gateway.stopped.wait()


async def test_a_stop_cuts_what_does_not_finish_and_says_so(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        if b"stream" in (await line.read_request())[1]:
            await line.begin_stream()
            await line.send_chunk(ANTHROPIC[0])
        await line.wait_closed()

    async with (
        stage(provider, drain_seconds=0.05) as (gateway, provider_),
        gateway.client() as streaming,
        gateway.client() as waiting,
    ):
        await streaming.send(post(tenant.token, STREAM_BODY))
        await streaming.read_until(chunk(ANTHROPIC[0]))
        await waiting.send(post(tenant.token))
        await poll(lambda: len(provider_.lines) == 2 and provider_.lines[1].received)
        signal.raise_signal(signal.SIGTERM)
        body, ended_well = dechunk(await streaming.read_to_end())
        assert not ended_well
        assert b"event: error\n" in body
        answer = await waiting.read_answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        await gateway.stopped.wait()
        assert {row["outcome"] for row in await gateway.settled(2)} == {"stopped"}


async def test_a_stop_does_not_wait_for_a_client_that_takes_nothing(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(flood, drain_seconds=0.05) as (gateway, provider),
        gateway.client(receive_buffer=4096) as client,
    ):
        await client.send(post(tenant.token, STREAM_BODY))
        await provider.accepted.wait()
        connection = await gateway.only_connection()
        await poll(lambda: connection._waiting is Waiting.WRITE)
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            await gateway.stopped.wait()
        assert (await gateway.only_row())["outcome"] == "stopped"


async def test_a_fault_of_kartas_own_costs_one_request(
    stage: Stage, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage(answering(ANSWER), faulty=True) as (gateway, _):
        operations, gateway.worker.pipeline._operations = gateway.worker.pipeline._operations, None  # type: ignore[assignment]
        async with gateway.client() as client:
            await client.send(post(tenant.token, b'{"model":"a secret","messages":[]}'))
            answer = await client.read_answer()
            assert await client.read_to_end() == b""
        gateway.worker.pipeline._operations = operations
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
    body = json.loads(answer.body)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert body["request_id"] in told
    assert "AttributeError" in told
    assert "secret" not in told
    assert (answer.status, body["error"]["type"]) == (500, "api_error")
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-karta-request-id"]


async def test_a_fault_after_admission_is_recorded_as_one(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), faulty=True) as (gateway, _):
        trier = gateway.worker.pipeline.trier
        pools, trier._pools = trier._pools, None  # type: ignore[assignment]
        refused = await gateway.ask(post(tenant.token))
        trier._pools = pools
        row = await gateway.only_row()
    assert (refused.status, row["status"], row["outcome"]) == (500, 500, "refused")
    assert row["request_id"].hex == refused.headers["request-id"]


async def test_a_fault_within_an_answer_never_ends_it(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        await line.send_chunk(ANTHROPIC[0])
        # With the journal gone, the end of the answer cannot be settled.
        spool, gateway.worker.meter.spool = gateway.worker.meter.spool, None  # type: ignore[assignment]
        await line.end_stream()
        await line.wait_closed()
        gateway.worker.meter.spool = spool

    async with stage(provider, faulty=True) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_head()
        assert not dechunk(await client.read_to_end())[1]
        assert (await gateway.exchange(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_listener_closed_as_it_became_readable_ends_only_the_accepting() -> None:
    """A stop and a new client in the same moment: the answers under way go on, and no error ends them."""

    class Stopping(Acceptor):
        def _accept_all(self, listener: socket.socket, nursery: trio.Nursery) -> None:
            accepting.cancel()
            listener.close()
            super()._accept_all(listener, nursery)

    async def unused(*_arguments: object) -> None:
        raise AssertionError("nothing was accepted")

    acceptor = Stopping(
        limits=Limits(), watchdog=Watchdog(), readiness=Readiness(), handler=unused, request_id=str
    )
    listener = listen("127.0.0.1", 0)
    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as accepting:
                await acceptor.serve(listener, nursery)
    assert accepting.cancelled_caught


@pytest.mark.parametrize(
    ("long", "status"),
    [
        ("x-long: " + "a" * 33_000, 431),
        ("\r\n".join(f"x-{number}: a" for number in range(101)), 431),
        ("", 414),
    ],
)
async def test_a_head_beyond_its_bounds_goes_nowhere_although_it_came_whole(
    long: str, status: int, stage: Stage, tenant: Tenant
) -> None:
    """In one read with its body, and before another request: neither of the two is answered as one."""
    path = "/v1/messages" if long else "/v1/messages?" + "a" * 9_000
    request = post(tenant.token, path=path, headers=f"{long}\r\n" if long else "")
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        await client.send(request + post(tenant.token))
        assert (await client.read_answer()).status == status
        assert await client.read_to_end() == b""
        assert provider.lines == []
