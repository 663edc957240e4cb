"""Clients of the lane: those that leave, in each form and at each moment, those that read slowly, and the end
of the process."""

from __future__ import annotations

import signal

import pytest
import trio

from gateway.wait import Waiting
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.repeated import repeated
from tests.gateway.test_accept import Leave, leaving
from tests.gateway.test_accept_limits import flood
from tests.gateway.test_forward_pressure import (
    ANSWER_BYTES,
    CLIENT_BYTES,
    HELD_BYTES_MAX,
    KIB,
    MEMORY_BYTES_MAX,
    PIECE_BYTES,
    pieces,
    sent,
)
from tests.support.gateway import PATIENCE_SECONDS, poll
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, BODY, post
from tests.support.scripted_provider import Line, pausing, scripted_provider
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk, dechunk


@leaving
@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["unary", "streaming"])
async def test_a_client_that_leaves_before_the_first_byte_ends_the_providers_work(
    body: bytes, leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        asked.set()
        await line.wait_closed()

    async with repeated(stage, tenant, provider, post(tenant.token, body)) as lane:
        await lane.ask()
        await asked.wait()
        await leave(lane.client)
        await lane.provider.lines[0].closed.wait()
        row = await lane.row()
        await poll(lambda: not lane.gateway.worker.watchdog.watched)
        (pool,) = lane.gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (0, 0)
    assert (row["outcome"], row["status"], row["usage_complete"]) == ("client_gone", 0, False)
    assert (row["model_asked"], row["response_bytes"]) == ("claude-test", 0)


@leaving
async def test_a_client_that_leaves_within_a_stream_ends_it(
    leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in ANTHROPIC[:3]:
            await line.send_chunk(event)
        await line.wait_closed()

    async with repeated(stage, tenant, provider, post(tenant.token, STREAM_BODY)) as lane:
        await lane.ask()
        await lane.client.read_until(ANTHROPIC[2])
        await leave(lane.client)
        await lane.provider.lines[0].closed.wait()
        row = await lane.row()
        await poll(lambda: not lane.gateway.worker.watchdog.watched)
        (pool,) = lane.gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (0, 0)
    assert (row["outcome"], row["status"], row["usage_complete"]) == ("client_gone", 200, False)
    assert (row["input_tokens"], row["streamed"], row["model_answered"]) == (7, True, "claude-test")
    assert row["output_tokens"] >= 1


@leaving
async def test_a_client_that_leaves_within_an_answer_ends_it(
    leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{")
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        await lane.ask()
        await lane.client.read_until(b"{")
        await leave(lane.client)
        await lane.provider.lines[0].closed.wait()
        row = await lane.row()
    assert (row["outcome"], row["response_bytes"], row["usage_complete"]) == ("client_gone", 1, False)


@leaving
async def test_a_client_that_leaves_while_it_is_written_to_ends_it(
    leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, flood, request, receive_buffer=4096) as lane:
        await lane.ask()
        connection = await lane.gateway.only_connection()
        await poll(lambda: connection._waiting is Waiting.WRITE)
        await leave(lane.client)
        await lane.provider.lines[0].closed.wait()
        row = await lane.row()
        await poll(lambda: not lane.gateway.worker.watchdog.watched)
    assert (row["outcome"], row["status"]) == ("client_gone", 200)


async def test_a_client_that_half_closes_sees_no_end_where_there_is_none(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nhalf")
        await line.wait_closed()

    async with repeated(stage, tenant, provider) as lane:
        await lane.ask()
        await lane.client.read_until(b"half")
        lane.client.half_close()
        assert await lane.client.read_to_end() == b""
        assert lane.client.was_reset


# Slow readers.


@pytest.mark.parametrize("kind", ["stream", "answer"])
async def test_a_reader_that_stops_holds_the_provider_back(kind: str, tenant: Tenant) -> None:
    head, piece = pieces(kind)
    accepted: dict[Line, int] = {}
    streams = 8

    async def provider(line: Line) -> None:
        while b"large" not in (await line.read_request())[1]:
            await line.answer(ANSWER)
        await line.send(head)
        for _ in range(ANSWER_BYTES // PIECE_BYTES):
            await line.send(piece)
            accepted[line] = accepted.get(line, len(head)) + len(piece)
        await line.wait_closed()

    async with (
        scripted_provider(provider) as upstream,
        gateway_process(tenant.database_url, tenant.spool_dir, provider_url=upstream.base_url) as gateway,
        trio.open_nursery() as nursery,
    ):
        begun = [trio.Event() for _ in range(streams)]
        for event in begun:
            nursery.start_soon(hold, gateway, tenant.token, event)
            await event.wait()
        before = gateway.resident_bytes()
        last: list[int] = []
        with trio.fail_after(PATIENCE_SECONDS * 3):
            while len(accepted) < streams or last != list(accepted.values()):
                last = list(accepted.values())
                await trio.sleep(0.3)
        growth = gateway.resident_bytes() - before
        held = [sent(line, count) for line, count in accepted.items()]
        assert len(held) == streams
        assert max(held) - CLIENT_BYTES <= HELD_BYTES_MAX
        assert growth <= streams * MEMORY_BYTES_MAX
        nursery.cancel_scope.cancel()


async def hold(gateway: GatewayProcess, token: str, begun: trio.Event) -> None:
    """Ask twice, and read nothing of the second answer."""
    with trio.socket.socket() as sock:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4 * KIB)
        await sock.connect(("127.0.0.1", gateway.port))
        client = RawClient(trio.SocketStream(sock))
        await client.send(post(token, b'{"x":"small"}'))
        await client.read_answer()
        await client.send(post(token, b'{"x":"large"}'))
        begun.set()
        await trio.sleep_forever()


async def test_a_slow_reader_gets_every_byte(stage: Stage, tenant: Tenant) -> None:
    """Each write waits for it; what it reads is what the provider wrote."""
    events = [b"data: " + bytes([65 + number % 26]) * 30_000 + b"\n\n" for number in range(60)]

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.begin_stream()
            for event in events:
                await line.send_chunk(event)
            await line.end_stream()

    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, provider, request, receive_buffer=4096, taken=2) as lane:
        for _ in range(2):
            await lane.ask()
            await lane.client.read_head()
            whole = b"".join(map(chunk, events)) + b"0\r\n\r\n"
            for at in range(0, len(whole), 10_000):
                piece = whole[at : at + 10_000]
                assert await lane.client.read_exactly(len(piece)) == piece
        rows = await lane.gateway.settled(3)
    assert {row["outcome"] for row in rows} == {"completed"}


# The end of the process.


async def test_a_stop_lets_an_answer_finish(stage: Stage, tenant: Tenant) -> None:
    go_on = trio.Event()
    provider = pausing(ANTHROPIC, go_on)

    async with repeated(stage, tenant, provider, post(tenant.token, STREAM_BODY)) as lane:
        await lane.ask()
        await lane.client.read_until(ANTHROPIC[0])
        signal.raise_signal(signal.SIGTERM)
        await poll(lambda: not any(one.keep_alive for one in lane.gateway.worker.watchdog.watched))  # type: ignore[attr-defined]
        assert not lane.gateway.stopped.is_set()
        go_on.set()
        assert (await lane.client.read_to_end()).endswith(ANTHROPIC[-1] + b"\r\n0\r\n\r\n")
        assert not lane.client.was_reset
        await lane.gateway.stopped.wait()
        row = await lane.row()
        assert (row["outcome"], row["output_tokens"]) == ("completed", 5)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_stop_cuts_what_does_not_finish_and_says_so(
    begun: bool, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        if begun:
            await line.begin_stream()
            await line.send_chunk(ANTHROPIC[0])
        asked.set()
        await line.wait_closed()

    asked = trio.Event()
    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, provider, request, drain_seconds=0.05) as lane:
        await lane.ask()
        await asked.wait()
        if begun:
            await lane.client.read_until(chunk(ANTHROPIC[0]))
        signal.raise_signal(signal.SIGTERM)
        if begun:
            body, ended_well = dechunk(await lane.client.read_to_end())
            assert not ended_well
            assert body.startswith(b"event: error\n")
        else:
            answer = await lane.client.read_answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert await lane.client.read_to_end() == b""
        await lane.gateway.stopped.wait()
        assert (await lane.row())["outcome"] == "stopped"


async def test_a_stop_does_not_wait_for_a_client_that_takes_nothing(stage: Stage, tenant: Tenant) -> None:
    request = post(tenant.token, STREAM_BODY)
    async with repeated(stage, tenant, flood, request, receive_buffer=4096, drain_seconds=0.05) as lane:
        await lane.ask()
        connection = await lane.gateway.only_connection()
        await poll(lambda: connection._waiting is Waiting.WRITE)
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            await lane.gateway.stopped.wait()
        assert (await lane.row())["outcome"] == "stopped"
