"""Between accepting a connection and its first request: what a proxy says of the client, and the handshake.

Only where it has something to do (TLS, or proxies that speak the PROXY protocol) is a connection sent through
here, in the task that will serve it, so that accepting never waits. Order: the PROXY header, from a trusted
peer only and then always; the handshake; both within one limit.

Bounds: `handshake_seconds` for one, `handshakes_max` at once. When there are more, the one that has been at
it longest gives way: an honest client is done within some round trips, and strangers that connect and say
nothing cannot keep others out.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence

import trio

from gateway import wire
from gateway.certificates import Certificates
from gateway.client_address import Network, is_trusted, parse_address
from gateway.limits import Limits
from gateway.proxy_protocol import BYTES_MAX, ProxyHeader, ProxyHeaderError
from gateway.refusal import Dialect, Kind, Refusal, render
from gateway.tls_transport import TLSTransport, handshake


class Entrance:
    """Lets connections in. Without `certificates` no TLS; `proxies` are those that speak the PROXY
    protocol."""

    def __init__(
        self,
        limits: Limits,
        certificates: Certificates | None,
        proxies: Sequence[Network],
        request_id: Callable[[], str],
    ) -> None:
        self._limits = limits
        self._request_id = request_id
        self._certificates = certificates
        self._proxies = proxies
        self._under_way: dict[trio.CancelScope, None] = {}
        self.failures = 0
        """Connections that never got as far as a request."""

    async def enter(self, sock: socket.socket, peer: str) -> tuple[wire.Transport, str] | None:
        """The way to speak with an accepted socket, and whose address it speaks for; None when it was
        closed instead. Cancelled, it closes the socket.
        """
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.handshake_seconds)
        if len(self._under_way) >= self._limits.handshakes_max:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()
        self._under_way[scope] = None
        try:
            with scope:
                return await self._enter(sock, peer)
        except (OSError, ProxyHeaderError):
            pass
        finally:
            self._under_way.pop(scope, None)
        self.failures += 1
        return None

    def close(self) -> None:
        """End what is under way."""
        for scope in self._under_way:
            scope.cancel()

    async def _enter(self, sock: socket.socket, peer: str) -> tuple[wire.Transport, str]:
        try:
            address = parse_address(peer)
            if address is not None and is_trusted(address, self._proxies):
                peer = await _read_proxy_header(sock) or peer
            if self._certificates is None:
                return wire.PlainTransport(sock), peer
            sock = tls = self._certificates.context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
            try:
                await handshake(tls)
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    self._say_https(tls)
                raise
            return TLSTransport(tls), peer
        except BaseException:
            sock.close()
            raise

    def _say_https(self, sock: ssl.SSLSocket) -> None:
        """To a client that speaks HTTP without TLS: the answer is one it can read."""
        refusal = Refusal(Kind.MALFORMED, "Plain HTTP does not work here: use an https:// URL.", close=True)
        with contextlib.suppress(OSError):
            socket.socket.send(sock, render(refusal, Dialect.UNKNOWN, self._request_id()))
            # What is left unread would turn the close into a reset, which may overtake the answer.
            socket.socket.recv(sock, wire.RECEIVE_BYTES)


async def _read_proxy_header(sock: socket.socket) -> str | None:
    """The address that a trusted proxy tells. Nothing behind the header is read."""
    header = ProxyHeader()
    while not header.done:
        await trio.lowlevel.wait_readable(sock)
        with contextlib.suppress(BlockingIOError):
            seen = sock.recv(BYTES_MAX, socket.MSG_PEEK)
            if not seen:
                raise ConnectionResetError
            sock.recv(header.feed(seen))
    return header.source
