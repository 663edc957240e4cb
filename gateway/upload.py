"""Requests whose body streams through: files to be kept, and forms too large to hold.

Two things happen at once: pieces go up as they come (the next read waits for the write, so a slow provider
slows the client), and the answer is listened for, because a provider may refuse long before the end. An
answer before the end stops the upload; both connections are then closed after it, since neither is at the
beginning of a message.
"""

from __future__ import annotations

import trio

from gateway.authorize import Grant
from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.forward import receive_head
from gateway.limits import Limits
from gateway.meter import Metering
from gateway.refusal import Refusal
from gateway.response_reader import UpstreamBroken
from gateway.send_request import send_piece, send_request
from gateway.upstream_response import UpstreamResponse
from gateway.wait import Overdue, Waiting


async def upload(
    connection: Connection,
    upstream: Upstream,
    head: bytearray,
    grant: Grant,
    metering: Metering,
    limits: Limits,
) -> UpstreamResponse:
    """Send head and body, return the answer's head. Raises as `receive_head` does, and `Refusal` for an
    over-long body.
    """
    problem: Exception | None = None
    response: UpstreamResponse | None = None
    inbound = grant.request.inbound
    sent_whole = False

    async def pump() -> None:
        nonlocal problem, sent_whole
        try:
            sent_whole = await _pump(connection, upstream, grant, limits)
            connection.begin_wait(Waiting.UPSTREAM, limits.first_byte_seconds, upstream.transport)
        except (Refusal, Overdue, UpstreamBroken, OSError) as error:
            problem = problem or error
            nursery.cancel_scope.cancel()

    await send_request(connection, upstream, head, b"", limits, 0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump)
            try:
                response = await receive_head(connection, upstream, grant, limits)
            except (UpstreamBroken, Refusal, Overdue) as error:
                problem = problem or error
            nursery.cancel_scope.cancel()
    finally:
        metering.request_bytes = inbound.body_bytes
    if problem is not None:
        raise problem
    assert response is not None
    if not sent_whole:
        # The provider's connection is within a request, whether or not the client's is.
        upstream.spoiled = True
    if not inbound.complete:
        connection.keep_alive = False
    return response


async def _pump(connection: Connection, upstream: Upstream, grant: Grant, limits: Limits) -> bool:
    """Send the body up as it comes; True when all of it has been sent."""
    inbound = grant.request.inbound
    chunked = grant.request.content_length < 0
    while True:
        piece = inbound.take_body()
        if piece:
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
            if not await send_piece(connection, upstream, framed, limits):
                return False
        if inbound.complete:
            return not chunked or await send_piece(connection, upstream, b"0\r\n\r\n", limits)
        await connection.read_body(inbound, limits.upload_bytes_max)
