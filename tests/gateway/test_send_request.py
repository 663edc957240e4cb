"""Head and body on their way to a provider: whole whatever the kernel takes at once, the key overwritten."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from gateway.connection import Connection
from gateway.dial import Pool, Upstream
from gateway.limits import Limits
from gateway.provider import Origin
from gateway.readiness import Readiness
from gateway.response_reader import UpstreamBroken
from gateway.send_request import JOINED_BYTES_MAX, send_at_once, send_piece, send_request
from gateway.wait import Overdue, Waiting
from gateway.watchdog import Watchdog
from gateway.wire import PlainTransport
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering

LIMITS = Limits()


class Pair:
    """An upstream, the socket at its provider's end, and a client's connection to account the waits to."""

    def __init__(self, nursery: trio.Nursery) -> None:
        ours, self.provider = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.provider.setblocking(False)
        self.client_end, client = socket.socketpair()
        client.setblocking(False)
        watchdog = Watchdog()
        pool = Pool(Origin("127.0.0.1", 9, False), LIMITS, watchdog, Readiness())
        self.upstream = Upstream(PlainTransport(ours), pool)
        self.connection = Connection(PlainTransport(client), "unix", LIMITS, watchdog, nursery)

    def close(self) -> None:
        for sock in (
            self.provider,
            self.client_end,
            self.upstream.transport.sock,
            self.connection.transport.sock,
        ):
            sock.close()

    async def read(self, size: int) -> bytes:
        data = b""
        with trio.fail_after(PATIENCE_SECONDS):
            while len(data) < size:
                await trio.lowlevel.wait_readable(self.provider)
                data += self.provider.recv(65536)
        return data


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        both = Pair(nursery)
        try:
            yield both
        finally:
            both.close()


async def test_what_fits_goes_at_once_and_is_overwritten() -> None:
    async with pair() as both:
        head = bytearray(b"x-api-key: secret\r\n\r\n{}")
        assert send_at_once(both.upstream, head) == len(head)
        assert await both.read(len(head)) == b"x-api-key: secret\r\n\r\n{}"
        assert head == bytes(len(head))


async def test_what_does_not_fit_follows_in_order() -> None:
    start = bytes(range(256)) * 500
    body = bytes(range(255, -1, -1)) * 1000
    async with pair() as both, trio.open_nursery() as nursery:
        head = bytearray(start)
        sent = send_at_once(both.upstream, head)
        assert 0 < sent < len(head)
        assert head == start
        nursery.start_soon(send_request, both.connection, both.upstream, head, body, LIMITS, sent)
        assert await both.read(len(start) + len(body)) == start + body
        await trio.testing.wait_all_tasks_blocked()
        assert head == bytes(len(head))


async def test_the_key_is_overwritten_when_sending_is_cancelled() -> None:
    async with pair() as both:
        head = bytearray(b"secret" * 50_000)
        with trio.move_on_after(0.01):
            await send_request(both.connection, both.upstream, head, b"", LIMITS, 0)
        assert head == bytes(len(head))


async def test_a_provider_that_takes_no_more_is_no_error_yet() -> None:
    """It may have said why, and that is read next."""
    async with pair() as both:
        both.provider.close()
        head = bytearray(b"secret")
        assert send_at_once(both.upstream, head) == len(head)
        assert both.upstream.spoiled
        assert head == bytes(len(head))
        assert not await send_piece(both.connection, both.upstream, b"more", LIMITS)


async def test_a_send_that_stalls_is_overdue() -> None:
    async with pair() as both, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def expire() -> None:
            await trio.testing.wait_all_tasks_blocked()
            both.connection.expire()

        with pytest.raises(Overdue) as caught:
            await send_piece(both.connection, both.upstream, bytes(10**6), LIMITS)
        assert caught.value.waiting is Waiting.UPSTREAM


async def test_a_connection_closed_under_a_send_is_broken() -> None:
    async with pair() as both, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked()
            both.upstream.transport.interrupt()

        with pytest.raises(UpstreamBroken):
            await send_piece(both.connection, both.upstream, bytes(10**6), LIMITS)


@pytest.mark.parametrize("size", [JOINED_BYTES_MAX - 1, JOINED_BYTES_MAX, JOINED_BYTES_MAX + 1, 3_000_000])
async def test_bodies_of_every_size_arrive_whole(size: int, stage: Stage, tenant: Tenant) -> None:
    body = b'{"model":"claude-test","pad":"' + b"x" * (size - 32) + b'"}'
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        for _ in range(2):
            await client.send(post(tenant.token, body))
            assert (await client.read_answer()).body == ANSWER
        assert provider.lines[0].received.count(body) == 2
        assert {row["request_bytes"] for row in await gateway.settled(2)} == {len(body)}
