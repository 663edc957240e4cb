"""One connection books what it saw, on real sockets: right answers, and each way to be wrong."""

import asyncio
import time
from collections.abc import Iterable

import pytest

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.drivers import ClosedLoop
from bench.load.plan import Expectation, Question
from bench.load.tally import Tally
from tests.bench.load.driving import Ear, plan_for, tally_against
from tests.bench.scripted_server import CLOSE, RESET, Asked, chunk, events, stream_head, unary

STREAM = Question(stream=True)
WHOLE = [stream_head(), *(chunk(event) for event in events(4)), chunk(b"")]


def test_unary_answers_are_counted_and_timed() -> None:
    tally = tally_against(lambda _: [0.002, unary(b"{}")], expectation=Expectation(body_bytes=2))
    assert tally.failed == 0
    assert tally.latency.total == tally.first.total > 0
    # What was in flight as the window opened is counted, and as it closed is timed: one of each at most.
    assert abs(tally.requests - tally.latency.total) <= 1
    assert tally.body_bytes == 2 * tally.requests
    assert tally.latency.percentile(1) >= 1_900_000
    assert tally.seconds > 0.05
    assert tally.cpu_seconds > 0


def test_gaps_and_first_events_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch)

    def script(_: Asked) -> Iterable[bytes | float]:
        yield 0.004
        for piece in WHOLE:
            yield piece
            ear.wait()
            yield 0.002

    tally = tally_against(script, question=STREAM, expectation=Expectation(events=4), answers_min=3)
    assert tally.failed == 0
    assert tally.requests >= 3
    # Of one answer more, events may fall into the window.
    assert 4 * tally.requests <= tally.events + 4 <= 4 * tally.requests + 8
    assert tally.first.percentile(0) >= 3_900_000
    # Neither the head nor the end of the stream is an event.
    assert tally.gaps.total == pytest.approx(3 * tally.requests, abs=6)
    assert tally.merged_events == 0
    assert tally.gaps.percentile(0) >= 1_900_000


def test_events_of_one_read_count_as_merged() -> None:
    tally = tally_against(lambda _: [b"".join(WHOLE)], question=STREAM, expectation=Expectation(events=4))
    assert tally.failed == 0
    assert tally.merged_events == 3 * (tally.events // 4)
    assert tally.gaps.percentile(100) == 0


def test_a_collected_stream_is_caught() -> None:
    expectation = Expectation(events=4, span_seconds_min=0.005)
    tally = tally_against(lambda _: [0.01, b"".join(WHOLE)], question=STREAM, expectation=expectation)
    assert set(tally.failures) == {Failure.BUFFERED}


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ([unary(b"{}", status="500 Oh")], Failure.STATUS),
        ([b"hello there, no HTTP\r\n\r\n"], Failure.MALFORMED),
        ([b"".join(WHOLE[:-2]), chunk(b"")], Failure.TERMINAL),
        ([*WHOLE[:2], *WHOLE[3:]], Failure.EVENTS),
        ([*WHOLE[:3], CLOSE], Failure.BROKEN),
        ([*WHOLE[:3], RESET], Failure.BROKEN),
        ([CLOSE], Failure.BROKEN),
        ([stream_head(), 60.0], Failure.TIMEOUT),
    ],
)
def test_each_way_to_be_wrong_is_a_failure_of_its_kind(
    pieces: list[bytes | float | str], failure: Failure
) -> None:
    tally = tally_against(
        lambda _: pieces,
        question=STREAM,
        expectation=Expectation(events=4),
        # What comes at all comes in time on a machine that stands still for a while.
        answer_seconds_max=0.2 if failure is Failure.TIMEOUT else 30.0,
    )
    assert failure in tally.failures
    assert tally.requests == 0
    assert tally.examples[failure]


def test_two_answers_to_one_question_are_malformed() -> None:
    tally = tally_against(lambda _: [unary(b"{}") * 2])
    assert set(tally.failures) == {Failure.MALFORMED}
    assert tally.requests == 0


def test_one_dropped_event_in_many_answers_is_found() -> None:
    answered = 0

    def script(_: Asked) -> Iterable[bytes]:
        nonlocal answered
        answered += 1
        return WHOLE if answered != 20 else [*WHOLE[:2], *WHOLE[3:]]

    tally = tally_against(script, question=STREAM, expectation=Expectation(events=4), answers_min=30)
    assert tally.failures == {Failure.EVENTS: 1}
    assert tally.answers_checked > 20


def test_connection_close_after_an_answer_is_no_failure() -> None:
    tally = tally_against(lambda _: [unary(b"{}", headers="connection: close\r\n"), CLOSE], answers_min=3)
    assert tally.failed == 0
    assert tally.reconnects >= tally.answers_checked - 1 > 0


def test_who_leaves_in_the_middle_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch)

    def script(_: Asked) -> Iterable[bytes | str]:
        ear.begin()
        for piece in WHOLE[:2]:
            yield piece
            ear.wait()
        yield WHOLE[2]
        # Whoever is still there has half an answer.
        yield CLOSE

    tally = tally_against(script, question=STREAM, leave_after_events=2)
    assert tally.failures == {}, tally.examples
    assert tally.left > 0
    assert tally.requests == 0


@pytest.mark.parametrize("closing", [False, True])
def test_what_comes_after_the_end_is_a_fault_only_while_nobody_has_left(closing: bool) -> None:
    class Open(asyncio.Transport):
        def abort(self) -> None:
            return

        def is_closing(self) -> bool:
            return closing

    tally = Tally()
    plan = plan_for("http://127.0.0.1:1", question=STREAM)
    connection = LoadConnection(plan, tally, ClosedLoop(plan, tally))
    connection.connection_made(Open())
    connection.data_received(WHOLE[0])
    assert tally.failures == ({} if closing else {Failure.MALFORMED: 1})


def test_a_slow_reader_takes_its_time() -> None:
    body = b"x" * 20_000
    began = time.perf_counter()
    slow = tally_against(lambda _: [unary(body)], seconds=0.3, answers_min=2, read_bytes_per_second=100_000.0)
    seconds = time.perf_counter() - began
    assert slow.failed == 0
    # Twenty kilobytes at a hundred a second are five answers a second, and the first is not waited for.
    assert 2 <= slow.answers_checked <= 1 + seconds / 0.2
