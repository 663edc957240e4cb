"""Closed loops keep their connections busy, open loops keep their rate, held streams stay."""

import threading
from collections.abc import Callable, Iterable

import pytest

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.drivers import ClosedLoop, HoldOpen, OpenLoop, opening_max
from bench.load.plan import Expectation, Question
from bench.load.tally import Tally
from bench.load.worker import Parent, Progress
from tests.bench.load.driving import Ear, plan_for, tally_against, tally_of
from tests.bench.scripted_server import Asked, scripted_server, unary

NOW_NS = 10**12


class Phases(Parent):
    """Calls what is to be called when the window opens, and when it closes."""

    def __init__(self, **calls: Callable[[], object]) -> None:
        self._calls = calls

    def tell(self, progress: Progress) -> None:
        if (call := self._calls.get(progress.phase)) is not None:
            call()


def test_a_closed_loop_uses_all_connections_and_keys() -> None:
    all_ask = threading.Barrier(8)

    def script(asked: Asked) -> Iterable[bytes]:
        # None is answered before all have asked: they are all used, and at the same time.
        if asked.number == 1:
            all_ask.wait(30)
        return [unary(b"{}")]

    with scripted_server(script) as server:
        plan = plan_for(server.base_url, connections=8, keys=["one", "two", "three"], answer_seconds_max=60.0)
        tally = tally_of(plan)
        asked = list(server.asked)
        assert server.connections == 8
    assert tally.failed == 0
    keys = [next(line for line in one.head.split(b"\r\n") if line.startswith(b"x-api-key")) for one in asked]
    counts = [keys.count(key) for key in sorted(set(keys))]
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 8


def test_a_ramp_starts_connections_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timers:
        def __init__(self) -> None:
            self.calls: list[tuple[float, object, LoadConnection]] = []

        def call_later(self, seconds: float, call: object, connection: LoadConnection) -> None:
            self.calls.append((seconds, call, connection))

    timers = Timers()
    monkeypatch.setattr("bench.load.drivers.asyncio.get_running_loop", lambda: timers)
    driver = ClosedLoop(plan_for("http://127.0.0.1:1", connections=5, ramp_seconds=0.25), Tally())
    driver.start()
    assert [seconds for seconds, _, _ in timers.calls] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert all(call == driver.dialler.want for _, call, _ in timers.calls)
    assert [connection for _, _, connection in timers.calls] == driver.connections


def test_all_connections_of_a_ramp_are_used() -> None:
    all_ask = threading.Barrier(5)

    def script(asked: Asked) -> Iterable[bytes]:
        if asked.number == 1:
            all_ask.wait(30)
        return [unary(b"{}")]

    assert tally_against(script, connections=5, ramp_seconds=0.05, answer_seconds_max=60.0).failed == 0


def test_an_open_loop_keeps_its_rate_and_counts_from_when_a_question_was_due() -> None:
    opened, stalled = threading.Event(), threading.Event()

    def script(_: Asked) -> list[bytes | float | str]:
        if opened.is_set() and not stalled.is_set():
            stalled.set()
            return [0.2, unary(b"{}")]
        return [unary(b"{}")]

    # One connection, stalled for 0.2 s: a closed loop would see one slow answer, an open loop sees all
    # that waited.
    with scripted_server(script) as server:
        plan = plan_for(
            server.base_url, driver="open", rate_per_second=200.0, seconds=0.5, answer_seconds_max=30.0
        )
        tally = tally_of(plan, Phases(open=opened.set))
    assert tally.failed == 0
    # As many as were due, however long the window was open on a busy machine, and however late they came.
    assert tally.requests == tally.latency.total == pytest.approx(200 * tally.seconds, abs=2)
    assert tally.latency.above(50_000_000) >= 20
    assert tally.lateness.total > 0
    assert tally.waited >= 20


def test_an_open_loop_takes_up_all_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.drivers.perf_counter_ns", lambda: NOW_NS)
    driver = OpenLoop(plan_for("http://127.0.0.1:1", driver="open", rate_per_second=1000.0), Tally())
    driver.begin(NOW_NS - 50_000_000)
    driver.arrive()
    # One every millisecond, the first and the last included.
    assert driver.in_flight == 51
    assert driver.due_ns() == NOW_NS + 1_000_000


def test_an_endless_backlog_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.drivers.backlog_max", 10)
    monkeypatch.setattr("bench.load.drivers.perf_counter_ns", lambda: NOW_NS)
    driver = OpenLoop(plan_for("http://127.0.0.1:1", driver="open", rate_per_second=1000.0), Tally())
    driver.begin(NOW_NS - 50_000_000)
    driver.arrive()
    assert driver.in_flight == 10
    assert driver.tally.failures[Failure.BACKLOG] == 41


def test_a_stopped_loop_asks_nothing_more() -> None:
    driver = ClosedLoop(plan_for("http://127.0.0.1:1"), Tally())
    driver.stop()
    driver.answered(driver.connections[0])
    assert driver.in_flight == 0


def test_a_warm_up_is_checked_but_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch)
    heard: list[int] = []
    first = True

    def script(_: Asked) -> list[bytes]:
        nonlocal first
        status = "500 Cold" if first else "200 OK"
        first = False
        return [unary(b"{}", status=status)]

    def note() -> None:
        heard.append(ear.heard)

    with scripted_server(script) as server:
        plan = plan_for(server.base_url, warmup_seconds=0.2, expectation=Expectation(), question=Question())
        tally = tally_of(plan, Phases(open=note, closed=note))
    opened, closed = heard
    assert tally.failures == {Failure.STATUS: 1}
    assert tally.answers_checked == ear.heard - 1
    # The one that failed came first: into the warm-up, unless the machine stood still for all of it.
    assert tally.requests == closed - opened - (opened == 0)


def test_streams_to_be_held_are_opened_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = HoldOpen(plan_for("http://127.0.0.1:1", driver="hold", connections=opening_max + 3), Tally())
    wanted: list[LoadConnection] = []
    monkeypatch.setattr(driver.dialler, "want", wanted.append)
    driver.start()
    assert wanted == driver.connections[:opening_max]
    driver.first_event(wanted[0])
    driver.lost(wanted[1])
    assert wanted == driver.connections[: opening_max + 2]
    driver.first_event(wanted[2])
    driver.first_event(wanted[3])
    assert wanted == driver.connections
    assert driver.held == 3
