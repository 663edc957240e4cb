"""Stage 6: `OpenedCredential → Upstream`. A connection to the provider: an idle one, or a new one.

One pool per (origin, TLS identity). Idle connections are taken last in, first out, so that the surplus
grows old and is closed. Before reuse a connection must be silent: bytes that arrived on it unasked belong
to nobody, and handing them to the next tenant would be the worst thing a gateway can do. Dialling is Trio's
happy eyeballs, then TLS with verification always on; both within one limit.

Where all connections to a provider are in use, a request waits its turn (`acquire`): who waits longest gets
the next that is given back, or the place of one that was closed. The queue is bounded, in length and in time.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections import deque
from typing import Final

import trio

from gateway import wire
from gateway.breaker import BreakerPolicy, Breakers
from gateway.limits import Limits
from gateway.provider import Origin
from gateway.readiness import Readiness
from gateway.refusal import Kind, Refusal
from gateway.response_reader import ResponseReader
from gateway.retry import Budget, Failure, Postponed, RetryPolicy, failure_of_answer
from gateway.tls_transport import TLSTransport, handshake
from gateway.watchdog import Watchdog

_HAPPY_EYEBALLS_SECONDS: Final = 0.25


class NotConnected(Refusal):
    """There is no connection to be had: nothing of the request has gone anywhere."""


class Untrusted(NotConnected):
    """Whoever answered there is not the provider, as far as its certificate says."""


class Busy(NotConnected):
    """All connections are in use, and so is the queue."""


class _Turn:
    """One who waits for a connection; `given` fires when it has a place, `upstream` is the connection in it,
    if there is one already."""

    __slots__ = ("given", "upstream")

    def __init__(self) -> None:
        self.given = trio.Event()
        self.upstream: Upstream | None = None


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

    def __init__(
        self,
        origin: Origin,
        limits: Limits,
        watchdog: Watchdog,
        readiness: Readiness,
        retries: RetryPolicy | None = None,
        breakers: BreakerPolicy | None = None,
    ) -> None:
        self.origin = origin
        self.breakers = Breakers(breakers or BreakerPolicy(), lambda: watchdog.now)
        self._retries = retries or RetryPolicy()
        self._budget = Budget(self._retries)
        self.asked = 0
        """Times a connection was taken for a request, in all."""
        self.retried = 0
        """Requests that were tried again here."""
        self._limits = limits
        self._watchdog = watchdog
        self._readiness = readiness
        self._context = origin.context()
        self._idle: list[Upstream] = []
        self.open = 0
        """Connections busy, idle and being dialled."""
        self._turns: deque[_Turn] = deque()
        self.waited = 0
        """Requests that had to wait for a connection, in all."""

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._turns)

    @property
    def full(self) -> bool:
        """No more may be dialled now."""
        return self.open >= self._limits.upstream_connections_max

    def take(self) -> Upstream | None:
        """An idle connection that is still usable, or None. Never waits."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.transport.untouched():
                upstream.reused = True
                self.asked += 1
                return upstream
            self.discard(upstream)
        return None

    def postpone(self, reader: ResponseReader, elapsed: float) -> None:
        """Raises `Postponed` when an answer says "not now", and its request shall go up once more."""
        failure = failure_of_answer(reader.status, reader.lines)
        if failure is not None:
            delay = self.another_try(failure, 0, elapsed, repeatable=True)
            if delay is not None:
                raise Postponed(failure, delay)

    def another_try(
        self, failure: Failure, retries: int, elapsed: float, *, repeatable: bool
    ) -> float | None:
        """Seconds after which the same is worth trying here again, which is then counted; None: not at all.

        `retries` is how often that was done, `elapsed` the seconds since the first try.
        """
        if not self._retries.may_repeat(failure, repeatable=repeatable):
            return None
        delay = self._retries.delay(failure, retries, elapsed, random.random())  # noqa: S311 - to spread
        if delay is None or not self._budget.spend(self._watchdog.now, self.asked):
            return None
        self.retried += 1
        return delay

    async def acquire(self, *, fresh: bool = False) -> Upstream:
        """A connection that is idle, or else a new one (always, when it must be `fresh`), in turn.

        Raises `NotConnected` (502, 503, 504) when there is none to be had in time.
        """
        upstream = None if fresh else self.take()
        if upstream is not None:
            return upstream
        if self.full and self._idle:
            # Idle ones are no good to who needs a fresh one; there are none otherwise.
            self.discard(self._idle.pop(0))
        if not self.full:
            return await self.dial()
        upstream = await self._wait_for_turn()
        if upstream is not None:
            if not fresh and upstream.transport.untouched():
                upstream.reused = True
                self.asked += 1
                return upstream
            wire.close(upstream.transport)
        return await self._dial_in_place()

    async def _wait_for_turn(self) -> Upstream | None:
        """Wait for a place among the open connections, which is then the caller's; with what is in it."""
        busy = Busy(Kind.UNAVAILABLE, "Too many requests are open to this provider.", retry_after=1)
        if len(self._turns) >= self._limits.upstream_queue_max:
            raise busy
        turn = _Turn()
        self._turns.append(turn)
        self.waited += 1
        try:
            with trio.move_on_after(self._limits.upstream_queue_seconds):
                await turn.given.wait()
        except BaseException:
            if turn.given.is_set():
                self._return_place(turn.upstream)
            else:
                self._turns.remove(turn)
            raise
        if not turn.given.is_set():
            self._turns.remove(turn)
            raise busy
        return turn.upstream

    def _return_place(self, upstream: Upstream | None) -> None:
        """Whose turn it was has no use for it."""
        if upstream is not None:
            self.keep_unused(upstream)
        elif not self._give_turn(None):
            self.open -= 1

    def _give_turn(self, upstream: Upstream | None) -> bool:
        """Give a place, with what is in it, to who waits longest; False when nobody does."""
        if not self._turns:
            return False
        turn = self._turns.popleft()
        turn.upstream = upstream
        turn.given.set()
        return True

    async def dial(self) -> Upstream:
        """A new connection, though there may be too many. Raises `NotConnected` as `acquire` does."""
        self.open += 1
        return await self._dial_in_place()

    async def _dial_in_place(self) -> Upstream:
        """A new connection in a place that is the caller's."""
        self.asked += 1
        try:
            with trio.fail_after(self._limits.connect_seconds):
                transport = await self._connect()
        except BaseException as error:
            self._return_place(None)
            if isinstance(error, trio.TooSlowError):
                raise NotConnected(
                    Kind.UPSTREAM_TIMEOUT, "The provider could not be connected to in time."
                ) from None
            if isinstance(error, ssl.SSLCertVerificationError):
                raise Untrusted(
                    Kind.UPSTREAM_UNREACHABLE,
                    "The provider's TLS certificate is not valid for its name; "
                    "a private authority is set by KARTA_PROVIDER_<NAME>_CA_FILE.",
                ) from None
            if isinstance(error, OSError):
                raise NotConnected(Kind.UPSTREAM_UNREACHABLE, "The provider cannot be reached.") from None
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
                await handshake(tls)
                transport = TLSTransport(tls)
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
        """A connection at the beginning of a message: its answer was read whole, or it was not needed after
        all.
        """
        if self._turns:
            self._give_turn(upstream)
            return
        if len(self._idle) >= self._limits.upstream_idle_max:
            self.discard(upstream)
            return
        upstream.idle_since = self._watchdog.now
        self._idle.append(upstream)

    def discard(self, upstream: Upstream) -> None:
        """Close it now: the provider notices at once that nobody listens any more."""
        wire.close(upstream.transport)
        self._return_place(None)

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

    def __init__(
        self,
        limits: Limits,
        watchdog: Watchdog,
        readiness: Readiness,
        retries: RetryPolicy | None = None,
        breakers: BreakerPolicy | None = None,
    ) -> None:
        self._limits = limits
        self._retries = retries
        self._breakers = breakers
        self._watchdog = watchdog
        self._readiness = readiness
        self._pools: dict[Origin, Pool] = {}

    def of(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(
                origin, self._limits, self._watchdog, self._readiness, self._retries, self._breakers
            )
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
