"""The three ways to drive connections: closed loop, open loop, and streams held open.

Each driver reacts to its connections' callbacks and to nothing else, so no task exists per request.
Bounds: at most `plan.connections` connections; an open loop keeps at most `backlog_max` unsent questions
and counts those beyond as failures, since a target that is so far behind has lost them.
"""

import asyncio
from collections import deque
from time import perf_counter_ns

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.dialing import Dialler
from bench.load.pacer import moment_ns
from bench.load.plan import LoadPlan
from bench.load.request_bytes import plan_requests
from bench.load.tally import Tally

# Ten seconds of 1,000 requests a second.
backlog_max = 10_000
# Streams to be held open that are being opened at once.
opening_max = 64
_SECOND_NS = 1_000_000_000


class LoadDriver:
    """What all drivers share: the connections, the requests in turn (one for each key), the end."""

    def __init__(self, plan: LoadPlan, tally: Tally) -> None:
        self.plan = plan
        self.tally = tally
        self.stopping = False
        self.dialler = Dialler(plan.base_url, tally, self.connected, ca_file=plan.ca_file)
        self.connections = [LoadConnection(plan, tally, self) for _ in range(plan.connections)]
        self._requests = plan_requests(plan)
        self._next = 0

    def start(self) -> None:
        for connection in self.connections:
            self.dialler.want(connection)

    def next_request(self) -> bytes:
        """Return the next key's request."""
        if len(self._requests) == 1:
            return self._requests[0]
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        return request

    @property
    def in_flight(self) -> int:
        return sum(1 for connection in self.connections if connection.started_ns)

    def stop(self) -> None:
        """Ask nothing more; what is in flight may end."""
        self.stopping = True

    def sweep(self) -> None:
        """Fail the requests that take longer than the plan allows."""
        oldest = perf_counter_ns() - int(self.plan.answer_seconds_max * _SECOND_NS)
        for connection in self.connections:
            if connection.started_ns and connection.started_ns < oldest:
                connection.fail(Failure.TIMEOUT, f"no answer within {self.plan.answer_seconds_max:g} s")

    def close(self) -> None:
        """Close everything; requests still in flight are forgotten, as nobody waits for them."""
        self.stopping = True
        for connection in self.connections:
            connection.started_ns = 0
            connection.close()

    def connected(self, connection: LoadConnection) -> None:
        raise NotImplementedError

    def answered(self, connection: LoadConnection) -> None:
        raise NotImplementedError

    def lost(self, connection: LoadConnection) -> None:
        if not self.stopping:
            self.tally.reconnects += 1
            self.dialler.want(connection)

    def first_event(self, _connection: LoadConnection) -> None:
        """Of interest only to streams held open."""


class ClosedLoop(LoadDriver):
    """Every connection asks again as soon as it was answered."""

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        apart_seconds = self.plan.ramp_seconds / len(self.connections)
        for index, connection in enumerate(self.connections):
            loop.call_later(index * apart_seconds, self.dialler.want, connection)

    def connected(self, connection: LoadConnection) -> None:
        self.answered(connection)

    def answered(self, connection: LoadConnection) -> None:
        if not self.stopping:
            connection.ask(self.next_request(), perf_counter_ns())


class OpenLoop(LoadDriver):
    """Questions arrive at their own rate; `arrive` is called when one or more are due.

    Arrival i is due at start + i / rate.  A question for which no connection is free waits, and its latency
    counts from when it was due.
    """

    def __init__(self, plan: LoadPlan, tally: Tally) -> None:
        super().__init__(plan, tally)
        self._free: list[LoadConnection] = []
        self._waiting: deque[int] = deque()
        self._interval_ns = _SECOND_NS / plan.rate_per_second
        self._start_ns = 0
        self._arrivals = 0

    @property
    def ready(self) -> bool:
        """Whether every connection is open, so that the schedule can begin."""
        return len(self._free) == len(self.connections)

    def begin(self, start_ns: int) -> None:
        """Set when the first question is due (perf_counter_ns)."""
        self._start_ns = start_ns

    def due_ns(self) -> int:
        """Return when the next question is due (perf_counter_ns)."""
        return moment_ns(self._start_ns, self._interval_ns, self._arrivals)

    def arrive(self) -> None:
        """Take up every question that is due by now."""
        while not self.stopping and (due := self.due_ns()) <= (now := perf_counter_ns()):
            self._arrivals += 1
            if self._free:
                if self.tally.times(due):
                    self.tally.lateness.record(now - due)
                self._free.pop().ask(self.next_request(), due)
            elif len(self._waiting) < backlog_max:
                if self.tally.times(due):
                    self.tally.waited += 1
                self._waiting.append(due)
            else:
                self.tally.fail(Failure.BACKLOG, f"more than {backlog_max} questions were waiting")

    def connected(self, connection: LoadConnection) -> None:
        self.answered(connection)

    def answered(self, connection: LoadConnection) -> None:
        if self._waiting:
            connection.ask(self.next_request(), self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: LoadConnection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        super().lost(connection)

    @property
    def in_flight(self) -> int:
        return super().in_flight + len(self._waiting)


class HoldOpen(LoadDriver):
    """Opens one stream on each connection and leaves it there; `held` counts those that began.

    At most `opening_max` are being opened at once: what is asked is the cost of streams that are open, and a
    process keeps what it needed at its busiest.
    """

    def __init__(self, plan: LoadPlan, tally: Tally) -> None:
        super().__init__(plan, tally)
        self.held = 0
        self._unopened = iter(self.connections)

    def start(self) -> None:
        for _ in range(opening_max):
            self._open_next()

    def _open_next(self) -> None:
        connection = next(self._unopened, None)
        if connection is not None:
            self.dialler.want(connection)

    def connected(self, connection: LoadConnection) -> None:
        connection.ask(self.next_request(), perf_counter_ns())

    def first_event(self, _connection: LoadConnection) -> None:
        self.held += 1
        self._open_next()

    def answered(self, connection: LoadConnection) -> None:
        connection.fail(Failure.EVENTS, "a stream that was to stay open ended")

    def lost(self, connection: LoadConnection) -> None:  # noqa: ARG002
        """A lost stream is a failure that was booked; it is not opened again."""
        self._open_next()
