"""The two sockets of a request: bytes in, bytes out, nothing else.

Karta owns its wire (docs/decisions/0001): non-blocking standard sockets, and `readiness` to wait for them. A
send is tried before it is waited for, since it nearly always fits; a receive is waited for before it is
tried, since it nearly always would find nothing. That order is worth two system calls a request. A transport
that nobody has put into a `Readiness` waits by Trio itself. TLS is `tls_transport`.

Errors: `OSError` (`ssl.SSLError` is one) when the connection broke, `trio.ClosedResourceError` when
`interrupt` woke a waiting task.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

import outcome
import trio
from trio.lowlevel import (
    Abort,
    Task,
    current_task,
    notify_closing,
    reschedule,
    wait_readable,
    wait_task_rescheduled,
    wait_writable,
)

from gateway.readiness import GONE, Readiness
from gateway.socket_state import bytes_waiting

# One read. Large enough for a whole answer or a burst of events, small enough that 10,000 busy streams hold
# little.
RECEIVE_BYTES: Final = 64 * 1024

# Kernel buffers of one connection. Left alone Linux grows them to megabytes, and a reader that stops would
# leave all of that queued: held down here, backpressure reaches the provider after at most about half a
# megabyte.
SOCKET_BUFFER_BYTES: Final = 128 * 1024

# What every plain socket is read into: a buffer of its own for each read, cut down to what came, would be
# taken from the system's allocator and leave its pages in pieces. Nothing else runs between a read and the
# copy of it.
_buffer = bytearray(RECEIVE_BYTES)

_ABORT: Final = struct.pack("ii", 1, 0)


class Transport(Protocol):
    """One connected socket, plain or TLS."""

    listener: Callable[[], None] | None
    """Called instead of waking a task when there may be something to read; it neither waits nor raises."""

    @property
    def sock(self) -> socket.socket:
        """The socket itself, for its options and for closing."""

    @property
    def ready(self) -> bool:
        """There may be something to read now."""

    def watch(self, readiness: Readiness, on_gone: Callable[[], None] | None = None) -> None:
        """Wait by this set from now on, instead of by Trio's; raises OSError when it takes no more.

        `on_gone` is called as soon as the peer has closed its side, whoever waits for what.
        """

    def unwatch(self) -> None:
        """Before the socket closes: its descriptor's number may be another's a moment later."""

    async def receive(self) -> bytes:
        """Wait for bytes; b"" when the peer ended."""

    def receive_now(self) -> bytes | None:
        """The bytes that are there, b"" when the peer ended, None when there are none yet. Needs `watch`."""

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be received again, and wake whoever waits for them."""

    async def park(self) -> None:
        """Wait until bytes are put back, or `interrupt`; what arrives meanwhile is the listener's.

        Needs `watch`.
        """

    def send_now(self, data: bytes | bytearray) -> int:
        """Send what fits without waiting; how many bytes did."""

    async def send_rest(self, data: bytes | bytearray, sent: int) -> None:
        """Send `data[sent:]`, waiting as long as it takes: the caller's watchdog bounds it."""

    def untouched(self) -> bool:
        """True when no byte has arrived since the last receive. An end is seen by the next request."""

    def again(self) -> None:
        """There is more to read than one turn allows: the listener is called in the next pass too."""

    def say_end(self) -> None:
        """Before an orderly close: tell the peer that nothing more comes, where TLS has a word for that."""

    async def discard(self) -> int:
        """Wait for bytes and throw them away as they are; how many, 0 when the peer ended."""

    def interrupt(self) -> None:
        """Wake whatever task waits here, with `trio.ClosedResourceError`; the socket itself stays usable.

        From then on nobody listens: what arrives before the task runs is not for others.
        """


