"""One answer on its way from a provider to a client, byte for byte: a machine that is moved by events, not by
a task.

What the provider wrote is what the client reads: one write for each read, in the provider's own framing,
never merged, split, delayed or re-serialised; the meter looks on from the side. The next read waits for the
write, so a client that stops reading stops the provider. An event that can be handled at once, which is
nearly every one, costs a few calls and no task; only a write that does not fit waits, in a task of its own.

States: awaiting the head, relaying, held up by the client, ended; `on_end` is told once how it ended.

When the provider fails in the middle, a stream gets an error event in its dialect if it stands between two
events, and the connection ends without the terminator the client waits for: a clean end is never made up.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Final

import trio

from gateway.authorize import Grant
from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.ending import Cut, ending_of
from gateway.fault import tell
from gateway.limits import Limits
from gateway.meter import Metering
from gateway.refusal import error_event
from gateway.response_reader import ResponseReader, UpstreamBroken
from gateway.upstream_response import NothingReceived, UpstreamResponse
from gateway.usage_stripper import UsageStripper
from gateway.wait import Overdue, Waiting
from gateway.watchdog import NEVER
from storage.model import Outcome

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_UPSTREAM: Final = Waiting.UPSTREAM
_COMPLETED: Final = Outcome.COMPLETED

_CHUNKED: Final = b"transfer-encoding: chunked"
# How much one answer may pass on before others get their turn: a provider and a client that are both faster
# than this process would otherwise keep it for as long as they like.
_READS_MAX: Final = 4

_CUT_OFF: Final = "The stream was cut off; this answer is not complete."

_log = logging.getLogger("karta.gateway.exchange")

OnEnd = Callable[["Exchange", Exception | None], None]


class Exchange:
    """One answer. `await_answer` or `begin` starts it."""

    __slots__ = (
        "_chunked",
        "_drain_scope",
        "_limits",
        "_on_end",
        "_raw",
        "_relaying",
        "_stripper",
        "_tail",
        "asked",
        "connection",
        "ended",
        "grant",
        "metering",
        "on_gone",
        "upstream",
    )

    def __init__(
        self,
        connection: Connection,
        upstream: Upstream,
        grant: Grant,
        metering: Metering,
        limits: Limits,
        on_end: OnEnd,
    ) -> None:
        self.connection = connection
        self.upstream = upstream
        self.grant = grant
        self.metering = metering
        self.asked = b""
        """The client's request as it came, for as long as it may have to be sent again."""
        self.ended = False
        self.on_gone: Callable[[Exchange], None] | None = None
        """Called when the client has gone, where there is no task to be cancelled for that."""
        self._limits = limits
        self._on_end = on_end
        self._raw = b""
        self._relaying = False
        self._chunked = False
        """What the client gets comes in chunks."""
        self._stripper: UsageStripper | None = None
        """The answer says what Karta asked for, and the client did not (`include_usage`)."""
        self._tail = b"\r\n"
        """The last bytes that came, which tell whether a chunk has ended."""
        self._drain_scope: trio.CancelScope | None = None
        connection.exchange = self

    def leave_to(self, on_end: OnEnd, on_gone: Callable[[Exchange], None]) -> None:
        """From now on these see to its end, and no task does."""
        self._on_end = on_end
        self.on_gone = on_gone

    # Events.

    def await_answer(self) -> None:
        """The request has been sent."""
        self.connection.begin_wait(_UPSTREAM, self._limits.first_byte_seconds, self.upstream.transport)
        self.listen()

    def listen(self) -> None:
        """Hear of what comes from the provider, and of what has come meanwhile."""
        transport = self.upstream.transport
        transport.listener = self.on_upstream
        if transport.ready:
            self.on_upstream()

    def on_upstream(self) -> None:
        """There may be something to read from the provider."""
        try:
            self._advance()
        except Exception as error:
            # Whatever it was ends this one answer; `on_end` knows what is expected and what is Karta's own
            # fault.
            self.fail(error)

    def expire(self, overdue: Overdue) -> None:
        """The wait for the provider was too long."""
        self.fail(overdue)

    def leave(self) -> None:
        """The client has gone."""
        if self.on_gone is not None and not self.ended:
            self.stop()
            try:
                self.on_gone(self)
            except Exception as fault:
                self._give_up(fault)

    def stop(self) -> None:
        """Nobody is interested any more: neither side hears of it from here."""
        self.ended = True
        self.upstream.transport.listener = None
        self.connection.exchange = None
        self.connection.deadline = NEVER
        if self._drain_scope is not None:
            self._drain_scope.cancel()

    # The way of the bytes.

    def _advance(self) -> None:
        transport = self.upstream.transport
        for _ in range(_READS_MAX):
            try:
                data = transport.receive_now()
            except OSError:
                raise self._broken("it reset the connection") from None
            if data is None:
                return
            if self._relaying:
                self._take_body(data)
            else:
                self._take_head(data)
            if not transport.ready or self.ended or self._drain_scope is not None:
                return
        transport.again()

    def _broken(self, how: str) -> UpstreamBroken:
        return UpstreamBroken(how) if self._relaying or self._raw else NothingReceived()

    def _take_head(self, data: bytes) -> None:
        if not data:
            raise self._broken("it closed the connection")
        reader = self.upstream.reader
        reader.feed(data)
        raw = self._raw + data if self._raw else data
        if not reader.head_done:
            self._raw = raw
            return
        self._raw = b""
        if reader.status != 200 and self.asked:
            self.upstream.pool.postpone(reader, self.metering.elapsed_us() / 1_000_000)
        self.begin(UpstreamResponse(self.grant, self.upstream, raw))

    def begin(self, response: UpstreamResponse) -> None:
        """The head of the answer is here: head and first bytes in one write."""
        metering = self.metering
        reader = self.upstream.reader
        if reader.until_close:
            self.connection.keep_alive = False
        metering.begin_answer(reader.status, response.head)
        framing = _framing(reader)
        if self.grant.request.usage_added and response.head.event_stream and reader.status == 200:
            self._stripper = UsageStripper()
            # Less comes out than was announced.
            framing = b"" if reader.until_close else _CHUNKED
        self._chunked = framing == _CHUNKED
        head = response.head.render(
            metering.request_id.encode(), framing, close=not self.connection.keep_alive
        )
        start = response.start
        metering.response_bytes = len(start)
        response.release()
        self.asked = b""
        self._relaying = True
        self.upstream.transport.listener = self.on_upstream
        self._pass_on(start, head)

    def _take_body(self, data: bytes) -> None:
        reader = self.upstream.reader
        if data:
            try:
                reader.feed(data)
            except UpstreamBroken:
                # The reader has gone on to bytes the client will not get.
                self.upstream.spoiled = True
                raise
            self.metering.response_bytes += len(data)
        else:
            # The connection's end is the answer's, or else it is broken.
            reader.end()
        self._pass_on(data)

    def _pass_on(self, received: bytes, head: bytes = b"") -> None:
        """Send on what came, behind the head if it is the first."""
        reader = self.upstream.reader
        connection = self.connection
        tally = self.metering.tally
        assert tally is not None
        pieces = reader.take()
        for piece in pieces:
            tally.feed(piece)
            if self.metering.late is not None:
                self.metering.feed_late(piece)
        if reader.done:
            _check_end(connection, reader, self._tail + received[-5:], self.metering.response_bytes)
            self.metering.settle(_COMPLETED)
        else:
            # Not kept whole while waiting: a read's bytes may be many.
            self._tail = (self._tail + received[-4:])[-4:]
        data = received if self._stripper is None else self._stripped(self._stripper, pieces)
        if head:
            data = head + data
        connection.answered = True
        sent = connection.transport.send_now(data) if data else 0
        if sent < len(data):
            # Until it has gone nothing more is read: backpressure.
            self.upstream.transport.listener = None
            self._drain_scope = trio.CancelScope()
            connection.nursery.start_soon(self._drain, data, sent, self._drain_scope)
            return
        self._passed()

    def _stripped(self, stripper: UsageStripper, pieces: list[bytes]) -> bytes:
        """What the client asked for of these pieces of the body, in chunks of Karta's own."""
        done = self.upstream.reader.done
        parts = [stripper.feed(piece) for piece in pieces]
        if done:
            parts.append(stripper.finish())
        data = b"".join(parts)
        if not self._chunked:
            return data
        return (b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + (b"0\r\n\r\n" if done else b"")

    def _passed(self) -> None:
        if self.upstream.reader.done:
            self._finish(None)
        else:
            limits = self._limits
            self.connection.begin_wait(_UPSTREAM, limits.between_bytes_seconds, self.upstream.transport)

    async def _drain(self, data: bytes, sent: int, scope: trio.CancelScope) -> None:
        """Wait until the client has taken what did not fit."""
        with scope:
            try:
                await self.connection.send_rest(data, sent)
            except Exception as error:
                self._finish(error)
        self._drain_scope = None
        if self.ended:
            return
        self._passed()
        if not self.ended:
            self.listen()

    # Ends.

    def fail(self, error: Exception) -> None:
        """It cannot go on: tell the client, if that is possible, and end."""
        if self.ended:
            # Told by a task that learns of the end late: the connection may have another answer by now.
            return
        if self.connection.answered and isinstance(error, UpstreamBroken | Overdue | Cut):
            self._tell_cut(error)
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self.ended:
            return
        self.stop()
        try:
            self._on_end(self, error)
        except Exception as fault:
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> None:
        """A fault of Karta's own at the very end costs this connection: whoever called, an event or the
        watchdog, serves all the others too.
        """
        self.connection.abort()
        self.connection.finish()
        request_id = self.metering.request_id
        tell(_log, fault, "request %s failed at its end", request_id, request_id=request_id, grant=self.grant)

    def _tell_cut(self, error: UpstreamBroken | Overdue | Cut) -> None:
        """The head is out and the rest will not come: say so in the stream where that can be read, then end
        abruptly.

        Only between two events, and in chunks only between two of those, would an event be read as one: after
        half a chunk's size or within the trailers it could even be read as the end.
        """
        connection = self.connection
        reader = self.upstream.reader
        tally = self.metering.tally
        between_chunks = not reader.chunked or (not reader.chunk_open and self._tail.endswith(b"\r\n"))
        if self._stripper is not None:
            # Its chunks go out whole.
            between_chunks = True
        elif reader.content_length is not None:
            between_chunks = False
        # What is still held up stands before it.
        tellable = between_chunks and not self.upstream.spoiled and self._drain_scope is None
        if tellable and tally is not None and tally.between_events and not connection.gone:
            refusal = ending_of(error).refusal
            operation = self.grant.request.operation
            event = error_event(
                refusal.kind,
                refusal.message if isinstance(error, Cut) else _CUT_OFF,
                operation.dialect,
                operation.path,
                self.metering.request_id,
            )
            if self._chunked:
                event = b"%x\r\n%s\r\n" % (len(event), event)
            with contextlib.suppress(OSError):
                # What does not fit is not waited for: the end itself tells enough.
                connection.transport.send_now(event)
        cut(connection, reader)


def _framing(reader: ResponseReader) -> bytes:
    if reader.chunked:
        return _CHUNKED
    if reader.content_length is not None:
        return b"content-length: %d" % reader.content_length
    return b""


def _check_end(connection: Connection, reader: ResponseReader, tail: bytes, body_bytes: int) -> None:
    """Whatever follows the end of this answer is not the client's, and the provider's connection cannot be
    trusted. `tail` is at least the last five bytes that came.
    """
    if reader.bodiless:
        if body_bytes:
            reader.surplus = True
    elif reader.content_length is not None:
        if body_bytes > reader.content_length:
            reader.surplus = True
    elif reader.chunked and not reader.surplus and not tail.endswith(b"0\r\n\r\n"):
        # Trailers or stray line ends: right for this answer, not safe for a next one.
        reader.surplus = True
        connection.keep_alive = False
        return
    if reader.surplus:
        if connection.answered:
            cut(connection, reader)
        raise UpstreamBroken("bytes follow the end of its answer")


def cut(connection: Connection, reader: ResponseReader) -> None:
    """End an answer that began, so that it cannot look finished."""
    connection.keep_alive = False
    if reader.chunked or reader.content_length is not None:
        # Closing before the announced end is unmistakable, and delivers what was sent.
        connection.close()
    else:
        connection.abort()
