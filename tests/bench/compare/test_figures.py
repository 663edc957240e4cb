"""Ratios are of the same round, and of CPU time where the harness is the limit."""

import math

import msgspec
import pytest

from bench.compare.figures import (
    Ratio,
    added,
    harness_bound,
    latency_p50,
    metric_median,
    rate_within,
    ratios,
    requests_rate,
)
from tests.bench.compare.seen import comparison, idle, summary


def by_figure(found: list[Ratio]) -> dict[str, Ratio]:
    return {row.figure: row for row in found}


def test_medians_leave_out_what_went_wrong() -> None:
    seen = comparison({"unary": {"karta": [summary(rate=10), None, summary(rate=30), summary(rate=20)]}})
    assert metric_median(seen, "unary", "karta", requests_rate) == 20
    assert math.isnan(metric_median(seen, "unary", "relay", requests_rate))


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine was twice as fast in the second round; the third round has only one of both.
    seen = comparison(
        {
            "unary": {
                "karta": [summary(rate=50), summary(rate=120), summary(rate=70)],
                "relay": [summary(rate=100), summary(rate=200), None],
            }
        }
    )
    row = by_figure(ratios(seen))["requests/s, karta / relay"]
    assert row.value == pytest.approx(0.55)
    assert (row.low, row.high) == (0.5, 0.6)
    assert row.goal == "≥ 0.6"
    assert row.met is False
    assert row.note == ""


def test_where_the_harness_is_the_limit_cpu_time_decides() -> None:
    seen = comparison(
        {
            "unary": {
                "direct": [summary(rate=1000)],
                "relay": [summary(rate=950, cpu_seconds=0.5)],
                "karta": [summary(rate=800, cpu_seconds=1.0)],
            }
        }
    )
    assert harness_bound(seen, "unary", "relay", requests_rate)
    assert not harness_bound(seen, "unary", "karta", requests_rate)
    assert not harness_bound(seen, "unary", "direct", requests_rate)
    row = by_figure(ratios(seen))["requests/s, karta / relay"]
    assert row.value == pytest.approx(800 / 1900)
    assert "relay" in row.note


def test_added_latency_is_over_direct_and_first_events_over_the_relay() -> None:
    seen = comparison(
        {
            "alone": {"direct": [summary(p50=0.1, p99=0.2)], "karta": [summary(p50=0.5, p99=4.0)]},
            "paced": {"relay": [summary(p50=1.0)], "karta": [summary(p50=1.5)]},
        }
    )
    found = by_figure(ratios(seen))
    assert found["added p50 at concurrency 1"].value == pytest.approx(0.4)
    assert found["added p50 at concurrency 1"].met is True
    assert found["added p99 at concurrency 1"].met is False
    assert found["added time to first event p50 over relay"].value == pytest.approx(0.5)


def test_events_and_memory() -> None:
    seen = comparison(
        {
            "burst": {"relay": [summary(rate=100, events=True)], "karta": [summary(rate=70, events=True)]},
            "paced": {
                "relay": [summary(rate=100, cpu_seconds=0.2, events=True)],
                "karta": [summary(rate=100, cpu_seconds=0.4, events=True)],
            },
        },
        idle={"idle": {"karta": idle(12 * 1024), "relay": idle(6 * 1024)}},
    )
    found = by_figure(ratios(seen))
    assert found["SSE events/s, karta / relay"].value == pytest.approx(0.7)
    assert found["paced events per CPU-second, karta / relay"].value == pytest.approx(0.5)
    assert found["memory per idle open stream, karta"].value == 12
    assert found["memory per idle open stream, karta"].met is True
    assert found["memory per idle open stream, relay"].met is None


def test_what_was_not_measured_is_not_told() -> None:
    assert ratios(comparison({"unary": {"relay": [summary(rate=1)]}})) == []


def test_what_an_arm_adds_is_over_the_direct_run_of_the_same_round() -> None:
    seen = comparison(
        {"unary": {"direct": [summary(p50=1.0), None], "relay": [summary(p50=1.5), summary(p50=9.0)]}}
    )
    assert added(seen, "unary", "relay", latency_p50) == pytest.approx(0.5)
    assert math.isnan(added(seen, "unary", "direct", latency_p50))


def test_the_greatest_rate_within_a_bound_has_none_below_it_that_breaks_it() -> None:
    seen = comparison(
        {
            "load@100": {"karta": [summary(p99=2.0)], "naive": [summary(p99=50.0)]},
            "load@200": {"karta": [summary(p99=30.0)], "naive": [None]},
            "load@400": {"karta": [summary(p99=4.0)], "naive": [None]},
        }
    )
    assert rate_within(seen, "load", "karta", 5.0) == 100
    assert rate_within(seen, "load", "karta", 50.0) == 400
    assert math.isnan(rate_within(seen, "load", "naive", 5.0))


def test_two_workers_are_counted_by_cpu_time_where_the_harness_needs_the_second_core() -> None:
    rounds = {
        "workers@1": {"karta": [summary(rate=100, cpu_seconds=1.0)]},
        "workers@2": {"karta": [summary(rate=110, cpu_seconds=1.2)]},
    }
    crowded = by_figure(ratios(comparison(dict(rounds))))["two workers against one, karta"]
    assert crowded.value == pytest.approx(2 * (110 / 1.2) / 100)
    assert "CPU-second" in crowded.note
    wide = comparison(dict(rounds))
    wide.machine = msgspec.structs.replace(wide.machine, cpus=[0, 1, 2])
    assert by_figure(ratios(wide))["two workers against one, karta"].value == pytest.approx(1.1)


def test_peers_are_judged_in_the_api_they_speak() -> None:
    seen = comparison(
        {
            "unary": {"karta": [summary(rate=40)], "respan-gateway": [summary(rate=20)]},
            "unary-openai": {"karta": [summary(rate=30)], "ferrogw": [summary(rate=30)]},
        }
    )
    found = by_figure(ratios(seen))
    assert found["requests/s, karta / respan-gateway"].met is True
    assert found["requests/s, karta / ferrogw"].met is False
