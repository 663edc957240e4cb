"""One client connection: its reads and writes, each with a limit, and what becomes of it when a limit is
exceeded.

The connection's task waits here for requests. A read that begins a request is offered to `take` first (the
lane of known requests); what that sees to, the task never hears of.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from gateway import wire
from gateway.fault import tell
from gateway.limits import Limits
from gateway.refusal import Kind, Refusal
from gateway.request_reader import Inbound, RequestReader
from gateway.socket_state import bytes_taken
from gateway.wait import Ongoing, Overdue, Waiting
from gateway.watchdog import NEVER, Watchdog

if TYPE_CHECKING:
    from gateway.authorize import Grant
    from gateway.ending import Cut
    from gateway.known_heads import KnownHead

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_REQUEST: Final = Waiting.REQUEST
_HEAD: Final = Waiting.HEAD
_BODY: Final = Waiting.BODY
_WRITE: Final = Waiting.WRITE

# What is read and thrown away after a refusal at most, so that the client reads the answer before a reset.
_LINGER_BYTES_MAX: Final = 1024 * 1024
_LINGER_SECONDS: Final = 2.0

_NO_BODY: Final = Inbound()

_log = logging.getLogger("karta.gateway.connection")


Take = Callable[["Connection", bytes], bool]


def _decline(_connection: Connection, _data: bytes) -> bool:
    return False


class Connection:
    """One client connection. The pipeline reads bodies and writes answers through it."""

    __slots__ = (
        "_body_seconds",
        "_limits",
        "_overdue",
        "_reader",
        "_reading",
        "_refusal",
        "_taken_bytes",
        "_wait_transport",
        "_waiting",
        "_watchdog",
        "address",
        "answered",
        "blamed",
        "cut_for",
        "deadline",
        "exchange",
        "finished",
        "gone",
        "grant",
        "inbound",
        "keep_alive",
        "known",
        "last",
        "news",
        "nursery",
        "on_drain",
        "postponed",
        "request_id",
        "running",
        "scope",
        "take",
        "transport",
        "tried",
    )

    def __init__(
        self,
        transport: wire.Transport,
        address: str,
        limits: Limits,
        watchdog: Watchdog,
        nursery: trio.Nursery,
        take: Take | None = None,
    ) -> None:
        self.transport = transport
        self.address = address
        self.nursery = nursery
        """Where the connection's own task runs, and what it has to start."""
        self.take = take
        """Offered each read that begins a request; True when it sees to it, without this connection's
        task."""
        self.exchange: Ongoing | None = None
        """The answer on its way, while nobody but events moves it."""
        self.on_drain: Callable[[], None] | None = None
        """Called when the worker stops, by an answer that might never end by itself."""
        self.tried = False
        """The request was sent up before, on an idle connection that turned out dead: not on another one."""
        self.postponed = 0.0
        """Seconds after which the request is to be sent up once more, its provider having said "not now"."""
        self.news = 0
        """How many heads in a row were new on this connection (see `known_heads`)."""
        self.known: KnownHead | None = None
        """What the last request began with, if it is known: likely the next one does, too."""
        self.finished = False
        """There is nothing more to do: the task shall end."""
        self.scope = trio.CancelScope()
        self.gone = False
        """The client closed or reset the connection."""
        self.answered = False
        """A byte of the current request's answer has been sent: it is too late for a refusal."""
        self.keep_alive = True
        self.last = False
        """The next request is the last one: its answer says so."""
        self.inbound: Inbound | None = None
        """The request being answered."""
        self.request_id = ""
        """Its id, once it has one."""
        self.running: trio.CancelScope | None = None
        """That of the request the connection's task runs, if it runs one."""
        self.grant: Grant | None = None
        """What that request was granted, once it was."""
        self.blamed: Grant | None = None
        """For whom a fault of Karta's own happened."""
        self.cut_for: Cut | None = None
        """Why `running` was cancelled."""
        self.deadline = NEVER
        self._reader = RequestReader()
        self._reading, self._body_seconds = _NO_BODY, 0.0
        self._refusal: Refusal | None = None
        self._limits = limits
        self._watchdog = watchdog
        self._waiting = _REQUEST
        self._wait_transport = transport
        self._taken_bytes = 0
        """What the client had taken when the write under way was last looked at."""
        self._overdue: Waiting | None = None

    # Waiting with a limit.

    def begin_wait(self, waiting: Waiting, seconds: float, transport: wire.Transport | None = None) -> None:
        """From now on the connection waits on `transport` (default: the client's) for at most `seconds`."""
        self._waiting = waiting
        self._overdue = None
        self._wait_transport = transport or self.transport
        self.deadline = self._watchdog.now + seconds

    def expire(self) -> None:
        """Called by the watchdog: end the wait with an exception in the waiting task.

        A write that advances, however slowly, is no stall: it gets its time anew.
        """
        if self._waiting is _WRITE:
            taken = bytes_taken(self.transport.sock)
            if taken > self._taken_bytes:
                self._taken_bytes = taken
                self.deadline = self._watchdog.now + self._limits.write_stall_seconds
                return
        self.end_wait()

    def end_wait(self) -> None:
        """End the wait under way as over-long."""
        if self._waiting is _WRITE:
            # Only who writes: the connection's task may be waiting as well, for the next request.
            self._overdue = _WRITE
            wire.interrupt_write(self.transport.sock)
            return
        if self.exchange is not None:
            self.exchange.expire(Overdue(self._waiting))
            return
        self._overdue = self._waiting
        self._wait_transport.interrupt()

    def cut(self, error: Cut) -> None:
        """Karta itself ends the request under way, whatever it waits for."""
        if self.exchange is not None:
            self.exchange.fail(error)
        elif self.running is not None:
            self.cut_for = error
            self.grant = None
            self.running.cancel()

    def retire(self) -> None:
        """Answer one more request, and say that it was the last."""
        self.last = True
        if self.take is not None:
            # Only the task can say it.
            self.take = _decline

    def overdue(self) -> Overdue | None:
        """After `trio.ClosedResourceError`: which limit was exceeded, if that is why."""
        if self._overdue is None:
            return None
        waiting, self._overdue = self._overdue, None
        return Overdue(waiting)

    def on_hangup(self) -> None:
        """Called as soon as the client has gone: whatever runs for it is cancelled."""
        self.gone = True
        if self.exchange is not None:
            self.exchange.leave()
        self.scope.cancel()

    # Reading.

    async def next_request(self) -> Inbound | None:
        """The next request whose head is complete, or None when the client is done."""
        ready = self._reader.ready
        if self.exchange is None:
            self.answered = self.tried = False
            self.postponed = 0.0
            self.begin_wait(_REQUEST, self._limits.idle_seconds)
        while not ready:
            if self._refusal is not None:
                raise self._refusal
            try:
                if self.take is not None and self._reader.idle:
                    await self._wait_until_needed()
                    if self.finished:
                        return None
                data = await self.transport.receive()
            except trio.ClosedResourceError:
                if self.finished:
                    return None
                raise self.overdue() or ConnectionResetError from None
            if not data:
                return None
            if self._waiting is _REQUEST:
                self.begin_wait(_HEAD, self._limits.head_seconds)
            self._feed(data, None)
        self.deadline = NEVER
        inbound = ready.pop(0)
        # HTTP/1.0's keep-alive is an extension with rules of its own; nobody needs it here.
        self.keep_alive = inbound.keep_alive and inbound.version == "1.1" and not self.last
        return inbound

    async def _wait_until_needed(self) -> None:
        """Until something has come that `take` does not see to."""
        transport = self.transport
        transport.listener = self._offer
        try:
            if transport.ready:
                self._offer()
            if not self.finished:
                await transport.park()
        finally:
            transport.listener = None

    def _offer(self) -> None:
        """A request may have come while the task waits for one: see whether it can do without the task."""
        if self.exchange is not None or self.gone:
            # Pipelined: its turn comes when the answer under way is out.
            return
        transport = self.transport
        try:
            data = transport.receive_now()
            if data is None:
                return
            assert self.take is not None
            if data and self.keep_alive and self.take(self, data):
                return
        except Exception as error:
            if not isinstance(error, OSError):
                # A fault of Karta's own, which costs this connection; events of others go on.
                tell(_log, error, "a request failed")
            self.abort()
            self.finish()
            return
        if data:
            transport.unread(data)
        else:
            self.finish()

    @property
    def leavable(self) -> bool:
        """The task may wait for the next request while this one's answer is on its way: what comes meanwhile
        is not read."""
        if self.inbound is None or not self.inbound.complete or not self.keep_alive or self.take is None:
            return False
        return self._reader.idle and not self._reader.ready and self._refusal is None and not self.gone

    def rest(self) -> None:
        """An answer is out, and the task was not needed: wait for the next request."""
        self.answered = False
        if not self.keep_alive:
            self.finish()
            return
        self.begin_wait(_REQUEST, self._limits.idle_seconds)
        if self.transport.ready:
            self._offer()

    def finish(self) -> None:
        """The task, which waits for a request, ends instead."""
        self.finished = True
        self.transport.interrupt()

    async def read_body(self, inbound: Inbound, bytes_max: int) -> None:
        """Read something of a body; waiting for it uses up its time, and bytes win some back.

        Raises `Refusal` beyond `bytes_max`, and `trio.Cancelled` when the client goes.
        """
        limits = self._limits
        if self._reading is not inbound:
            self._reading, self._body_seconds = inbound, limits.body_stall_seconds
        began = self._watchdog.now
        self.begin_wait(_BODY, self._body_seconds)
        try:
            data = await self.transport.receive()
        except trio.ClosedResourceError:
            raise self.overdue() or ConnectionResetError from None
        if not data:
            self.on_hangup()
            await trio.lowlevel.checkpoint()
        self._feed(data, inbound)
        self.deadline = NEVER
        won = len(data) / limits.body_bytes_per_second_min + began - self._watchdog.now
        self._body_seconds = min(self._body_seconds + won, limits.body_stall_seconds)
        self.check_body(inbound, bytes_max)

    def _feed(self, data: bytes, current: Inbound | None) -> None:
        """Parse. Whole requests before bytes that do not parse get their answers first; the bytes are told of
        afterwards, or at once when they belong to `current` or there was nothing before them.
        """
        try:
            self._reader.feed(data)
        except Refusal as refusal:
            ready = self._reader.ready
            if ready and not ready[-1].complete:
                # It is the one whose body does not parse.
                ready.pop()
            if not ready and (current is None or not current.complete):
                raise
            self._refusal = refusal

    def check_body(self, inbound: Inbound, bytes_max: int) -> None:
        if inbound.body_bytes > bytes_max:
            raise Refusal(Kind.TOO_LARGE, f"The request body is larger than {bytes_max} bytes.", close=True)

    # Writing.

    async def send(self, data: bytes | bytearray) -> None:
        """Send to the client; a stall beyond the limit raises `Overdue`, a broken connection `OSError`."""
        self.answered = True
        sent = self.transport.send_now(data)
        if sent < len(data):
            await self.send_rest(data, sent)

    async def send_rest(self, data: bytes | bytearray, sent: int) -> None:
        """Send what `transport.send_now` could not."""
        self.begin_wait(_WRITE, self._limits.write_stall_seconds)
        self._taken_bytes = bytes_taken(self.transport.sock)
        try:
            await self.transport.send_rest(data, sent)
        except trio.ClosedResourceError:
            raise self.overdue() or ConnectionResetError from None
        self.deadline = NEVER

    def close(self) -> None:
        wire.close(self.transport)

    def abort(self) -> None:
        """End the connection so that an unfinished answer cannot be taken for a finished one."""
        self.keep_alive = False
        wire.abort(self.transport)

    async def linger(self) -> None:
        """After an answer to a request that was not read whole: give the client time to read it.

        Closing with unread bytes would reset the connection and destroy the answer on its way.
        """
        self.keep_alive = False
        # The last wait's limit may be on a provider's connection, which has another user by now.
        self.deadline = NEVER
        with contextlib.suppress(OSError, trio.ClosedResourceError), trio.move_on_after(_LINGER_SECONDS):
            self.transport.say_end()
            # Not the method of a TLS socket, which would forget that it is one.
            socket.socket.shutdown(self.transport.sock, socket.SHUT_WR)
            read = 0
            while read < _LINGER_BYTES_MAX and (size := await self.transport.discard()):
                read += size
