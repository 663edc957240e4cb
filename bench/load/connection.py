"""One connection to the target: asks, follows the answer, books it, and tells its driver.

An asyncio protocol on uvloop, without tasks or futures per request: at tens of thousands of requests a second
these would be most of the work, and the generator must not be what is measured.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol, cast

from bench.load.answer import AnswerReader, Failure, HttpParserError
from bench.load.plan import LoadPlan
from bench.load.tally import Tally

_NANOSECONDS = 1e9


class Driver(Protocol):
    """Who decides what a connection does next."""

    def answered(self, connection: "LoadConnection") -> None:
        """The answer is booked and the connection can be used again."""

    def lost(self, connection: "LoadConnection") -> None:
        """The connection is closed, after an answer, a failure, or on the target's wish while idle."""

    def first_event(self, connection: "LoadConnection") -> None:
        """The first event of a stream arrived."""


class LoadConnection(asyncio.Protocol):
    """One client connection; `started_ns` is the intended start of the request in flight, 0 when idle."""

    __slots__ = (
        "_driver",
        "_first_ns",
        "_last_ns",
        "_leave_after_events",
        "_read_bytes_per_second",
        "_reader",
        "_stream",
        "_tally",
        "_write",
        "connected",
        "started_ns",
        "transport",
    )

    def __init__(self, plan: LoadPlan, tally: Tally, driver: Driver) -> None:
        self._driver = driver
        self._tally = tally
        self._stream = plan.question.stream
        self._reader = AnswerReader(plan.expectation, plan.question.dialect, stream=self._stream)
        self._first_ns = self._last_ns = 0
        self._leave_after_events = plan.leave_after_events
        self._read_bytes_per_second = plan.read_bytes_per_second
        self.started_ns = 0
        self.connected = False
        self.transport: asyncio.Transport | None = None
        self._write: Callable[[bytes], None] = self._write_unconnected

    @staticmethod
    def _write_unconnected(_request: bytes) -> None:
        raise RuntimeError("ask() needs a connection; wait for connection_made")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._write = self.transport.write
        self._reader.renew()
        self.connected = True

    def ask(self, request: bytes, intended_ns: int) -> None:
        """Send one request; its latency counts from `intended_ns` (perf_counter_ns)."""
        self._reader.expect()
        self.started_ns = intended_ns
        self._first_ns = self._last_ns = 0
        self._write(request)

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        if not self.started_ns:
            if self.transport is None or self.transport.is_closing():
                # It was left, or has failed already: what was on its way is read and means nothing.
                return
            self.fail(Failure.MALFORMED, f"bytes that nobody asked for: {data[:100]!r}")
            return
        reader = self._reader
        try:
            events = reader.feed(data)
        except HttpParserError as error:
            self.fail(Failure.MALFORMED, f"{type(error).__name__}: {error}: {data[:100]!r}")
            return
        if self._stream:
            if events:
                self._book_events(events, now)
        elif not self._first_ns:
            self._first_ns = now
        if reader.complete:
            self._finish(now, data)
        elif 0 < self._leave_after_events <= reader.events:
            self._tally.left += 1
            self.started_ns = 0
            self.close()
        if self._read_bytes_per_second:
            self._dawdle(len(data))

    def _dawdle(self, size_bytes: int) -> None:
        """Read no more for as long as a slow reader takes for what it just got."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            delay = size_bytes / self._read_bytes_per_second
            asyncio.get_running_loop().call_later(delay, self._read_on, transport)

    @staticmethod
    def _read_on(transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.resume_reading()

    def _book_events(self, events: int, now: int) -> None:
        tally = self._tally
        if not self._first_ns:
            self._first_ns = now
            if tally.times(self.started_ns):
                tally.first.record(now - self.started_ns)
            self._driver.first_event(self)
        elif tally.counting:
            tally.gaps.record(now - self._last_ns)
        self._last_ns = now
        if tally.counting:
            tally.events += events
            if events > 1:
                # Events that came in the same read as the one before followed it after no time at all.
                tally.merged_events += events - 1
                tally.gaps.record(0, events - 1)

    def _finish(self, now: int, data: bytes) -> None:
        tally = self._tally
        reader = self._reader
        span_seconds = (self._last_ns - self._first_ns) / _NANOSECONDS if self._stream else 0.0
        failure = reader.failure(span_seconds, (now - self.started_ns) / _NANOSECONDS)
        if failure is not None:
            end = data[-200:].decode(errors="replace")
            self.fail(failure, f"status {reader.status}, {reader.events} events: {end!r}")
            return
        tally.answers_checked += 1
        if tally.counts(self.started_ns):
            tally.requests += 1
            tally.body_bytes += reader.body_bytes
        if tally.times(self.started_ns):
            tally.latency.record(now - self.started_ns)
            if not self._stream:
                tally.first.record(self._first_ns - self.started_ns)
        self.started_ns = 0
        if reader.keeps_alive:
            self._driver.answered(self)
        else:
            self.close()

    def fail(self, failure: Failure, example: str) -> None:
        """Book a failure of the request in flight and close; a connection is not trusted after it."""
        self._tally.fail(failure, example)
        self.started_ns = 0
        self.close()

    def close(self) -> None:
        """Close at once; the driver hears of it by `lost`."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connected = False
        self._write = self._write_unconnected
        if self.started_ns:
            self.started_ns = 0
            self._tally.fail(
                Failure.BROKEN, f"closed in mid-answer after {self._reader.events} events: {exc!r}"
            )
        self._driver.lost(self)
