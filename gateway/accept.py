"""Stage 1: connections, and the requests on them.

Job: own the listening socket and one task per client connection; hand each `Inbound` to the pipeline; bound
everything a stranger can make grow. One task serves a connection: it reads a request, runs it, reads the
next. While a request runs nobody reads, so pipelined bytes stay in the kernel; that the client has gone is
told by `hangup`, and every limit in time by `watchdog`.

Bounds: connections, time to the first byte and to the whole head, idle time between requests, time between
body bytes, time a write may stall.

An exception nobody expected ends here, in the connection's task: it costs the request and its connection,
never the worker.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

import trio

from gateway import wire
from gateway.api_request import guess_dialect
from gateway.fault import describe
from gateway.hangup import HangupWatch
from gateway.limits import Limits
from gateway.refusal import Dialect, Kind, Refusal, render
from gateway.request_reader import Inbound, RequestReader
from gateway.wait import Overdue, Waiting
from gateway.watchdog import NEVER, Watchdog

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_REQUEST = Waiting.REQUEST
_HEAD = Waiting.HEAD
_BODY = Waiting.BODY
_WRITE = Waiting.WRITE

# What is read and thrown away after a refusal, so that the client reads the answer before a reset: at most
# this.
_LINGER_BYTES_MAX = 1024 * 1024
_LINGER_SECONDS = 2.0
# How long accepting pauses when the process is out of file descriptors or memory.
_ACCEPT_PAUSE_SECONDS = 0.1
_BACKLOG = 1024

# What a listener that is no longer one says. Everything else `accept` may say is about the process (out of
# descriptors or memory) or about the connection it would have returned (Linux passes on its network errors).
_NO_LISTENER = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}

_NO_BODY = Inbound()
_log = logging.getLogger("karta.gateway.accept")


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
        "_wait_socket",
        "_waiting",
        "_watchdog",
        "address",
        "answered",
        "deadline",
        "gone",
        "inbound",
        "keep_alive",
        "request_id",
        "scope",
        "transport",
    )

    def __init__(self, transport: wire.Transport, address: str, limits: Limits, watchdog: Watchdog) -> None:
        self.transport = transport
        self.address = address
        self.scope = trio.CancelScope()
        self.gone = False
        """The client closed or reset the connection."""
        self.answered = False
        """A byte of the current request's answer has been sent: it is too late for a refusal."""
        self.keep_alive = True
        self.inbound: Inbound | None = None
        """The request being answered."""
        self.request_id = ""
        """Its id, once it has one."""
        self.deadline = NEVER
        self._reader = RequestReader()
        self._reading, self._body_seconds = _NO_BODY, 0.0
        self._refusal: Refusal | None = None
        self._limits = limits
        self._watchdog = watchdog
        self._waiting = _REQUEST
        self._wait_socket: socket.socket = transport.sock
        self._taken_bytes = 0
        """What the client had taken when the write under way was last looked at."""
        self._overdue: Waiting | None = None

    # Waiting with a limit.

    def begin_wait(self, waiting: Waiting, seconds: float, sock: socket.socket | None = None) -> None:
        """From now on the connection waits on `sock` (default: the client's) for at most `seconds`."""
        self._waiting = waiting
        self._overdue = None
        self._wait_socket = sock or self.transport.sock
        self.deadline = self._watchdog.now + seconds

    def expire(self) -> None:
        """Called by the watchdog: end the wait with an exception in the waiting task.

        A write that advances, however slowly, is no stall: it gets its time anew.
        """
        if self._waiting is _WRITE:
            taken = wire.bytes_taken(self.transport.sock)
            if taken > self._taken_bytes:
                self._taken_bytes = taken
                self.deadline = self._watchdog.now + self._limits.write_stall_seconds
                return
        self.end_wait()

    def end_wait(self) -> None:
        """End the wait under way as over-long."""
        self._overdue = self._waiting
        wire.interrupt(self._wait_socket)

    def overdue(self) -> Overdue | None:
        """After `trio.ClosedResourceError`: which limit was exceeded, if that is why."""
        if self._overdue is None:
            return None
        waiting, self._overdue = self._overdue, None
        return Overdue(waiting)

    def on_hangup(self) -> None:
        """Called by the hangup watch: whatever runs for this client is cancelled."""
        self.gone = True
        self.scope.cancel()

    # Reading.

    async def next_request(self) -> Inbound | None:
        """The next request whose head is complete, or None when the client is done."""
        ready = self._reader.ready
        self.answered = False
        self.begin_wait(_REQUEST, self._limits.idle_seconds)
        while not ready:
            if self._refusal is not None:
                raise self._refusal
            try:
                data = await self.transport.receive()
            except trio.ClosedResourceError:
                raise self.overdue() or ConnectionResetError from None
            if not data:
                return None
            if self._waiting is _REQUEST:
                self.begin_wait(_HEAD, self._limits.head_seconds)
            self._feed(data, None)
        self.deadline = NEVER
        inbound = ready.pop(0)
        # HTTP/1.0's keep-alive is an extension with rules of its own; nobody needs it here.
        self.keep_alive = inbound.keep_alive and inbound.version == "1.1"
        return inbound

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
        self._taken_bytes = wire.bytes_taken(self.transport.sock)
        try:
            await self.transport.send_rest(data, sent)
        except trio.ClosedResourceError:
            raise self.overdue() or ConnectionResetError from None
        self.deadline = NEVER

    def close(self) -> None:
        wire.close(self.transport.sock)

    def abort(self) -> None:
        """End the connection so that an unfinished answer cannot be taken for a finished one."""
        self.keep_alive = False
        wire.abort(self.transport.sock)

    async def linger(self) -> None:
        """After an answer to a request that was not read whole: give the client time to read it.

        Closing with unread bytes would reset the connection and destroy the answer on its way.
        """
        self.keep_alive = False
        # The last wait's limit may be on a provider's connection, which has another user by now.
        self.deadline = NEVER
        with contextlib.suppress(OSError, trio.ClosedResourceError), trio.move_on_after(_LINGER_SECONDS):
            self.transport.sock.shutdown(socket.SHUT_WR)
            read = 0
            while read < _LINGER_BYTES_MAX and (data := await self.transport.receive()):
                read += len(data)