class Waiter:
    """The part plain and TLS sockets share: waiting until there is something to read.

    `ready` says that there may be; it is cleared by whoever finds that there is nothing more, before waiting.
    An event between the two sets it again, so none is missed.
    """

    __slots__ = (
        "_descriptor",
        "_ended",
        "_interrupted",
        "_on_gone",
        "_readiness",
        "_seen_at",
        "_task",
        "_unread",
        "_woken",
        "listener",
        "ready",
        "sock",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.listener: Callable[[], None] | None = None
        self.ready = False
        self._readiness: Readiness | None = None
        self._descriptor = -1
        self._on_gone: Callable[[], None] | None = None
        self._ended = False
        """The peer has ended, so every read finds something: the end at last."""
        self._task: Task | None = None
        self._woken = False
        """The task has been woken and has not run yet."""
        self._interrupted = False
        """And shall hear that it was interrupted."""
        self._seen_at = 0
        """The pass of the set when something was last read."""
        self._unread = b""

    def watch(self, readiness: Readiness, on_gone: Callable[[], None] | None = None) -> None:
        self._descriptor = self.sock.fileno()
        readiness.add(self._descriptor, self._on_event)
        self._readiness = readiness
        self._on_gone = on_gone

    def unwatch(self) -> None:
        if self._readiness is not None:
            self._readiness.discard(self._descriptor)
            self._readiness = self._on_gone = self.listener = None

    def _on_event(self, mask: int) -> None:
        self.ready = True
        if mask & GONE and not self._ended:
            self._ended = True
            if self._on_gone is not None:
                self._on_gone()
        if self.listener is not None:
            self.listener()
        else:
            self._wake()

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._woken = True
            reschedule(task)

    def unread(self, data: bytes) -> None:
        # Whatever follows is for the task as well, in its order.
        self.listener = None
        self._unread = data
        self._wake()

    async def _wait(self) -> None:
        """Until there may be something to read."""
        if self._readiness is None:
            await wait_readable(self.sock)
        elif not self.ready:
            if self._task is not None:
                raise trio.BusyResourceError("two tasks read from one socket")
            await self._sleep()

    async def park(self) -> None:
        if not self._unread:
            await self._sleep()

    async def _sleep(self) -> None:
        self._task = current_task()
        await wait_task_rescheduled(self._abandon)
        self._woken = False
        if self._interrupted:
            self._interrupted = False
            raise trio.ClosedResourceError("interrupted")

    def _abandon(self, _raise_cancel: object) -> Abort:
        # As after `interrupt`: the task runs only later.
        self._task = self.listener = None
        return Abort.SUCCEEDED

    def again(self) -> None:
        if self._readiness is not None:
            self._readiness.again(self._descriptor)

    def say_end(self) -> None:
        """TCP's own end says it."""

    async def discard(self) -> int:
        while True:
            await wait_readable(self.sock)
            with contextlib.suppress(BlockingIOError):
                # Past TLS, which may have said its end already.
                return len(socket.socket.recv(self.sock, RECEIVE_BYTES))

    def interrupt(self) -> None:
        self.listener = None
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, outcome.Error(trio.ClosedResourceError("interrupted")))
        elif self._woken and not self._unread:
            # A part of an answer may have woken it, or of a TLS record: it would wait for the rest without
            # end.
            self._interrupted = True
        interrupt_write(self.sock)

    def _silent(self) -> bool:
        """No byte has come since the last read, as far as the set was asked since then; else the kernel
        says."""
        if self._ended:
            return False
        readiness = self._readiness
        if readiness is not None and not self.ready and readiness.passes > self._seen_at:
            return True
        if bytes_waiting(self.sock):
            return False
        self.ready = False
        return True


class PlainTransport(Waiter):
    __slots__ = ()

    async def receive(self) -> bytes:
        if self._readiness is None:
            return await self._receive_unwatched()
        while True:
            if self._unread:
                data, self._unread = self._unread, b""
                return data
            if not self.ready:
                await self._wait()
                continue
            received = self.receive_now()
            if received is not None:
                return received

    def receive_now(self) -> bytes | None:
        assert self._readiness is not None
        try:
            size = self.sock.recv_into(_buffer)
        except BlockingIOError:
            self.ready = False
            return None
        if size < RECEIVE_BYTES and not self._ended:
            # All there was, and the set tells of what comes from now on.
            self.ready = False
        self._seen_at = self._readiness.passes
        return bytes(_buffer[:size])

    async def _receive_unwatched(self) -> bytes:
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
        return not self._unread and self._silent()


async def send(transport: Transport, data: bytes | bytearray) -> None:
    """Send all of `data`."""
    sent = transport.send_now(data)
    if sent < len(data):
        await transport.send_rest(data, sent)


def interrupt_write(sock: socket.socket) -> None:
    """Wake whoever waits to write, as `Transport.interrupt` does, and nobody who waits to read.

    Writers wait by Trio's own means: that is seldom.
    """
    if sock.fileno() >= 0:
        notify_closing(sock)


def prepare(sock: socket.socket) -> None:
    """Make a connected socket ours: non-blocking, and for TCP no Nagle delay.

    `SOCKET_BUFFER_BYTES` is set where it counts before the first packet: on the listener, and when dialling.
    """
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close(transport: Transport) -> None:
    """Close without waiting: the kernel still delivers what was sent."""
    transport.say_end()
    _close(transport)


def _close(transport: Transport) -> None:
    transport.interrupt()
    transport.unwatch()
    with contextlib.suppress(OSError):
        transport.sock.close()


def abort(transport: Transport) -> None:
    """Close so that the peer sees a reset: an answer that was cut must never look finished."""
    with contextlib.suppress(OSError):
        transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    _close(transport)
