"""Stage 7: `Upstream → UpstreamResponse`. The answer's head is waited for, and the answer goes to the client.

Nearly always byte for byte, by `exchange`. Two kinds of answers are changed on their way: one for an HTTP/1.0
client, which cannot read chunks, and one with batch objects (`rewrite`), which is held until it is whole.
"""

from __future__ import annotations

import trio

from gateway.authorize import Grant
from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.exchange import Exchange
from gateway.left_alone import leave
from gateway.limits import Limits
from gateway.meter import Metering
from gateway.refusal import Kind, Refusal
from gateway.response_reader import UpstreamBroken
from gateway.rewrite import needs_rewrite, rewrite
from gateway.tls_transport import TLSTransport
from gateway.upstream_response import NothingReceived, UpstreamResponse
from gateway.usage_stripper import UsageStripper
from gateway.wait import Overdue, Waiting
from storage.model import Outcome

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_UPSTREAM = Waiting.UPSTREAM
_COMPLETED = Outcome.COMPLETED


async def receive_head(
    connection: Connection, upstream: Upstream, grant: Grant, limits: Limits
) -> UpstreamResponse:
    """Wait for the head of the answer. Raises `UpstreamBroken` (with nothing received: `NothingReceived`)
    or `Refusal`.
    """
    reader = upstream.reader
    raw = b""
    connection.begin_wait(_UPSTREAM, limits.first_byte_seconds, upstream.transport)
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
    return UpstreamResponse(grant, upstream, raw)


async def forward(
    connection: Connection,
    response: UpstreamResponse,
    metering: Metering,
    limits: Limits,
    public_url: str | None,
    *,
    leavable: bool = False,
) -> bool:
    """Send the answer to the client. Settles `metering` before the last byte goes out.

    False when it is out; True when it was left alone, as it may be if it is `leavable`: then it goes on by
    itself, and whatever it holds is let go of at its end (`left_alone`).

    Raises `UpstreamBroken` or `Overdue` when it was cut; then the client has been told, if that was possible.
    """
    head = response.head
    reader = response.upstream.reader
    request = response.grant.request
    if needs_rewrite(request, reader, head):
        metering.begin_answer(reader.status, head)
        await _forward_rewritten(connection, response, metering, limits, public_url)
    elif reader.chunked and request.inbound.version == "1.0":
        metering.begin_answer(reader.status, head)
        await _forward_unframed(connection, response, metering, limits)
    else:
        return await _forward_verbatim(connection, response, metering, limits, leavable=leavable)
    return False


async def _receive(connection: Connection, upstream: Upstream, limits: Limits) -> bytes:
    """The next bytes of the body; b"" when the connection's end is the answer's end."""
    connection.begin_wait(_UPSTREAM, limits.between_bytes_seconds, upstream.transport)
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


async def _forward_verbatim(
    connection: Connection,
    response: UpstreamResponse,
    metering: Metering,
    limits: Limits,
    *,
    leavable: bool,
) -> bool:
    """Pass an answer on from within a task, for as long as one is needed; returns as `forward`. Raises how it
    was cut (`UpstreamBroken`, `Overdue`, `OSError`)."""
    ended = trio.Event()
    outcome: list[Exception | None] = []

    def on_end(_exchange: Exchange, error: Exception | None) -> None:
        outcome.append(error)
        ended.set()

    exchange = Exchange(connection, response.upstream, response.grant, metering, limits, on_end)
    left = False
    try:
        exchange.begin(response)
        if response.upstream.transport.ready and not exchange.ended:
            exchange.on_upstream()
        left = leavable and leave(exchange)
        if not left:
            await ended.wait()
    finally:
        if not left:
            exchange.stop()
    if outcome and outcome[0] is not None:
        raise outcome[0]
    return left


async def _forward_unframed(
    connection: Connection, response: UpstreamResponse, metering: Metering, limits: Limits
) -> None:
    """Chunks without their framing, the end told by closing: what HTTP/1.0 knows."""
    reader = response.upstream.reader
    assert metering.tally is not None
    connection.keep_alive = False
    data = response.head.render(metering.request_id.encode(), b"", close=True)
    # What Karta asked for, and the client did not, is taken out again.
    stripper = UsageStripper() if response.grant.request.usage_added and response.head.event_stream else None
    while True:
        for piece in reader.take():
            metering.tally.feed(piece)
            if metering.late is not None:
                metering.feed_late(piece)
            metering.response_bytes += len(piece)
            data += piece if stripper is None else stripper.feed(piece)
        if reader.done:
            metering.settle(_COMPLETED)
            data += b"" if stripper is None else stripper.finish()
        if data:
            await connection.send(data)
        if reader.done:
            return
        data = b""
        try:
            await _receive(connection, response.upstream, limits)
        except (UpstreamBroken, Overdue):
            connection.abort()
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
    secure = isinstance(connection.transport, TLSTransport)
    body = rewrite(b"".join(pieces), response.grant.request, public_url, secure=secure)
    assert metering.tally is not None
    metering.tally.feed(body)
    metering.response_bytes = len(body)
    metering.settle(_COMPLETED)
    framing = b"content-length: %d" % len(body)
    request_id = metering.request_id.encode()
    await connection.send(response.head.render(request_id, framing, close=not connection.keep_alive) + body)
