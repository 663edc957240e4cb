"""Closed loops keep their connections busy, open loops keep their rate, held streams stay."""

import time
from itertools import pairwise

import pytest

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.drivers import ClosedLoop, HoldOpen, OpenLoop, opening_max
from bench.load.plan import Expectation, Question
from bench.load.tally import Tally
from tests.bench.load.driving import plan_for, tally_against, tally_of
from tests.bench.scripted_server import Asked, scripted_server, unary


def test_a_closed_loop_uses_all_connections_and_keys() -> None:
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        tally = tally_of(plan_for(server.base_url, connections=8, keys=["one", "two", "three"], seconds=0.2))
        asked = list(server.asked)
        assert server.connections == 8
    assert tally.failed == 0
    keys = [next(line for line in one.head.split(b"\r\n") if line.startswith(b"x-api-key")) for one in asked]
    counts = [keys.count(key) for key in sorted(set(keys))]
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 8


def test_a_ramp_starts_connections_one_by_one() -> None:
    started: list[float] = []

    def script(asked: Asked) -> list[bytes]:
        if asked.number == 1:
            started.append(time.perf_counter())
        return [unary(b"{}")]

    tally = tally_against(script, connections=5, ramp_seconds=0.25)
    assert tally.failed == 0
    assert len(started) == 5
    assert max(later - earlier for earlier, later in pairwise(sorted(started))) < 0.25
    assert max(started) - min(started) > 0.1


def test_an_open_loop_keeps_its_rate_and_counts_from_when_a_question_was_due() -> None:
    stalled = False

    def script(_: Asked) -> list[bytes | float | str]:
        nonlocal stalled
        if not stalled:
            stalled = True
            return [0.2, unary(b"{}")]
        return [unary(b"{}")]

    # One connection, stalled for 0.2 s: a closed loop would see one slow answer, an open loop sees all
    # that waited.
    tally = tally_against(script, driver="open", rate_per_second=200.0, seconds=0.5)
    assert tally.failed == 0
    assert tally.requests == pytest.approx(100, abs=2)
    assert tally.latency.percentile(80) > 50_000_000
    assert tally.lateness.total > 0
    assert tally.waited >= 20


def test_an_open_loop_takes_up_all_that_is_due() -> None:
    driver = OpenLoop(plan_for("http://127.0.0.1:1", driver="open", rate_per_second=1000.0), Tally())
    driver.begin(time.perf_counter_ns() - 50_000_000)
    driver.arrive()
    assert 50 <= driver.in_flight <= 60
    assert driver.due_ns() > time.perf_counter_ns() - 1_000_000_000


def test_an_endless_backlog_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.drivers.backlog_max", 10)
    driver = OpenLoop(plan_for("http://127.0.0.1:1", driver="open", rate_per_second=1000.0), Tally())
    driver.begin(time.perf_counter_ns() - 50_000_000)
    driver.arrive()
    assert driver.in_flight == 10
    assert driver.tally.failures[Failure.BACKLOG] >= 40


def test_a_stopped_loop_asks_nothing_more() -> None:
    driver = ClosedLoop(plan_for("http://127.0.0.1:1"), Tally())
    driver.stop()
    driver.answered(driver.connections[0])
    assert driver.in_flight == 0


def test_a_warm_up_is_checked_but_not_counted() -> None:
    first = True

    def script(_: Asked) -> list[bytes]:
        nonlocal first
        status = "500 Cold" if first else "200 OK"
        first = False
        return [unary(b"{}", status=status)]

    tally = tally_against(script, warmup_seconds=0.2, expectation=Expectation(), question=Question())
    assert tally.failures == {Failure.STATUS: 1}
    assert tally.requests < tally.answers_checked


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
