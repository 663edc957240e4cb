"""Stage 7: `UpstreamResponse → StreamOutcome`. The answer, byte for byte.

What the provider wrote is what the client reads: one write for each read, in the provider's own framing,
never merged, split, delayed or re-serialised; the meter looks on from the side. The next read waits for the
write, so a client that stops reading stops the provider. An answer is sent in one of three ways: `verbatim`
(nearly always), `unframed` (an HTTP/1.0 client cannot read chunks), and rewritten (batch objects:
`rewrite`).

When the provider fails in the middle, a stream gets an error event in its dialect if it stands between two
events, and the connection ends without the terminator the client waits for: a clean end is never made up.
"""

from __future__ import annotations

import contextlib

import trio

from gateway import wire
from gateway.accept import Connection
from gateway.authorize import Grant
from gateway.dial import Upstream
from gateway.limits import Limits
from gateway.meter import Metering
from gateway.refusal import Kind, Refusal, error_event
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader, UpstreamBroken
from gateway.rewrite import needs_rewrite, rewrite
from gateway.tally import Tally
from gateway.wait import Overdue, Waiting
from storage.model import Outcome

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_UPSTREAM = Waiting.UPSTREAM
_COMPLETED = Outcome.COMPLETED


class UpstreamResponse:
    """An answer whose head is complete. `start` is what of its body came along, still framed."""

    __slots__ = ("grant", "head", "start", "upstream")

    def __init__(self, grant: Grant, upstream: Upstream, head: ClientHead, start: bytes) -> None:
        self.grant = grant
        self.upstream = upstream
        self.head = head
        self.start = start

    def release(self) -> None:
        """Head and first bytes have been rendered: an open stream has no more use for them, nor for the
        request."""
        self.start = b""
        self.head.lines = self.upstream.reader.lines = []
        self.grant.request.forget()


async def receive_head(
    connection: Connection, upstream: Upstream, grant: Grant, limits: Limits, *, hide_account: bool
) -> UpstreamResponse:
    """Wait for the head of the answer. Raises `UpstreamBroken` (with nothing received: `NothingReceived`)
    or `Refusal`.
    """
    reader = upstream.reader
    raw = b""
    connection.begin_wait(_UPSTREAM, limits.first_byte_seconds, upstream.transport.sock)
    while not reader.head_done:
        try:
            data = await upstream.transport.receive()
        except trio.ClosedResourceError:
            raise connection.overdue() or UpstreamBroken("its connection was closed") from None
        except OSError:
            raise (UpstreamBroken("it reset the connection") if raw else NothingReceived()) from None
        if not data:
            raise UpstreamBroken("it closed the connection") if raw else NothingReceived()
        reader.feed(data)
        raw = raw + data if raw else data
    at = 0
    for _ in range(reader.interim + 1):
        # llhttp skips empty lines here; taken for the head's end, they would make a body of the head.
        if not raw.startswith(b"HTTP/", at):
            raise UpstreamBroken("its head does not begin with a status line")
        at = raw.index(b"\r\n\r\n", at) + 4
    return UpstreamResponse(
        grant, upstream, ClientHead(reader, grant.provider, hide_account=hide_account), raw[at:]
    )


class NothingReceived(UpstreamBroken):
    """The connection ended before a byte of an answer: on a reused one, the provider had simply closed it."""

    def __init__(self) -> None:
        super().__init__("it closed the connection without an answer")


async def forward(
    connection: Connection,
    response: UpstreamResponse,
    metering: Metering,
    limits: Limits,
    public_url: str | None,
) -> None:
    """Send the answer to the client. Settles `metering` before the last byte goes out.

    Raises `UpstreamBroken` or `Overdue` when it was cut; then the client has been told, if that was possible.
    """
    head = response.head
    reader = response.upstream.reader
    request = response.grant.request
    request_id = metering.request_id.encode()
    metering.status = reader.status
    metering.first_byte_us = metering.elapsed_us()
    if head.provider_request_id is not None:
        metering.provider_request_id = head.provider_request_id.decode("ascii", "replace")
    metering.tally = Tally(request.dialect, streamed=head.event_stream)
    if needs_rewrite(request, reader, head):
        await _forward_rewritten(connection, response, metering, limits, public_url)
    elif reader.chunked and request.inbound.version == "1.0":
        await _forward_unframed(connection, response, metering, limits, request_id)
    else:
        await _forward_verbatim(connection, response, metering, limits, request_id)


