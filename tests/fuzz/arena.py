"""The gateway between a provider that records every byte and clients that send anything, in one Trio run.

Because all three are tasks of one run, "nothing more will happen" needs no sleep: it is when all tasks are
blocked (`quiet`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from tests.fuzz.http import ReadAnswer, ReadRequest, read_answers, read_requests
from tests.sdk.servers import BYOK_KEY, Tenant
from tests.support.gateway import PLATFORM_KEY, RunningGateway, running_gateway
from tests.support.scripted_provider import RECEIVE_BYTES, Line, ScriptedProvider, scripted_provider

QUIET_SECONDS = 0.001
"""Loopback delivers at once, so a moment without any task ready is the end of all that was under way."""
LATE_SECONDS = 0.01
PATIENCE_SECONDS = 5.0

Answering = Callable[[Line, bytes, bytes], Awaitable[bool]]
"""What a provider does with one request's head and body; False when it is done with the connection."""


class Arena:
    """One gateway, one provider, and one key that the gateway has verified already."""

    def __init__(self, gateway: RunningGateway, provider: ScriptedProvider, token: str) -> None:
        self.gateway = gateway
        self.provider = provider
        self.token = token
        self.answering: Answering = echo
        self._tags = itertools.count(1)

    def new_tag(self) -> str:
        return f"tag-{next(self._tags)}"

    # The provider's side.

    async def serve(self, line: Line) -> None:
        while True:
            head, body = await read_request(line)
            if not head or not await self.answering(line, head, body):
                return

    def received(self) -> list[tuple[list[ReadRequest], str | None, Line]]:
        """What each connection to the provider carried, by h11."""
        return [(*read_requests(line.received), line) for line in self.provider.lines]

    async def begin(self) -> None:
        """Before each example: let the last one end, and forget what the provider saw of it."""
        await self.quiet()
        self.provider.lines[:] = [line for line in self.provider.lines if not line.closed.is_set()]
        for line in self.provider.lines:
            line.received = b""

    async def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait for what must happen, at most `PATIENCE_SECONDS`."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not condition():
                await trio.sleep(LATE_SECONDS)

    # The client's side.

    async def quiet(self) -> None:
        await trio.testing.wait_all_tasks_blocked(QUIET_SECONDS)

    async def send(self, stream: trio.SocketStream, pieces: list[bytes]) -> None:
        """Each piece is read by the gateway before the next is sent. A closed connection is no error."""
        try:
            for piece in pieces:
                await stream.send_all(piece)
                if len(pieces) > 1:
                    await self.quiet()
        except trio.BrokenResourceError:
            pass

    async def receive(
        self, stream: trio.SocketStream, enough: Callable[[bytes], bool] = lambda _: True
    ) -> tuple[bytes, bool]:
        """All that comes until nothing more happens; True when the connection has ended.

        A busy machine may deliver late: what must come is waited for until it is `enough`.
        """
        data = b""
        with trio.move_on_after(PATIENCE_SECONDS):
            while True:
                await self.quiet()
                piece = _read_now(stream)
                if piece:
                    data += piece
                elif piece is not None:
                    return data, True
                elif enough(data):
                    return data, False
                else:
                    await trio.sleep(LATE_SECONDS)
        return data, False

    async def talk(
        self, pieces: list[bytes], enough: Callable[[bytes], bool] = lambda _: True
    ) -> tuple[bytes, bool]:
        """Send on a connection of its own; what came back, and whether the gateway ended the connection."""
        async with await self.gateway.connect() as stream:
            await self.send(stream, pieces)
            return await self.receive(stream, enough)

    def honest_request(self, tag: str, more: str = "") -> bytes:
        body = json.dumps({"model": "m", "tag": tag, "messages": []}).encode()
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: karta\r\nauthorization: Bearer {self.token}\r\n"
            f"content-type: application/json\r\nx-tag: {tag}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        ).encode() + body

    async def honest(self, stream: trio.SocketStream | None = None) -> ReadAnswer:
        """One honest request, by default on a connection of its own: it must get its own answer."""
        tag = self.new_tag()
        async with stream or await self.gateway.connect() as connection:
            with trio.fail_after(PATIENCE_SECONDS):
                await connection.send_all(self.honest_request(tag))
                data, ended = b"", False
                while not (found := read_answers(data, [b"POST"], ended=ended)[0]) or not found[0].complete:
                    assert not ended, f"an honest request was not answered: {data!r}"
                    piece = bytes(await connection.receive_some())
                    data, ended = data + piece, not piece
        (answer,) = found
        assert answer.status == 200, answer
        assert json.loads(answer.body)["tag"] == tag, "one client's answer has reached another"
        return answer


