"""What TLS adds to a socket (`test_wire` has what it shares with a plain one): records, and a signed end."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl

import pytest
import trio

from gateway import wire
from tests.gateway.socket_pairs import RawTLSPeer, tls_pair


async def ends_signed(peer: RawTLSPeer) -> bool:
    """True when the record that says so comes before the connection's own end."""
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            assert peer._tls.read(1) == b""
            return True
        await trio.lowlevel.wait_readable(peer.sock)
        raw = peer.sock.recv(65_536)
        if not raw:
            return False
        peer._arriving.write(raw)


async def test_more_than_a_record_goes_out_without_waiting() -> None:
    data = random.Random(0).randbytes(50_000)
    async with tls_pair(we_are_server=True) as (ours, peer):
        assert ours.send_now(data) == len(data)
        received = b""
        while len(received) < len(data):
            received += await peer.receive()
        assert received == data


@pytest.mark.parametrize("we_serve", [False, True])
async def test_an_orderly_close_is_signed(we_serve: bool) -> None:
    async with tls_pair(we_are_server=we_serve) as (ours, peer):
        await wire.send(ours, b"the end")
        wire.close(ours)
        assert await peer.receive() == b"the end"
        assert await ends_signed(peer)


async def test_an_abort_is_not_signed() -> None:
    async with tls_pair(we_are_server=True) as (ours, peer):
        wire.abort(ours)
        with pytest.raises(ConnectionResetError):
            await peer.receive()


async def test_after_the_end_was_said_the_rest_is_thrown_away_undecrypted() -> None:
    async with tls_pair(we_are_server=True) as (ours, peer):
        sealed = peer.seal(b"nobody reads this")
        await peer.send(sealed)
        ours.say_end()
        socket.socket.shutdown(ours.sock, socket.SHUT_WR)
        thrown = 0
        while thrown < len(sealed) - 200:
            thrown += await ours.discard()
        peer.sock.shutdown(socket.SHUT_WR)
        assert await ours.discard() == 0


async def test_saying_the_end_twice_or_after_a_close_is_no_error() -> None:
    async with tls_pair(we_are_server=True) as (ours, _):
        ours.say_end()
        ours.say_end()
        wire.close(ours)
        ours.say_end()
