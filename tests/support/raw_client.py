"""A client whose every byte the test decides, and who sees every byte and how the connection ended."""

from __future__ import annotations

import socket
import struct
import time
from typing import NamedTuple

import trio

RECEIVE_BYTES = 64 * 1024
PATIENCE_SECONDS = 60.0


class Answer(NamedTuple):
    """One parsed answer; `raw` is exactly what came, head and framing included."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes


class RawClient:
    """One connection to the gateway. Reads are bounded in time; a reset ends them as an end does."""

    def __init__(self, stream: trio.SocketStream, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.stream = stream
        self._patience_seconds = patience_seconds
        self.was_reset = False
        """The connection ended by a reset, not by an orderly end."""
        self.ended = False
        self.left_at = 0.0
        """When we left, in seconds since 1970: taken right before the system call."""
        self._unread = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> bytes:
        """Some bytes; b"" at the end."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        with trio.fail_after(self._patience_seconds):
            try:
                data = bytes(await self.stream.receive_some(RECEIVE_BYTES))
            except trio.BrokenResourceError:
                self.was_reset = True
                data = b""
        self.ended = not data
        return data

    async def read_until(self, marker: bytes) -> bytes:
        """Up to and with `marker`; fails when the connection ends before it."""
        data = b""
        while marker not in data:
            more = await self.receive()
            assert more, f"the connection ended after {data[-200:]!r}, before {marker!r}"
            data += more
        found, _, rest = data.partition(marker)
        self._unread = rest + self._unread
        return found + marker

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.receive()
            assert more, f"the connection ended after {len(data)} of {size} bytes"
            data += more
        data, self._unread = data[:size], data[size:] + self._unread
        return data

    async def read_to_end(self) -> bytes:
        """All bytes until the other side ends, cleanly or by reset (`was_reset` tells)."""
        data = b""
        while more := await self.receive():
            data += more
        return data

    async def read_head(self) -> Answer:
        """The head of an answer; its body stays to be read."""
        raw = await self.read_until(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
        return Answer(int(status.split(" ")[1]), headers, b"", raw)

    async def read_answer(self, *, bodiless: bool = False) -> Answer:
        """A whole answer with a length or in chunks; `bodiless` for one to HEAD."""
        head = await self.read_head()
        body = raw = b""
        if bodiless or head.status in (204, 304):
            pass
        elif head.headers.get("transfer-encoding") == "chunked":
            length = -1
            while length:
                size, data = await self._read_chunk()
                length = int(size.split(b";")[0], 16)
                raw += size + data
                body += data[:length]
        else:
            body = raw = await self.read_exactly(int(head.headers["content-length"]))
        return head._replace(body=body, raw=head.raw + raw)

    async def _read_chunk(self) -> tuple[bytes, bytes]:
        size = await self.read_until(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            # Trailers up to the blank line.
            trailers = b""
            while not trailers.endswith(b"\r\n\r\n") and trailers != b"\r\n":
                trailers += await self.read_until(b"\r\n")
            return size, trailers
        return size, await self.read_exactly(length + 2)

    def half_close(self) -> None:
        """End our direction only, as a client does that has said all."""
        self.left_at = time.time()
        self.stream.socket.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """Leave with a reset."""
        self.left_at = time.time()
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()

    async def close(self) -> None:
        self.left_at = time.time()
        await self.stream.aclose()