Handler = Callable[[Connection, Inbound], Awaitable[None]]


class Acceptor:
    """Serves one listening socket until cancelled."""

    def __init__(
        self,
        *,
        limits: Limits,
        watchdog: Watchdog,
        hangups: HangupWatch,
        handler: Handler,
        request_id: Callable[[], str],
    ) -> None:
        self._limits = limits
        self._watchdog = watchdog
        self._hangups = hangups
        self._handler = handler
        self._request_id = request_id
        self.connections: set[Connection] = set()
        self._draining: trio.Event | None = None

    async def serve(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Accept until cancelled; each connection is a task of `nursery`."""
        listener.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                self._accept_all(listener, nursery)
            except OSError as error:
                if error.errno in _NO_LISTENER:
                    raise
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)

    async def drain(self) -> None:
        """No more requests: close idle connections, return when the busy ones have ended."""
        self._draining = trio.Event()
        for connection in self.connections:
            connection.keep_alive = False
            if connection.inbound is None:
                connection.scope.cancel()
        if self.connections:
            await self._draining.wait()

    def cut(self) -> None:
        """End what still runs as if its wait had been too long: an answer that began is told to be cut."""
        for connection in self.connections:
            connection.end_wait()

    def _accept_all(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if len(self.connections) >= self._limits.connections_max:
                sock.close()
                continue
            with contextlib.suppress(OSError):
                # One that is broken already shows when it is read.
                wire.prepare(sock)
            peer = address[0] if isinstance(address, tuple) else "unix"
            connection = Connection(wire.PlainTransport(sock), peer, self._limits, self._watchdog)
            # Counted from now on, not from when its task first runs.
            self.connections.add(connection)
            nursery.start_soon(self._serve_connection, connection)

    async def _serve_connection(self, connection: Connection) -> None:
        descriptor = connection.transport.sock.fileno()
        self._watchdog.watched.add(connection)
        try:
            self._hangups.add(descriptor, connection.on_hangup)
            with connection.scope:
                await self._serve_requests(connection)
            if connection.inbound is not None and connection.answered:
                # Cancelled within an answer, which an orderly end could make look whole.
                connection.abort()
        except* (OSError, Overdue):
            connection.abort()
        except* Exception as group:
            # A cancellation that came along passes on: that is what the group is taken apart for.
            await self._fail(connection, group)
        finally:
            self._hangups.discard(descriptor)
            self._watchdog.watched.discard(connection)
            self.connections.discard(connection)
            connection.close()
            if self._draining is not None and not self.connections:
                self._draining.set()

    async def _serve_requests(self, connection: Connection) -> None:
        try:
            while connection.keep_alive and self._draining is None:
                inbound = await connection.next_request()
                if inbound is None:
                    return
                connection.inbound = inbound
                await self._handler(connection, inbound)
                connection.inbound = None
            if connection.transport.sock.fileno() >= 0 and not connection.transport.untouched():
                # Something was sent that nobody will read: closing now would take the answer back.
                await connection.linger()
        except Refusal as refusal:
            # The bytes were no request: there is no stage to tell it, and no dialect but by guess.
            refusal.close = True
            await connection.send(render(refusal, Dialect.UNKNOWN, self._request_id()))
            await connection.linger()
        except Overdue as overdue:
            if overdue.waiting is _HEAD:
                late = Refusal(Kind.CLIENT_TIMEOUT, "The request head took too long to arrive.", close=True)
                await connection.send(render(late, Dialect.UNKNOWN, self._request_id()))
            elif overdue.waiting is not _REQUEST:
                raise

    async def _fail(self, connection: Connection, group: ExceptionGroup) -> None:
        """A fault of Karta's own. The log tells where, and nothing of the request: no message is repeated."""
        request_id = connection.request_id or self._request_id()
        _log.error("request %s failed: %s", request_id, describe(group))
        inbound = connection.inbound
        if connection.answered or connection.gone or inbound is None:
            connection.abort()
            return
        message = "Karta failed to handle this request; its operator finds the fault by the request id."
        refusal = Refusal(Kind.INTERNAL, message, close=True)
        answer = render(refusal, guess_dialect(inbound), request_id, head_only=inbound.method == b"HEAD")
        with contextlib.suppress(OSError, Overdue):
            await connection.send(answer)
            await connection.linger()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError as the system says it, as when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these; set before listen so that the window is right from the first packet.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SOCKET_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
