"""The same socket with TLS, for clients and providers alike.

`ssl.SSLSocket` in non-blocking mode: OpenSSL does its own I/O, and no bytes are copied through memory BIOs.
It reads a record at a time and only what it needs, so that the kernel is asked whether that was all.

Errors: as in `wire`; `ssl.SSLError` is an `OSError`.
"""

from __future__ import annotations

import contextlib
import ssl

from trio.lowlevel import wait_readable, wait_writable

from gateway.socket_state import bytes_waiting
from gateway.wire import RECEIVE_BYTES, Waiter


class TLSTransport(Waiter):
    """`sock` has finished its handshake."""

    __slots__ = ()

    sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        # An end that the peer did not sign may be anybody's: it is an error, never the end of an answer.
        sock.suppress_ragged_eofs = False  # type: ignore[attr-defined] # real, but not in typeshed

    async def receive(self) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        # A record may be left over from the last read: then the socket itself would never become readable.
        if not self.sock.pending():
            await self._wait_for_bytes()
        while True:
            try:
                return self.sock.recv(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                await self._wait_for_bytes()
            except ssl.SSLWantWriteError:
                await wait_writable(self.sock)

    async def _wait_for_bytes(self) -> None:
        """OpenSSL reads only what it needs, so the kernel is asked whether that was all."""
        if self.ready and not self._ended and not bytes_waiting(self.sock):
            self.ready = False
        await self._wait()

    def receive_now(self) -> bytes | None:
        assert self._readiness is not None
        self._seen_at = self._readiness.passes
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            self.ready = False
            return None
        except ssl.SSLWantWriteError:
            # Only within a renegotiation, which TLS 1.3 does not know: the next event looks again.
            return None
        if not self.sock.pending() and not self._ended and not bytes_waiting(self.sock):
            self.ready = False
        return data

    def send_now(self, data: bytes | bytearray) -> int:
        try:
            sent = self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        if sent < len(data):
            # OpenSSL writes one record at a time.
            blocked = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
            with memoryview(data) as view, contextlib.suppress(*blocked):
                while sent < len(view):
                    sent += self.sock.send(view[sent:])
        return sent

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
        if self._unread or self.sock.pending():
            return False
        if self._silent():
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

    def say_end(self) -> None:
        # Without it the end may be anybody's (RFC 8446 section 6.1). The peer's own word is not waited for.
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()


async def handshake(sock: ssl.SSLSocket) -> None:
    """Agree with the peer, as either side. Raises `OSError`; cancel it to bound it."""
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await wait_readable(sock)
        except ssl.SSLWantWriteError:
            await wait_writable(sock)
        else:
            sock.setblocking(False)
            return
