"""The writing of one answer that cannot simply be written: paced, split, flooding, hanging, broken or cut
short.

Strategy: `run` goes through the answer in the order of the wire (wait, interim, head, body, end) and ends in
one of three ways: normally, True when the connection may stay; by a planned death or hang; by cancellation
when the client has left. Backpressure: after every piece the delivery waits while the transport is over its
high-water mark (64 KiB), so a flood is as fast as its reader and no more is held.
"""

import asyncio
import hashlib
import random
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.sim import malformed
from bench.sim.answer import Answer
from bench.sim.request import Request
from bench.sim.response_headers import head
from bench.sim.sse import Event

if TYPE_CHECKING:
    from bench.sim.connection import Connection

PIECE_BYTES_MAX = 65_536
"""The most handed to the transport at once: its own high-water mark, so that the wait in between means
something."""
JOINED_EVENTS_BYTES_MAX = 67_108_864
"""`framing=length` must know the length of a stream beforehand, so it holds it; a longer one is chunked."""


class _Ended(Exception):
    """A planned fault has ended this delivery; the connection is dead or dying."""


class Delivery:
    """One answer on its way out over one connection."""

    def __init__(self, connection: "Connection", request: Request, answer: Answer) -> None:
        self._connection = connection
        self._request = request
        self._entry = request.entry
        self._answer = answer
        self._behaviour = answer.behaviour
        self._hasher = hashlib.sha256()
        self._random = random.Random(self._behaviour.seed)
        self._chunked = False
        self._silent = request.method == "HEAD"
        self._compressor = self._choose_compressor()

    async def run(self) -> bool:
        """Write the answer; True when the connection may be used again."""
        entry, answer = self._entry, self._answer
        entry.status = self._behaviour.status or answer.status
        entry.streamed = answer.events is not None
        self._request.forget_body()
        try:
            await self._before_head()
            pieces = self._framed()
            await self._write_head()
            if not self._silent:
                await self._write_body(pieces)
                await self._write_end()
        except _Ended:
            return False
        finally:
            entry.ended_at = time.time()
            entry.response_sha256 = self._hasher.hexdigest()
        entry.completed = True
        return self._keeps_connection()

    # ---- before the body

    async def _before_head(self) -> None:
        behaviour = self._behaviour
        if behaviour.die_at == "request":
            await self._die()
        streamed = self._answer.events is not None
        await self._sleep(behaviour.headers_ms + (0 if streamed else behaviour.ttft_ms))
        if behaviour.hang == "head":
            await self._hang()
        if behaviour.interim:
            link = b"link: </style.css>; rel=preload\r\n" if behaviour.interim == 103 else b""
            await self._write(b"HTTP/1.1 %d Interim\r\n%s\r\n" % (behaviour.interim, link))

    def _framed(self) -> Iterator[Event]:
        """Settle the framing lines, and give the body as events (of one piece each when it is no event
        stream)."""
        answer, behaviour = self._answer, self._behaviour
        framing = "chunked" if behaviour.malformed in malformed.CHUNKED_KINDS else behaviour.framing
        items: Iterator[Event]
        if answer.events is not None:
            items = answer.event_iterator()
            length = None
        else:
            items = (Event(piece) for piece in answer.body_pieces())
            length = len(answer.body) if answer.pieces is None else answer.length
        if self._compressor is not None:
            length = None
        if framing == "length" and behaviour.bytes > JOINED_EVENTS_BYTES_MAX:
            framing = "auto"
        if framing == "length" and length is None:
            whole = list(items)
            if self._compressor is not None:
                whole = [
                    Event(
                        self._compressor.compress(b"".join(e.data for e in whole)) + self._compressor.flush()
                    )
                ]
                self._compressor = None
            length = sum(len(event.data) for event in whole)
            items = iter(whole)
        status = behaviour.status or answer.status
        no_body = status in (204, 304)
        self._silent = self._silent or no_body
        self._chunked = not no_body and (framing == "chunked" or (framing == "auto" and length is None))
        until_close = framing == "close" or (self._request.http10 and length is None)
        if until_close:
            self._chunked, length = False, None
        self._closes_to_end = until_close
        self._framing = self._framing_lines(None if no_body else length)
        return items

    def _framing_lines(self, length: int | None) -> bytes:
        lines = b""
        if self._chunked:
            lines = b"transfer-encoding: chunked\r\n"
        elif length is not None and not self._closes_to_end:
            lines = b"content-length: %d\r\n" % (length + self._behaviour.short_bytes)
        if self._encoded:
            lines += b"content-encoding: %b\r\nvary: Accept-Encoding\r\n" % self._behaviour.encoding.encode()
        if not self._request.keep_alive or self._behaviour.close or self._closes_to_end:
            lines += b"connection: close\r\n"
        elif self._request.http10:
            lines += b"connection: keep-alive\r\n"
        return lines

    async def _write_head(self) -> None:
        lines = head(self._answer, self._request.dialect, self._entry.request_id, self._framing)
        lines = malformed.spoil_head(self._behaviour.malformed, lines)
        if self._behaviour.die_at == "head":
            await self._write(lines[: len(lines) // 2])
            await self._die()
        # The head of a body goes out in one write with the body's first piece; that of a stream does too when
        # nothing is to be waited for in between.
        self._held = lines
        if self._silent:
            await self._write(b"")

    # ---- the body

    async def _write_body(self, items: Iterator[Event]) -> None:
        if self._answer.events is not None:
            await self._write_events(items)
        else:
            pause_ms = 0.0
            for event in items:
                if pause_ms and self._answer.pieces is not None:
                    await self._sleep(pause_ms)
                await self._write_piece(event.data)
                pause_ms = self._behaviour.pace_ms
        if self._compressor is not None:
            await self._write_chunk(self._compressor.flush(zlib.Z_FINISH))

    async def _write_events(self, items: Iterator[Event]) -> None:
        behaviour, entry = self._behaviour, self._entry
        clock = asyncio.get_running_loop().time
        pace = behaviour.pace_ms / 1000
        due = 0.0
        for index, event in enumerate(items):
            if index == behaviour.hang_after:
                await self._hang()
            if index == behaviour.die_after:
                await self._die()
            if index == behaviour.malformed_after:
                await self._spoil_body()
            if event.tokens:
                if entry.tokens_sent == 0:
                    await self._sleep(behaviour.ttft_ms)
                    due = clock()
                elif pace:
                    # Against the schedule, not since the last event: the pace does not drift under load.
                    due += pace
                    await asyncio.sleep(max(0.0, due - clock()))
            await self._write_framed(event.data)
            entry.events_sent += 1
            entry.tokens_sent += event.tokens
            if event.usage is not None:
                entry.usage = event.usage if entry.usage is None else entry.usage | event.usage

    async def _write_piece(self, data: bytes) -> None:
        """One piece of a plain body, cut where a fault is planned at some byte of it."""
        sent, behaviour = self._entry.bytes_sent, self._behaviour
        for limit, fault in ((behaviour.hang_after, self._hang), (behaviour.die_after, self._die)):
            if limit is not None and sent <= limit < sent + len(data):
                await self._write_framed(data[: limit - sent])
                await fault()
                data = data[limit - sent :]
        for start in range(0, len(data), PIECE_BYTES_MAX):
            await self._write_framed(data[start : start + PIECE_BYTES_MAX])
        self._entry.usage = self._answer.usage
        self._entry.tokens_sent = self._answer.tokens

    async def _write_framed(self, data: bytes) -> None:
        """One piece of the body, encoded if so agreed."""
        if self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        await self._write_chunk(data)

    async def _write_chunk(self, data: bytes) -> None:
        """Bytes as they go on the wire: counted, hashed, in a chunk of their own."""
        self._hasher.update(data)
        self._entry.bytes_sent += len(data)
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def _write_end(self) -> None:
        behaviour = self._behaviour
        await self._spoil_body()
        if behaviour.short_bytes:
            await self._die(abruptly=behaviour.die == "rst" and behaviour.die_after is not None)
        ending = b"0\r\n\r\n" if self._chunked else b""
        if behaviour.extra_bytes:
            ending += b"X" * behaviour.extra_bytes
        await self._write(ending)

    # ---- faults

    async def _spoil_body(self) -> None:
        """Write the planned wrong bytes and leave; nothing when none are planned."""
        if (bad := malformed.body_bytes(self._behaviour.malformed)) is not None:
            await self._write(bad)
            await self._connection.flushed()
            self._connection.die(abruptly=False)
            raise _Ended

    async def _die(self, *, abruptly: bool | None = None) -> None:
        """End the connection as planned; a `clean` death ends the answer as if it were whole."""
        die = self._behaviour.die
        if die == "clean" and abruptly is None:
            await self._write(b"0\r\n\r\n" if self._chunked else b"")
            await self._connection.flushed()
            self._connection.close()
            raise _Ended
        await self._write(b"")
        await self._connection.flushed()
        self._connection.die(abruptly=die == "rst" if abruptly is None else abruptly)
        raise _Ended

    async def _hang(self, milliseconds: float | None = None) -> None:
        """Say nothing: for `hang_ms`, or until the client leaves."""
        await self._write(b"")
        limit = self._behaviour.hang_ms if milliseconds is None else milliseconds
        if limit is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(limit / 1000)

    # ---- writing

    _held = b""
    _framing = b""
    _closes_to_end = False

    async def _write(self, data: bytes) -> None:
        """Write what was held back and `data`, in as many writes as the behaviour asks for; then wait for
        room."""
        data, self._held = self._held + data, b""
        if not data:
            return
        if self._entry.first_byte_at is None:
            self._entry.first_byte_at = time.time()
        connection, behaviour = self._connection, self._behaviour
        if behaviour.split:
            start = 0
            while start < len(data):
                end = start + self._random.randint(1, behaviour.split)
                connection.write(data[start:end])
                start = end
                await asyncio.sleep(behaviour.split_ms / 1000)
        elif len(data) > PIECE_BYTES_MAX:
            for start in range(0, len(data), PIECE_BYTES_MAX):
                connection.write(data[start : start + PIECE_BYTES_MAX])
                await connection.writable.wait()
        else:
            connection.write(data)
        if behaviour.flush:
            await asyncio.sleep(0)
        if not connection.writable.is_set():
            await connection.writable.wait()

    async def _sleep(self, milliseconds: float) -> None:
        """Wait, with everything written so far on its way."""
        if milliseconds:
            await self._write(b"")
            await asyncio.sleep(milliseconds / 1000)

    # ---- small decisions

    def _choose_compressor(self) -> "zlib._Compress | None":
        """A compressor when the behaviour asks for one and the client takes it."""
        wanted = self._behaviour.encoding
        accepted = self._request.header(b"accept-encoding")
        self._encoded = wanted != "identity" and wanted in accepted
        if not self._encoded:
            return None
        return zlib.compressobj(wbits=31 if wanted == "gzip" else 15)

    def _keeps_connection(self) -> bool:
        behaviour = self._behaviour
        stays = self._request.keep_alive and not self._closes_to_end
        return stays and not (behaviour.close or behaviour.close_silently or behaviour.extra_bytes)
