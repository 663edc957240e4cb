"""Summaries say what a tally holds, in the units people read."""

import math

import msgspec
import pytest

from bench.load.answer import Failure
from bench.load.histogram import Histogram
from bench.load.run import LoadResult
from bench.load.summary import Summary, percentiles, summarize
from bench.load.tally import Tally


def result() -> LoadResult:
    tally = Tally()
    tally.seconds = 2.0
    tally.requests = tally.answers_checked = 100
    tally.events = 400
    tally.merged_events = 40
    tally.cpu_seconds = 1.0
    for milliseconds in range(1, 101):
        tally.latency.record(milliseconds * 1_000_000)
    return LoadResult(tally, 0.5, 1_000_000)


def test_rates_shares_and_milliseconds() -> None:
    summary = summarize(result(), pace_ms=0)
    assert summary.requests_per_second == 50
    assert summary.events_per_second == 200
    assert summary.requests_per_cpu_second == 200
    assert summary.events_per_cpu_second == 800
    assert summary.merged_events_share == 0.1
    assert summary.generator_cpu_share == 0.5
    assert summary.target_cpu_share == 0.25
    assert summary.latency_ms is not None
    assert summary.latency_ms.p50 == pytest.approx(50, rel=0.01)
    assert summary.latency_ms.p99 == pytest.approx(99, rel=0.01)
    assert summary.gap_ms is None
    assert summary.ok
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


def test_any_failure_or_no_answer_is_not_ok() -> None:
    failed = result()
    failed.tally.fail(Failure.BODY, "x")
    assert not summarize(failed, pace_ms=0).ok
    assert not summarize(LoadResult(Tally(), None, None), pace_ms=0).ok


@pytest.mark.parametrize(("pace_ms", "stalls"), [(0, 3), (20, 2), (500, 1)])
def test_a_stall_is_what_comes_later_than_the_pace(pace_ms: float, stalls: int) -> None:
    seen = result()
    for milliseconds in (20, 150, 210, 505, 5_000):
        seen.tally.gaps.record(milliseconds * 1_000_000)
    assert summarize(seen, pace_ms=pace_ms).stalls == stalls


def test_an_unwatched_target_has_no_capacity() -> None:
    summary = summarize(LoadResult(result().tally, None, None), pace_ms=0)
    assert math.isnan(summary.requests_per_cpu_second)
    assert summary.target_cpu_share is None


def test_an_empty_histogram_has_no_percentiles() -> None:
    assert percentiles(Histogram()) is None
