"""Stage 6: `OpenedCredential → Upstream`. A connection to the provider: an idle one, or a new one.

One pool per (origin, TLS identity). Idle connections are taken last in, first out, so that the surplus
grows old and is closed. Before reuse a connection must be silent: bytes that arrived on it unasked belong
to nobody, and handing them to the next tenant would be the worst thing a gateway can do. Dialling is Trio's
happy eyeballs, then TLS with verification always on; both within one limit.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

import trio

from gateway import wire
from gateway.limits import Limits
from gateway.provider import Origin
from gateway.readiness import Readiness
from gateway.refusal import Kind, Refusal
from gateway.response_reader import ResponseReader
from gateway.watchdog import Watchdog

_HAPPY_EYEBALLS_SECONDS: Final = 0.25


class Upstream:
    """One connection to a provider, and the reader of its answers."""

    __slots__ = ("idle_since", "pool", "reader", "reused", "spoiled", "transport")

    def __init__(self, transport: wire.Transport, pool: Pool) -> None:
        self.transport = transport
        self.pool = pool
        self.reader = ResponseReader()
        self.reused = False
        """It has stood idle, so the provider may have closed it already."""
        self.spoiled = False
        """It broke, or a request on it was left unfinished: never to be used again."""
        self.idle_since = 0.0


class Pool:
    """The connections to one origin."""

    def __init__(self, origin: Origin, limits: Limits, watchdog: Watchdog, readiness: Readiness) -> None:
        self.origin = origin
        self._limits = limits
        self._watchdog = watchdog
        self._readiness = readiness
        self._context = origin.context()
        self._idle: list[Upstream] = []
        self.open = 0
        """Connections busy, idle and being dialled."""

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take(self) -> Upstream | None:
        """An idle connection that is still usable, or None. Never waits."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.transport.untouched():
                upstream.reused = True
                return upstream
            self.discard(upstream)
        return None

    async def dial(self) -> Upstream:
        """A new connection. Raises `Refusal` (502, 504) when there is none to be had in time."""
        if self.open >= self._limits.upstream_connections_max:
            raise Refusal(Kind.UNAVAILABLE, "Too many requests are open to this provider.", retry_after=1)
        self.open += 1
        try:
            with trio.fail_after(self._limits.connect_seconds):
                transport = await self._connect()
        except BaseException as error:
            self.open -= 1
            if isinstance(error, trio.TooSlowError):
                raise Refusal(
                    Kind.UPSTREAM_TIMEOUT, "The provider could not be connected to in time."
                ) from None
            if isinstance(error, ssl.SSLCertVerificationError):
                raise Refusal(
                    Kind.UPSTREAM_UNREACHABLE,
                    "The provider's TLS certificate is not valid for its name; "
                    "a private authority is set by KARTA_PROVIDER_<NAME>_CA_FILE.",
                ) from None
            if isinstance(error, OSError):
                raise Refusal(Kind.UPSTREAM_UNREACHABLE, "The provider cannot be reached.") from None
            raise
        return Upstream(transport, self)

    async def _connect(self) -> wire.Transport:
        origin = self.origin
        stream = await trio.open_tcp_stream(
            origin.host, origin.port, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS
        )
        sock = socket.socket(fileno=stream.socket.detach())
        try:
            wire.prepare(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wire.SOCKET_BUFFER_BYTES)
            transport: wire.Transport = wire.PlainTransport(sock)
            if self._context is not None:
                sock = tls = self._context.wrap_socket(
                    sock, server_hostname=origin.host, do_handshake_on_connect=False
                )
                await _handshake(tls)
                transport = wire.TLSTransport(tls)
            transport.watch(self._readiness)
            return transport
        except BaseException:
            sock.close()
            raise

    def give_back(self, upstream: Upstream) -> None:
        """After a clean answer: keep the connection for the next request."""
        if upstream.spoiled or not upstream.reader.reusable:
            self.discard(upstream)
            return
        upstream.reader.lines = []
        self.keep_unused(upstream)

    def keep_unused(self, upstream: Upstream) -> None:
        """A connection dialled in advance that turned out not to be needed: it carried nothing and is as
        good as new.
        """
        if len(self._idle) >= self._limits.upstream_idle_max:
            self.discard(upstream)
            return
        upstream.idle_since = self._watchdog.now
        self._idle.append(upstream)

    def discard(self, upstream: Upstream) -> None:
        """Close it now: the provider notices at once that nobody listens any more."""
        self.open -= 1
        wire.close(upstream.transport)

    def close_idle(self, older_than_seconds: float) -> None:
        """Close connections idle for longer; the oldest stand first."""
        before = self._watchdog.now - older_than_seconds
        keep_from = 0
        while keep_from < len(self._idle) and self._idle[keep_from].idle_since <= before:
            keep_from += 1
        for upstream in self._idle[:keep_from]:
            self.discard(upstream)
        del self._idle[:keep_from]


class Pools:
    """One `Pool` an origin; origins come from configuration, so their number is bounded."""

    def __init__(self, limits: Limits, watchdog: Watchdog, readiness: Readiness) -> None:
        self._limits = limits
        self._watchdog = watchdog
        self._readiness = readiness
        self._pools: dict[Origin, Pool] = {}

    def of(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self._limits, self._watchdog, self._readiness)
        return pool

    def all(self) -> list[Pool]:
        return list(self._pools.values())

    async def run(self) -> None:
        """Close what has been idle too long, until cancelled."""
        while True:
            await trio.sleep(self._limits.upstream_idle_seconds / 10)
            self.close_idle(self._limits.upstream_idle_seconds)

    def close_idle(self, older_than_seconds: float) -> None:
        for pool in self._pools.values():
            pool.close_idle(older_than_seconds)


async def _handshake(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)
        else:
            with contextlib.suppress(OSError):
                sock.setblocking(False)
            return
