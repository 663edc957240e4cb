"""Sends a request whose body is whole to the provider, and overwrites the key on the way out."""

from __future__ import annotations

import trio

from gateway import wire
from gateway.accept import Connection
from gateway.dial import Upstream
from gateway.limits import Limits
from gateway.response_reader import UpstreamBroken
from gateway.wait import Waiting
from storage.sealing import wipe

# A body up to this goes out in one piece with the head: one system call and one packet instead of two.
# Copying more costs more than the call.
_JOINED_BYTES_MAX = 32 * 1024


async def send_request(
    connection: Connection, upstream: Upstream, head: bytearray, body: bytes, limits: Limits
) -> None:
    """Send `head` and `body`; `head`, which holds the key, is wiped whatever happens.

    A failure to send is not raised: the provider may have answered early and closed, and what it said (or
    that it said nothing) is what `receive_head` finds.
    """
    try:
        if len(body) <= _JOINED_BYTES_MAX:
            head += body
            body = b""
        await _send(connection, upstream, head, limits)
    finally:
        wipe(head)
    if body:
        await _send(connection, upstream, body, limits)


async def _send(connection: Connection, upstream: Upstream, data: bytes | bytearray, limits: Limits) -> None:
    try:
        sent = upstream.transport.send_now(data)
        if sent < len(data):
            connection.begin_wait(Waiting.UPSTREAM, limits.between_bytes_seconds, upstream.transport.sock)
            await upstream.transport.send_rest(data, sent)
    except trio.ClosedResourceError:
        raise connection.overdue() or UpstreamBroken("its connection was closed") from None
    except OSError:
        upstream.spoiled = True


async def send_piece(upstream: Upstream, data: bytes) -> bool:
    """One piece of a streamed body; False when the provider no longer takes it."""
    try:
        await wire.send(upstream.transport, data)
    except OSError:
        upstream.spoiled = True
        return False
    return True
