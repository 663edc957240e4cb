"""A client that stops reading stops the provider, and costs the gateway next to nothing."""

from __future__ import annotations

import fcntl
import termios

import pytest
import trio

from tests.gateway.conftest import Tenant
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import post
from tests.support.scripted_provider import Line, ScriptedProvider, scripted_provider
from tests.support.streams import STREAM_BODY, chunk

KIB = 1024
ANSWER_BYTES = 100 * KIB * KIB
PIECE_BYTES = 16 * KIB
STREAMS = 8
# What the gateway and the kernel's buffers on both of its sides hold of an answer nobody reads: about 400 KiB
# with `wire.SOCKET_BUFFER_BYTES` as it is.
HELD_BYTES_MAX = 512 * KIB
# What the client's own kernel takes although the client does not read.
CLIENT_BYTES = 16 * KIB
MEMORY_BYTES_MAX = 256 * KIB


def sent(line: Line, accepted: int) -> int:
    """How much has left the provider: what its kernel accepted, less what still waits there."""
    waiting = fcntl.ioctl(line.stream.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    return accepted - int.from_bytes(waiting, "little")


def pieces(kind: str) -> tuple[bytes, bytes]:
    """The head of an answer of 100 MB, and a piece of it."""
    if kind == "stream":
        event = b"data: " + b"x" * (PIECE_BYTES - 8) + b"\n\n"
        fields = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", chunk(event)
    fields = b"content-type: application/octet-stream\r\ncontent-length: %d\r\n" % ANSWER_BYTES
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", bytes(PIECE_BYTES)


@pytest.mark.parametrize("kind", ["stream", "answer"])
async def test_a_reader_that_stops_holds_the_provider_back(kind: str, tenant: Tenant) -> None:
    head, piece = pieces(kind)
    accepted: dict[Line, int] = {}

    async def provider(line: Line) -> None:
        await line.read_request()
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
        # The first one warms everything up and is read for a while.
        await read_some(gateway, tenant.token)
        before = gateway.resident_bytes()
        for _ in range(STREAMS):
            nursery.start_soon(hold, gateway, tenant.token)
        await until_still(upstream, accepted)
        growth = gateway.resident_bytes() - before
        held = [sent(line, count) for line, count in list(accepted.items())[1:]]
        assert len(held) == STREAMS
        assert max(held) - CLIENT_BYTES <= HELD_BYTES_MAX
        assert growth <= STREAMS * MEMORY_BYTES_MAX
        nursery.cancel_scope.cancel()


async def read_some(gateway: GatewayProcess, token: str) -> None:
    async with await gateway.connect() as stream:
        client = RawClient(stream)
        await client.send(post(token, STREAM_BODY))
        await client.read_exactly(5_000_000)


async def hold(gateway: GatewayProcess, token: str) -> None:
    """Ask, and read nothing of the answer."""
    with trio.socket.socket() as sock:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4 * KIB)
        await sock.connect(("127.0.0.1", gateway.port))
        await sock.send(post(token, STREAM_BODY))
        await trio.sleep_forever()


async def until_still(upstream: ScriptedProvider, accepted: dict[Line, int]) -> None:
    """Until all streams have begun and none of them moves any more."""
    with trio.fail_after(PATIENCE_SECONDS * 3):
        last: list[int] = []
        while len(upstream.lines) <= STREAMS or last != list(accepted.values()):
            last = list(accepted.values())
            await trio.sleep(0.3)
