"""Stage 1: connections, and the requests on them.

Job: own the listening socket and one task per client connection; hand each `Inbound` to the pipeline; bound
everything a stranger can make grow. One task serves a connection: it reads a request, runs it, reads the
next. A handshake before all that is `entrance`'s. While a request runs nobody reads, so pipelined bytes stay
in the kernel; that the client has gone is told by `readiness`, and every limit in time by `watchdog`.

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
from gateway.connection import Connection, Take
from gateway.ending import Cut
from gateway.entrance import Entrance
from gateway.fault import tell
from gateway.limits import Limits
from gateway.readiness import Readiness
from gateway.refusal import Dialect, Kind, Refusal, render
from gateway.request_reader import Inbound
from gateway.wait import Overdue, Waiting
from gateway.watchdog import Watchdog
from storage.model import Outcome

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_REQUEST = Waiting.REQUEST
_HEAD = Waiting.HEAD

# How long accepting pauses when the process is out of file descriptors or memory.
_ACCEPT_PAUSE_SECONDS = 0.1
_BACKLOG = 1024

# What a listener that is no longer one says. Everything else `accept` may say is about the process (out of
# descriptors or memory) or about the connection it would have returned (Linux passes on its network errors).
_NO_LISTENER = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}

_log = logging.getLogger("karta.gateway.accept")


Handler = Callable[[Connection, Inbound], Awaitable[None]]


class Acceptor:
    """Serves one listening socket until cancelled."""

    def __init__(
        self,
        *,
        limits: Limits,
        watchdog: Watchdog,
        readiness: Readiness,
        handler: Handler,
        request_id: Callable[[], str],
        take: Take | None = None,
        entrance: Entrance | None = None,
    ) -> None:
        self._limits = limits
        self._entrance = entrance
        self._watchdog = watchdog
        self._readiness = readiness
        self._handler = handler
        self._request_id = request_id
        self._take = take
        self.connections: set[Connection] = set()
        self.entering = 0
        """Connections in the entrance, or on their way into it."""
        self._draining = self._retiring = False
        self._emptied = trio.Event()

    @property
    def turned_away(self) -> int:
        """Connections that ended before they could ask anything."""
        return 0 if self._entrance is None else self._entrance.failures

    async def serve(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Accept until cancelled; each connection is a task of `nursery`."""
        listener.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                self._accept_all(listener, nursery)
            except OSError as error:
                if error.errno in _NO_LISTENER:
                    # Closed in the very moment it became readable, as by a stop, which cancels this as well.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    raise
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)

    def accept_waiting(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Take what the kernel has accepted for a listener that is to be closed: closing it resets that."""
        with contextlib.suppress(OSError):
            listener.setblocking(False)
            self._accept_all(listener, nursery)

    def retire(self) -> None:
        """Others accept from now on: answer one more request on each connection, and say that it was the
        last."""
        self._retiring = True
        for connection in self.connections:
            connection.retire()

    async def emptied(self) -> None:
        """Until all connections have ended, those under way included."""
        while self.connections or self.entering:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def drain(self) -> None:
        """No more requests: close idle connections, return when the busy ones have ended."""
        self._draining = True
        if self._entrance is not None:
            self._entrance.close()
        for connection in self.connections:
            connection.keep_alive = False
            if connection.on_drain is not None:
                connection.on_drain()
            elif connection.inbound is None and connection.exchange is None:
                connection.scope.cancel()
        await self.emptied()

    def cut(self) -> None:
        """End what still runs, and tell its clients why."""
        for connection in list(self.connections):
            stopping = Refusal(
                Kind.UNAVAILABLE,
                "The gateway is being stopped, and this answer is not complete; try again.",
                retry_after=1,
                close=True,
            )
            connection.cut(Cut(stopping, Outcome.STOPPED))

    def _accept_all(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            entrance = self._entrance
            if len(self.connections) + self.entering >= self._limits.connections_max:
                sock.close()
                continue
            with contextlib.suppress(OSError):
                # One that is broken already shows when it is read.
                wire.prepare(sock)
            peer = address[0] if isinstance(address, tuple) else "unix"
            if entrance is not None:
                # Counted from now on, as `_connection` does.
                self.entering += 1
                nursery.start_soon(self._let_in, entrance, sock, peer, nursery)
                continue
            connection = self._connection(wire.PlainTransport(sock), peer, nursery)
            nursery.start_soon(self._serve_connection, connection)

    def _connection(self, transport: wire.Transport, peer: str, nursery: trio.Nursery) -> Connection:
        """Counted from now on, not from when its task first runs."""
        connection = Connection(transport, peer, self._limits, self._watchdog, nursery, self._take)
        self.connections.add(connection)
        if self._retiring:
            connection.retire()
        return connection

    async def _let_in(
        self, entrance: Entrance, sock: socket.socket, peer: str, nursery: trio.Nursery
    ) -> None:
        try:
            entered = await entrance.enter(sock, peer)
        finally:
            self.entering -= 1
        if entered is not None:
            await self._serve_connection(self._connection(*entered, nursery))
        elif not self.connections:
            self._emptied.set()

    async def _serve_connection(self, connection: Connection) -> None:
        self._watchdog.watched.add(connection)
        try:
            connection.transport.watch(self._readiness, connection.on_hangup)
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
            if connection.exchange is not None:
                connection.exchange.leave()
            self._watchdog.watched.discard(connection)
            self.connections.discard(connection)
            connection.close()
            if not self.connections:
                self._emptied.set()

    async def _serve_requests(self, connection: Connection) -> None:
        try:
            while connection.keep_alive and not self._draining:
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
        tell(_log, group, "request %s failed", request_id, request_id=request_id, grant=connection.blamed)
        connection.blamed = None
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


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket; several `shared` ones may have one port, and the kernel spreads connections.

    Raises OSError as the system says it, as when the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit these; set before listen so that the window is right from the first packet.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SOCKET_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
