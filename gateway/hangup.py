"""Notices at once that a client has gone, whatever its connection is doing.

One epoll set per worker watches every client socket for the peer's end only (EPOLLRDHUP, edge-triggered). It
is itself a file descriptor, so one task waits on it with Trio. Compared with a reader task a connection this
costs one system call a connection instead of one a request, half the memory an idle stream, and it also sees
a client that left behind a pipelined byte, which a reader that has stopped reading cannot. Linux only: see
docs/decisions/0002.

Bound: one entry an open connection, taken out before its socket closes (file descriptor numbers are reused).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable

import trio

# How many departures one pass handles before other tasks get their turn.
_BATCH_MAX = 256


class HangupWatch:
    """Calls `on_hangup` once for each added descriptor whose peer has closed or reset."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, descriptor: int, on_hangup: Callable[[], None]) -> None:
        """Raises OSError when the kernel has no room for another."""
        # One-shot: a reset after an end is no second departure.
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET | select.EPOLLONESHOT)
        self._callbacks[descriptor] = on_hangup

    def discard(self, descriptor: int) -> None:
        if self._callbacks.pop(descriptor, None) is not None:
            # ValueError: the watch has ended before its connections, as in a cancelled worker.
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0, _BATCH_MAX):
                    callback = self._callbacks.get(descriptor)
                    if callback is not None:
                        callback()
        finally:
            self._epoll.close()
