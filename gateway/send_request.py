"""Sends a request whose body is whole to the provider, and overwrites the key on the way out."""

from __future__ import annotations

from typing import Final

import trio

from gateway.connection import Connection
from gateway.dial import Upstream
from gateway.limits import Limits
from gateway.response_reader import UpstreamBroken
from gateway.wait import Waiting
from gateway.watchdog import NEVER
from storage.sealing import wipe

# A body up to this goes out in one piece with the head: one system call and one packet instead of two.
# Copying more costs more than the call.
JOINED_BYTES_MAX: Final = 32 * 1024


def send_at_once(upstream: Upstream, head: bytearray) -> int:
    """Send what goes without waiting, which is nearly always all of it; how many bytes went.

    `head`, which holds the key, is wiped when all of it has been sent; otherwise `send_request` goes on.

    A failure to send is not raised, here or there: the provider may have answered early and closed, and what
    it said (or that it said nothing) is what `receive_head` finds.
    """
    try:
        sent = upstream.transport.send_now(head)
    except OSError:
        upstream.spoiled = True
        sent = len(head)
    if sent == len(head):
        wipe(head)
    return sent


async def send_request(
    connection: Connection, upstream: Upstream, head: bytearray, body: bytes, limits: Limits, sent: int
) -> None:
    """Send what is left of `head` and then `body`, waiting for the provider. `head` is wiped whatever
    happens.
    """
    try:
        await send_piece(connection, upstream, head, limits, sent)
    finally:
        wipe(head)
    await send_piece(connection, upstream, body, limits)


async def send_piece(
    connection: Connection, upstream: Upstream, data: bytes | bytearray, limits: Limits, sent: int = 0
) -> bool:
    """Send `data` from `sent` on; False when the provider no longer takes it. Raises `Overdue`."""
    try:
        if not sent:
            sent = upstream.transport.send_now(data)
        if sent < len(data):
            connection.begin_wait(Waiting.UPSTREAM, limits.between_bytes_seconds, upstream.transport)
            await upstream.transport.send_rest(data, sent)
            connection.deadline = NEVER
    except trio.ClosedResourceError:
        raise connection.overdue() or UpstreamBroken("its connection was closed") from None
    except OSError:
        upstream.spoiled = True
    return not upstream.spoiled
