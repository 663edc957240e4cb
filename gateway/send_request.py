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


def send_at_once(upstream: Upstream, head: bytearray, body: bytes) -> bool:
    """Send head and body without waiting, as nearly every request can be; True when all of it went.

    `head` is wiped when it has been sent. Otherwise nothing, or only a beginning of `head`, has gone out, and
    `send_request` goes on from there: what was sent has been taken off `head`.

    A failure to send is not raised, here or there: the provider may have answered early and closed, and what
    it said (or that it said nothing) is what `receive_head` finds.
    """
    if len(body) > _JOINED_BYTES_MAX:
        return False
    head += body
    try:
        sent = upstream.transport.send_now(head)
    except OSError:
        upstream.spoiled = True
        sent = len(head)
    if sent < len(head):
        head[:sent] = bytes(sent)
        del head[:sent]
        return False
    wipe(head)
    return True


async def send_request(
    connection: Connection, upstream: Upstream, head: bytearray, body: bytes, limits: Limits
) -> None:
    """Send what `send_at_once` could not, waiting for the provider. `head` is wiped whatever happens."""
    try:
        await _send(connection, upstream, head, limits)
    finally:
        wipe(head)
    if len(body) > _JOINED_BYTES_MAX:
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
