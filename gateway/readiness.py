"""One edge-triggered epoll set a worker: tells each socket's owner what happened on it, once for each thing.

Trio's own `wait_readable` arms a socket anew for each wait: a system call and a good deal of Python each
time, which was a tenth of a request. Here a socket is registered once, when it is opened. The set is itself a
file descriptor, so one task waits on it with Trio, and hands each event to the callback that was registered
with the socket; `wire` wakes the task that waits there. It also sees a client that has gone while nobody
reads from it, whatever it left unread. Linux only: see docs/decisions/0002.

Bound: one entry an open socket, taken out before the socket closes (file descriptor numbers are reused).
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Final

from trio.lowlevel import checkpoint, wait_readable

# How many events one pass hands on before other tasks get their turn.
_BATCH_MAX: Final = 256

READABLE: Final = select.EPOLLIN
GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""The peer has closed its side, or the connection is broken."""

_WATCHED: Final = READABLE | select.EPOLLRDHUP | select.EPOLLET

EventCallback = Callable[[int], None]


class Readiness:
    """Calls each descriptor's callback with the epoll mask of what is new; callbacks neither wait nor
    raise."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, EventCallback] = {}
        self._again: list[int] = []
        self._asleep = False
        self._alarm = -1
        """Wakes the set when something is to be told again that the kernel knows nothing of."""
        self.passes = 0
        """How often the set has been asked: what was said before is known after the next."""

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, descriptor: int, on_event: EventCallback) -> None:
        """Raises OSError when the kernel has no room for another."""
        self._epoll.register(descriptor, _WATCHED)
        self._callbacks[descriptor] = on_event

    def discard(self, descriptor: int) -> None:
        if self._callbacks.pop(descriptor, None) is not None:
            # ValueError: the watch has ended before its sockets, as in a cancelled worker.
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(descriptor)

    def again(self, descriptor: int) -> None:
        """Tell of it once more in the next pass: its owner stopped reading so that others get their turn."""
        self._again.append(descriptor)
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._alarm, 1)

    async def run(self) -> None:
        """Watch until cancelled."""
        poll, find, descriptor = self._epoll.poll, self._callbacks.get, self._epoll.fileno()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, READABLE | select.EPOLLET)
        try:
            while True:
                events = poll(0, _BATCH_MAX)
                self.passes += 1
                if self._again:
                    again, self._again = self._again, []
                    # After what is new. An owner that is gone or another by now finds nothing, and no harm.
                    events += [(one, READABLE) for one in again]
                elif not events:
                    self._asleep = True
                    await wait_readable(descriptor)
                    self._asleep = False
                    continue
                for one, mask in events:
                    callback = find(one)
                    if callback is not None:
                        callback(mask)
                # Whoever was woken runs now, and there is usually more afterwards: under load the set is
                # never waited for, only asked.
                await checkpoint()
        finally:
            self._asleep = False
            self._epoll.close()
            os.close(self._alarm)
