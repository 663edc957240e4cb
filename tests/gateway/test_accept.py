"""Connections: many requests on one, clients that leave at any moment, strangers that stall, and the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import Line, answering, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY


async def test_a_connection_carries_many_requests(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        for _ in range(5):
            await client.send(post(tenant.token))
            assert (await client.read_answer()).body == ANSWER
        await client.send(post(tenant.token, close=True))
        assert (await client.read_answer()).headers["connection"] == "close"
        assert await client.read_to_end() == b""
        assert not client.was_reset
        assert len(provider.lines) == 1
        await gateway.settled(6)


async def test_pipelined_requests_are_answered_in_order(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            asked = line.received.count(b"HTTP/1.1")
            await line.answer(b"%d" % asked)

    train = b"".join(
        [post(tenant.token), get(tenant.token), chat(tenant.token), post(tenant.token), get("kt_bad")]
    )
    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        # However the train is cut: whole, or in the middle of a head and of a body.
        for cut in (len(train), 40, len(post(tenant.token)) - 5, len(train) - 1):
            await client.send(train[:cut])
            await client.send(train[cut:])
            answers = [await client.read_answer() for _ in range(5)]
            assert [answer.status for answer in answers] == [200, 200, 200, 200, 401]
        assert len(provider_.lines) == 1


async def test_an_answer_reaches_a_client_that_sent_more_than_is_read(stage: Stage, tenant: Tenant) -> None:
    """Closing a socket with unread bytes resets it, and a reset may overtake the answer."""
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, close=True) + 2000 * post(tenant.token))
        assert (await client.read_answer()).body == ANSWER
        assert await client.read_to_end() == b""
        assert not client.was_reset


# How a client may leave.
async def by_end(client: RawClient) -> None:
    await client.close()


async def by_reset(client: RawClient) -> None:
    await client.reset()


async def by_half(client: RawClient) -> None:
    client.half_close()


async def by_end_with_a_byte_unread(client: RawClient) -> None:
    await client.send(b"G")
    await client.close()


async def by_half_with_a_request_unread(client: RawClient) -> None:
    await client.send(post("kt_live_x"))
    client.half_close()


Leave = Callable[[RawClient], Awaitable[None]]
LEAVES = [by_end, by_reset, by_half, by_end_with_a_byte_unread, by_half_with_a_request_unread]
leaving = pytest.mark.parametrize("leave", LEAVES, ids=[leave.__name__ for leave in LEAVES])


@leaving
async def test_a_client_that_leaves_before_a_head_is_forgotten(leave: Leave, stage: Stage) -> None:
    async with stage(silent) as (gateway, provider):
        async with gateway.client() as client:
            await client.send(b"POST /v1/mess")
            await poll(lambda: gateway.worker.watchdog.watched)
            await leave(client)
            await poll(lambda: not gateway.worker.watchdog.watched)
        assert provider.lines == []
        assert await gateway.settled(0) == []


@leaving
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_client_that_leaves_within_its_body_is_forgotten(
    cold: bool, leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    async with stage(silent, cold=cold) as (gateway, provider):
        async with gateway.client() as client:
            await client.send(post(tenant.token)[:-5])
            await poll(lambda: gateway.worker.watchdog.watched)
            if cold:
                await poll(lambda: gateway.authenticator.in_flight)
            await leave(client)
            await poll(lambda: not gateway.worker.watchdog.watched)
        assert provider.received == b""
        assert await gateway.settled(0) == []


@leaving
async def test_a_client_that_leaves_while_its_key_is_verified_sends_nothing_up(
    leave: Leave, stage: Stage, tenant: Tenant
) -> None:
    async with stage(silent, cold=True) as (gateway, provider):
        dialled = gateway.step("dialled")
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            await dialled.wait()
            await leave(client)
            await poll(lambda: not gateway.worker.watchdog.watched)
        assert provider.received == b""
        assert await gateway.settled(0) == []
        # The verification goes on, for whoever asks next.
        await poll(lambda: gateway.authenticator.verified == 1)


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

    async with stage(provider) as (gateway, provider_):
        async with gateway.client() as client:
            await client.send(post(tenant.token, body))
            await asked.wait()
            await leave(client)
            await provider_.lines[0].closed.wait()
        row = await gateway.only_row()
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

    async with stage(provider) as (gateway, provider_):
        async with gateway.client() as client:
            await client.send(post(tenant.token, STREAM_BODY))
            await client.read_until(ANTHROPIC[2])
            await leave(client)
            await provider_.lines[0].closed.wait()
        row = await gateway.only_row()
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

    async with stage(provider) as (gateway, provider_):
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            await client.read_until(b"{")
            await leave(client)
            await provider_.lines[0].closed.wait()
        row = await gateway.only_row()
    assert (row["outcome"], row["response_bytes"], row["usage_complete"]) == ("client_gone", 1, False)


async def test_a_client_that_half_closes_sees_no_end_where_there_is_none(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nhalf")
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token))
        await client.read_until(b"half")
        client.half_close()
        assert await client.read_to_end() == b""
        assert client.was_reset