async def _forward_verbatim(
    connection: Connection, response: UpstreamResponse, metering: Metering, limits: Limits, request_id: bytes
) -> None:
    """Head and first bytes in one write, then read by read."""
    upstream = response.upstream
    reader = upstream.reader
    tally = metering.tally
    assert tally is not None
    if reader.until_close:
        connection.keep_alive = False
    data = (
        response.head.render(request_id, _framing(reader), close=not connection.keep_alive) + response.start
    )
    metering.response_bytes = len(response.start)
    response.release()
    tail = b""
    while True:
        for piece in reader.take():
            tally.feed(piece)
        if reader.done:
            _check_end(connection, reader, tail + data[-5:], metering.response_bytes)
            metering.settle(_COMPLETED)
        connection.answered = True
        sent = connection.transport.send_now(data)
        if sent < len(data):
            await connection.send_rest(data, sent)
        if reader.done:
            return
        # Not kept while waiting: a read's bytes lie at the start of a page of their own.
        tail = (tail + data[-4:])[-4:]
        data = b""
        try:
            data = await _receive(connection, upstream, limits)
        except (UpstreamBroken, Overdue) as error:
            await _tell_cut(connection, response, tally, error, request_id, tail)
            raise
        metering.response_bytes += len(data)


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
            _cut(connection, reader)
        raise UpstreamBroken("bytes follow the end of its answer")


async def _receive(connection: Connection, upstream: Upstream, limits: Limits) -> bytes:
    """The next bytes of the body; b"" when the connection's end is the answer's end."""
    connection.begin_wait(_UPSTREAM, limits.between_bytes_seconds, upstream.transport.sock)
    try:
        data = await upstream.transport.receive()
    except trio.ClosedResourceError:
        raise connection.overdue() or UpstreamBroken("its connection was closed") from None
    except OSError:
        raise UpstreamBroken("it reset the connection") from None
    if not data:
        upstream.reader.end()
        return data
    try:
        upstream.reader.feed(data)
    except UpstreamBroken:
        # The reader has gone on to bytes the client will not get.
        upstream.spoiled = True
        raise
    return data


def _framing(reader: ResponseReader) -> bytes:
    if reader.chunked:
        return b"transfer-encoding: chunked"
    if reader.content_length is not None:
        return b"content-length: %d" % reader.content_length
    return b""


async def _forward_unframed(
    connection: Connection, response: UpstreamResponse, metering: Metering, limits: Limits, request_id: bytes
) -> None:
    """Chunks without their framing, the end told by closing: what HTTP/1.0 knows."""
    reader = response.upstream.reader
    assert metering.tally is not None
    connection.keep_alive = False
    data = response.head.render(request_id, b"", close=True)
    while True:
        for piece in reader.take():
            metering.tally.feed(piece)
            metering.response_bytes += len(piece)
            data += piece
        if reader.done:
            metering.settle(_COMPLETED)
        if data:
            await connection.send(data)
        if reader.done:
            return
        data = b""
        try:
            await _receive(connection, response.upstream, limits)
        except (UpstreamBroken, Overdue):
            wire.abort(connection.transport.sock)
            raise


async def _forward_rewritten(
    connection: Connection,
    response: UpstreamResponse,
    metering: Metering,
    limits: Limits,
    public_url: str | None,
) -> None:
    """Hold the whole answer, change what must be changed, send it with its new length."""
    reader = response.upstream.reader
    pieces = reader.take()
    size = sum(map(len, pieces))
    while not reader.done:
        await _receive(connection, response.upstream, limits)
        more = reader.take()
        size += sum(map(len, more))
        if size > limits.answer_rewrite_bytes_max:
            raise Refusal(Kind.UPSTREAM_BROKEN, "The provider's answer is too large to be rewritten.")
        pieces += more
    body = rewrite(b"".join(pieces), response.grant.request, public_url)
    assert metering.tally is not None
    metering.tally.feed(body)
    metering.response_bytes = len(body)
    metering.settle(_COMPLETED)
    framing = b"content-length: %d" % len(body)
    request_id = metering.request_id.encode()
    await connection.send(response.head.render(request_id, framing, close=not connection.keep_alive) + body)


async def _tell_cut(
    connection: Connection,
    response: UpstreamResponse,
    tally: Tally,
    error: UpstreamBroken | Overdue,
    request_id: bytes,
    tail: bytes,
) -> None:
    """The head is out and the rest will not come: say so in the stream where that can be read, then end
    abruptly.

    `tail` is the last of what was sent. Only between two events, and in chunks only between two of
    those, would an event be read as one: after half a chunk's size or within the trailers it could even
    be read as the end.
    """
    upstream = response.upstream
    reader = upstream.reader
    between_chunks = not reader.chunked or (not reader.chunk_open and tail.endswith(b"\r\n"))
    tellable = reader.content_length is None and between_chunks and not upstream.spoiled
    if tellable and tally.between_events and not connection.gone:
        kind = Kind.UPSTREAM_TIMEOUT if isinstance(error, Overdue) else Kind.UPSTREAM_BROKEN
        request = response.grant.request
        event = error_event(
            kind,
            "The stream was cut off; this answer is not complete.",
            request.dialect,
            request.operation.path,
            request_id.decode(),
        )
        if reader.chunked:
            event = b"%x\r\n%s\r\n" % (len(event), event)
        with contextlib.suppress(OSError, Overdue):
            await connection.send(event)
    _cut(connection, reader)


def _cut(connection: Connection, reader: ResponseReader) -> None:
    """End an answer that began, so that it cannot look finished."""
    connection.keep_alive = False
    if reader.chunked or reader.content_length is not None:
        # Closing before the announced end is unmistakable, and delivers what was sent.
        connection.close()
    else:
        connection.abort()
