"""A provider whose every byte the test decides, on a real socket, with a record of what it saw.

A test gives a handler; each accepted connection runs it with a `Line`, which keeps all that was read from it.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

RECEIVE_BYTES = 64 * 1024
PATIENCE_SECONDS = 60.0


class Line:
    """One connection at the provider's end."""

    def __init__(self, stream: trio.SocketStream, secured: trio.SSLStream[trio.SocketStream] | None) -> None:
        self.stream = stream
        self._bytes = secured or stream
        self.received = b""
        """Everything the gateway sent that was read so far."""
        self.closed = trio.Event()
        """The gateway has closed or reset this connection (noticed by `wait_closed` or a read)."""
        self._unread = b""

    async def receive(self) -> bytes:
        """Some bytes; b"" at the end."""
        try:
            data = bytes(await self._bytes.receive_some(RECEIVE_BYTES))
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed.set()
        self.received += data
        return data

    async def read_head(self) -> bytes:
        """Up to and with the blank line; b"" when the gateway closed instead."""
        while b"\r\n\r\n" not in self._unread:
            data = await self.receive()
            if not data:
                return b""
            self._unread += data
        head, end, self._unread = self._unread.partition(b"\r\n\r\n")
        return head + end

    async def read_request(self) -> tuple[bytes, bytes]:
        """Head and body of one request with a content-length (or none)."""
        head = await self.read_head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._unread) < length:
            data = await self.receive()
            if not data:
                break
            self._unread += data
        body, self._unread = self._unread[:length], self._unread[length:]
        return head, body

    def take_unread(self) -> bytes:
        """What came along with the last thing read."""
        unread, self._unread = self._unread, b""
        return unread

    async def read_chunks(self) -> bytes:
        """A body sent in chunks, without its framing."""
        body = b""
        while True:
            size = int(await self._read_until(b"\r\n"), 16)
            piece = await self._read_exactly(size + 2)
            if not size:
                return body
            body += piece[:-2]

    async def _read_until(self, marker: bytes) -> bytes:
        while marker not in self._unread:
            data = await self.receive()
            assert data, f"the gateway closed before {marker!r}"
            self._unread += data
        found, _, self._unread = self._unread.partition(marker)
        return found

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            data = await self.receive()
            assert data, f"the gateway closed before {size} bytes of a chunk were there"
            self._unread += data
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    async def send(self, data: bytes) -> None:
        await self._bytes.send_all(data)

    async def answer(self, body: bytes, *, status: str = "200 OK", headers: str = "") -> None:
        """A complete JSON answer with a content-length."""
        fields = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await self.send(f"HTTP/1.1 {status}\r\n{fields}".encode() + body)

    async def begin_stream(self) -> None:
        """The head of a stream in chunks."""
        fields = b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        await self.send(b"HTTP/1.1 200 OK\r\n" + fields)

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_closed(self) -> None:
        """Read until the gateway ends the connection; fails if it does not."""
        with trio.fail_after(PATIENCE_SECONDS):
            while await self.receive():
                pass

    async def reset(self) -> None:
        """Die with a reset."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


Handler = Callable[[Line], Awaitable[None]]


def answering(body: bytes) -> Handler:
    """A provider that gives every request this answer, and keeps its connections open."""

    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(body)

    return handler


def pausing(events: Sequence[bytes], go_on: trio.Event) -> Handler:
    """A provider whose streams wait after their first event until it may go on."""

    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.begin_stream()
            await line.send_chunk(events[0])
            await go_on.wait()
            for event in events[1:]:
                await line.send_chunk(event)
            await line.end_stream()

    return handler


async def silent(line: Line) -> None:
    """A provider that says nothing, until the gateway closes."""
    await line.wait_closed()


class ScriptedProvider:
    """`lines` are the connections accepted so far, oldest first."""

    def __init__(self, listener: trio.SocketListener, scheme: str) -> None:
        self._listener = listener
        self.port: int = listener.socket.getsockname()[1]
        self.base_url = f"{scheme}://127.0.0.1:{self.port}"
        self.lines: list[Line] = []
        self.accepted = trio.Event()

    def narrow(self) -> None:
        """Let the kernel take as little as it can of what arrives on connections accepted from now on."""
        self._listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)

    @property
    def received(self) -> bytes:
        """Every byte that reached the provider."""
        return b"".join(line.received for line in self.lines)


@asynccontextmanager
async def scripted_provider(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedProvider]:
    """Serve `handler` on a free port. An exception in it fails the test, but for a send the gateway cut."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    provider = ScriptedProvider(listener, "https" if tls else "http")

    async def serve(stream: trio.SocketStream) -> None:
        line = Line(stream, trio.SSLStream(stream, tls, server_side=True) if tls else None)
        provider.lines.append(line)
        provider.accepted.set()
        async with stream:
            try:
                await handler(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                line.closed.set()

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield provider
        nursery.cancel_scope.cancel()
