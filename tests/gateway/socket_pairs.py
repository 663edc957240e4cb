"""Pairs of connected sockets: ours as the gateway uses them, the peer's to play the other side with."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache

import trio
import trustme

from gateway.tls_transport import TLSTransport, handshake
from gateway.wire import PlainTransport, prepare

# No test with these takes a second.
DEADLINE_SECONDS = 20


@contextmanager
def tcp_pair(*, buffer_bytes: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the peer's, both non-blocking, both closed afterwards; waiting for them ends in time."""
    with socket.socket() as listener:
        if buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    if buffer_bytes is not None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    prepare(ours)
    prepare(peer)
    try:
        with trio.fail_after(DEADLINE_SECONDS):
            yield ours, peer
    finally:
        for sock in (ours, peer):
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
            with contextlib.suppress(OSError):
                sock.close()


@contextmanager
def plain_pair(*, buffer_bytes: int | None = None) -> Iterator[tuple[PlainTransport, PlainTransport]]:
    with tcp_pair(buffer_bytes=buffer_bytes) as (ours, peer):
        yield PlainTransport(ours), PlainTransport(peer)


class RawTLSPeer:
    """The other side of a TLS connection with its records in hand, to send whole, cut or not at all."""

    def __init__(self, sock: socket.socket, *, is_server: bool) -> None:
        self.sock = sock
        self._arriving = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        name = None if is_server else "provider.test"
        self._tls = contexts()[not is_server].wrap_bio(
            self._arriving, self._leaving, server_side=is_server, server_hostname=name
        )

    async def handshake(self) -> None:
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                await self.send(self._leaving.read())
                await trio.lowlevel.wait_readable(self.sock)
                self._arriving.write(self.sock.recv(65_536))
        await self.send(self._leaving.read())

    def seal(self, data: bytes) -> bytes:
        """`data` as records."""
        self._tls.write(data)
        return self._leaving.read()

    def seal_end(self) -> bytes:
        """The record that says that nothing more comes."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._leaving.read()

    async def send(self, raw: bytes) -> None:
        sent = 0
        while sent < len(raw):
            await trio.lowlevel.wait_writable(self.sock)
            sent += self.sock.send(raw[sent:])

    async def receive(self) -> bytes:
        """What has been sent to us, decrypted; b"" at the end."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self._tls.read(65_536)
            await trio.lowlevel.wait_readable(self.sock)
            raw = self.sock.recv(65_536)
            if not raw:
                return b""
            self._arriving.write(raw)


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's, of an authority made for this run."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("provider.test").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def tls_pair(
    *, we_are_server: bool = False, buffer_bytes: int | None = None
) -> AsyncIterator[tuple[TLSTransport, RawTLSPeer]]:
    """The same with TLS, the handshake done."""
    with tcp_pair(buffer_bytes=buffer_bytes) as (sock, peer_sock):
        ours = contexts()[not we_are_server].wrap_socket(
            sock,
            server_side=we_are_server,
            server_hostname=None if we_are_server else "provider.test",
            do_handshake_on_connect=False,
        )
        peer = RawTLSPeer(peer_sock, is_server=not we_are_server)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.handshake)
                await handshake(ours)
            yield TLSTransport(ours), peer
        finally:
            if ours.fileno() >= 0:
                trio.lowlevel.notify_closing(ours)
            ours.close()


def reset(sock: socket.socket) -> None:
    """Close so that the other side sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
