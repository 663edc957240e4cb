"""What the kernel tells of a socket."""

from __future__ import annotations

import socket

import trio

from gateway.socket_state import bytes_taken, bytes_waiting
from tests.gateway.socket_pairs import tcp_pair
from tests.support.gateway import PATIENCE_SECONDS


async def test_what_waits_is_told() -> None:
    with tcp_pair() as (ours, peer):
        assert bytes_waiting(ours) == 0
        peer.send(b"12345")
        await trio.lowlevel.wait_readable(ours)
        assert bytes_waiting(ours) == 5
        ours.recv(2)
        assert bytes_waiting(ours) == 3


async def test_what_was_taken_is_told() -> None:
    with tcp_pair() as (ours, peer):
        before = bytes_taken(ours)
        ours.send(bytes(1000))
        await trio.lowlevel.wait_readable(peer)
        with trio.fail_after(PATIENCE_SECONDS):
            while bytes_taken(ours) < before + 1000:
                await trio.lowlevel.checkpoint()
        assert bytes_taken(ours) == before + 1000


def test_where_tcp_does_not_say_it_is_nothing() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        assert bytes_taken(ours) == 0
