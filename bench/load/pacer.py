"""Wake an event loop at exact moments, for the open loop.

uvloop's own timers count whole milliseconds, which would add up to one to every latency.  So a thread
sleeps in a lock (microseconds; and `select` takes no descriptor above 1023) on a fixed schedule and wakes
the loop through a socket pair.  It knows no questions: the loop's side takes up whatever is due.  Bounds:
one byte a wake-up, and at most one wake-up per `_INTERVAL_NS_MIN`.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns

# 4,000 wake-ups a second; above that rate several questions are taken up at once.
_INTERVAL_NS_MIN = 250_000
_SECOND_NS = 1_000_000_000
# How long the end of a run waits for the thread, which only ever sleeps.
_JOIN_SECONDS_MAX = 5.0


def moment_ns(start_ns: int, interval_ns: float, number: int) -> int:
    """Return when a question or wake-up of a schedule is due: truncated each for itself, so that no error
    adds up, and a wake-up never comes before its question."""
    return start_ns + int(number * interval_ns)


@contextmanager
def paced(rate_per_second: float, start_ns: int, on_due: Callable[[], None]) -> Iterator[None]:
    """Call `on_due` on the running loop from `start_ns` (perf_counter_ns) on, `rate_per_second` times."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        def woken() -> None:
            if ours.recv(4096):
                on_due()

        interval_ns = max(_INTERVAL_NS_MIN, _SECOND_NS / rate_per_second)
        ended = threading.Event()
        thread = threading.Thread(
            target=_wake, args=(theirs, start_ns, interval_ns, ended), name="pacer", daemon=True
        )
        loop.add_reader(ours, woken)
        thread.start()
        try:
            yield
        finally:
            loop.remove_reader(ours)
            ended.set()
            ours.shutdown(socket.SHUT_RDWR)
            thread.join(_JOIN_SECONDS_MAX)


def _wake(theirs: socket.socket, start_ns: int, interval_ns: float, ended: threading.Event) -> None:
    """Write a byte at each moment of the schedule until it is told to end."""
    number = 0
    while True:
        late_ns = perf_counter_ns() - moment_ns(start_ns, interval_ns, number)
        if late_ns < 0:
            if ended.wait(-late_ns / _SECOND_NS):
                return
            continue
        try:
            theirs.send(b".")
        except OSError:
            return
        # Moments that have passed meanwhile need no byte each: the loop takes up all that is due.
        number += int(late_ns / interval_ns) + 1
