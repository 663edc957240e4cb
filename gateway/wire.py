"""The two sockets of a request: bytes in, bytes out, nothing else.

Karta owns its wire (docs/decisions/0001): non-blocking standard sockets and `trio.lowlevel.wait_readable`. A
send is tried before it is waited for, since it nearly always fits; a receive is waited for before it is
tried, since it nearly always would find nothing. That order is worth two system calls a request. TLS is
`ssl.SSLSocket` in non-blocking mode: OpenSSL does its own I/O and no bytes are copied through memory BIOs.

Errors: `OSError` (`ssl.SSLError` is one) when the connection broke, `trio.ClosedResourceError` when
`interrupt` woke a waiting task.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import sys
import termios
from typing import Protocol

from trio.lowlevel import notify_closing, wait_readable, wait_writable

# One read. Large enough for a whole answer or a burst of events, small enough that 10,000 busy streams hold
# little.
RECEIVE_BYTES = 64 * 1024

# Kernel buffers of one connection. Left alone Linux grows them to megabytes, and a reader that stops would
# leave all of that queued: held down here, backpressure reaches the provider after at most about half a
# megabyte.
SOCKET_BUFFER_BYTES = 128 * 1024

_ABORT = struct.pack("ii", 1, 0)

# Where Linux's tcp_info (a stable interface) has tcpi_bytes_acked.
_ACKNOWLEDGED = struct.Struct("=Q")
_ACKNOWLEDGED_AT = 120
_TCP_INFO_BYTES = _ACKNOWLEDGED_AT + _ACKNOWLEDGED.size


class Transport(Protocol):
    """One connected socket, plain or TLS."""

    @property
    def sock(self) -> socket.socket:
        """The socket itself, for waiting on and closing."""

    async def receive(self) -> bytes:
        """Wait for bytes; b"" when the peer ended."""

    def send_now(self, data: bytes | bytearray) -> int:
        """Send what fits without waiting; how many bytes did."""

    async def send_rest(self, data: bytes | bytearray, sent: int) -> None:
        """Send `data[sent:]`, waiting as long as it takes: the caller's watchdog bounds it."""

    def untouched(self) -> bool:
        """True when no byte has arrived since the last receive. An end is seen by the next request."""


class PlainTransport:
    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def receive(self) -> bytes:
        while True:
            await wait_readable(self.sock)
            try:
                return self.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue

    def send_now(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    async def send_rest(self, data: bytes | bytearray, sent: int) -> None:
        with memoryview(data) as view:
            while sent < len(view):
                await wait_writable(self.sock)
                with contextlib.suppress(BlockingIOError):
                    sent += self.sock.send(view[sent:])

    def untouched(self) -> bool:
        return not _bytes_waiting(self.sock)


class TLSTransport:
    """`sock` has finished its handshake."""

    __slots__ = ("sock",)

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock: ssl.SSLSocket = sock
        # An end that the peer did not sign may be anybody's: it is an error, never the end of an answer.
        sock.suppress_ragged_eofs = False  # type: ignore[attr-defined] # real, but not in typeshed

    async def receive(self) -> bytes:
        # A record may be left over from the last read: then the socket itself would never become readable.
        if not self.sock.pending():
            await wait_readable(self.sock)
        while True:
            try:
                return self.sock.recv(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                await wait_readable(self.sock)
            except ssl.SSLWantWriteError:
                await wait_writable(self.sock)

    def send_now(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    async def send_rest(self, data: bytes | bytearray, sent: int) -> None:
        with memoryview(data) as view:
            while sent < len(view):
                try:
                    sent += self.sock.send(view[sent:])
                except ssl.SSLWantWriteError:
                    await wait_writable(self.sock)
                except ssl.SSLWantReadError:
                    await wait_readable(self.sock)

    def untouched(self) -> bool:
        if self.sock.pending():
            return False
        if not _bytes_waiting(self.sock):
            return True
        try:
            # Session tickets arrive after the handshake and are no application data: reading them gives
            # SSLWantRead.
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False


def bytes_taken(sock: socket.socket) -> int:
    """How many bytes the peer has acknowledged since the connection began (0 where TCP does not say)."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    return _ACKNOWLEDGED.unpack_from(info, _ACKNOWLEDGED_AT)[0] if len(info) == _TCP_INFO_BYTES else 0


def _bytes_waiting(sock: socket.socket) -> int:
    """How many bytes the kernel holds for us: a third of the price of a `recv` that finds none."""
    waiting = bytearray(4)
    fcntl.ioctl(sock, termios.FIONREAD, waiting)
    return int.from_bytes(waiting, sys.byteorder)


async def send(transport: Transport, data: bytes | bytearray) -> None:
    """Send all of `data`."""
    sent = transport.send_now(data)
    if sent < len(data):
        await transport.send_rest(data, sent)


def prepare(sock: socket.socket) -> None:
    """Make a connected socket ours: non-blocking, and for TCP no Nagle delay.

    `SOCKET_BUFFER_BYTES` is set where it counts before the first packet: on the listener, and when dialling.
    """
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def interrupt(sock: socket.socket) -> None:
    """Wake whatever task waits on `sock`, with `trio.ClosedResourceError`; the socket itself stays usable."""
    if sock.fileno() >= 0:
        notify_closing(sock)


def close(sock: socket.socket) -> None:
    """Close without waiting: the kernel still delivers what was sent."""
    if sock.fileno() >= 0:
        notify_closing(sock)
    with contextlib.suppress(OSError):
        sock.close()


def abort(sock: socket.socket) -> None:
    """Close so that the peer sees a reset: an answer that was cut must never look finished."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    close(sock)