def _read_now(stream: trio.SocketStream) -> bytes | None:
    """What has arrived, b"" at the end however it came, None when there is nothing yet. Never waits."""
    with socket.socket(fileno=os.dup(stream.socket.fileno())) as twin:
        try:
            return twin.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""


async def read_request(line: Line) -> tuple[bytes, bytes]:
    """Head and body of what the gateway sends next, with a length or in chunks; b"" when it closed."""
    head = await line.read_head()
    if b"transfer-encoding: chunked" not in head.lower():
        return head, await _read_length(line, head)
    body = b""
    while True:
        size = int(await _read_line(line) or b"0", 16)
        if size == 0:
            await _read_line(line)
            return head, body
        body += (await _read_exactly(line, size + 2))[:-2]


async def _read_length(line: Line, head: bytes) -> bytes:
    for field in head.lower().split(b"\r\n"):
        if field.startswith(b"content-length:"):
            return await _read_exactly(line, int(field.partition(b":")[2]))
    return b""


async def _read_line(line: Line) -> bytes:
    while b"\r\n" not in line._unread:
        data = await line.receive()
        if not data:
            return b""
        line._unread += data
    found, _, line._unread = line._unread.partition(b"\r\n")
    return found


async def _read_exactly(line: Line, size: int) -> bytes:
    while len(line._unread) < size:
        data = await line.receive()
        if not data:
            break
        line._unread += data
    found, line._unread = line._unread[:size], line._unread[size:]
    return found


async def echo(line: Line, head: bytes, body: bytes) -> bool:
    """An answer that says which request it is for."""
    await line.send(echo_answer(head, body))
    return True


def echo_answer(head: bytes, body: bytes, more: bytes = b"") -> bytes:
    start, *fields = head.split(b"\r\n")
    tags = [field.partition(b":")[2].strip() for field in fields if field.lower().startswith(b"x-tag:")]
    document = {
        "tag": b",".join(tags).decode("latin-1"),
        "start": start.decode("latin-1"),
        "body": hashlib.sha256(body).hexdigest(),
    }
    answer = b"" if head.startswith(b"HEAD ") else json.dumps(document).encode()
    length = len(json.dumps(document))
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n" % (length, more)
    ) + answer


def check_upstream_request(request: ReadRequest, token: str) -> None:
    """What the gateway wrote is a request of its own making, with the provider's key and no other."""
    assert request.values(b"host") == [b"127.0.0.1"] or request.values(b"host")[0].startswith(b"127.0.0.1:")
    assert len(request.values(b"host")) == 1
    credentials = request.values(b"authorization") + request.values(b"x-api-key")
    assert len(credentials) == 1
    assert credentials[0].removeprefix(b"Bearer ") in (PLATFORM_KEY.encode(), BYOK_KEY.encode())
    assert token.encode() not in b"".join(b"%s:%s" % field for field in request.headers)
    assert len(request.values(b"content-length") + request.values(b"transfer-encoding")) <= 1
    for name in (b"connection", b"upgrade", b"te", b"trailer", b"expect", b"cookie", b"proxy-authorization"):
        assert request.values(name) == []


@asynccontextmanager
async def running_arena(database_url: str, tenant: Tenant, spool_dir: Path) -> AsyncIterator[Arena]:
    """An arena whose gateway has verified the key, so that no bcrypt runs during examples."""
    arena: Arena | None = None

    async def serve(line: Line) -> None:
        assert arena is not None
        await arena.serve(line)

    async with (
        scripted_provider(serve) as provider,
        running_gateway(
            database_url, spool_dir, provider_url=provider.base_url, master_keys=tenant.master_keys
        ) as gateway,
    ):
        arena = Arena(gateway, provider, tenant.token)
        await arena.honest()
        await arena.begin()
        yield arena
