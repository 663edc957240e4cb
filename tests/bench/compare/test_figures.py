"""Medians over rounds, what an arm adds to the direct run, and who is limited by the harness."""

import math

import msgspec
import pytest

from bench.compare.figures import (
    added,
    figures_of,
    harness_bound,
    latency_p50,
    metric_median,
    rate_within,
    requests_rate,
)
from tests.bench.compare.seen import comparison, scenario, summary


def test_medians_leave_out_what_went_wrong() -> None:
    seen = comparison({"unary": {"karta": [summary(rate=10), None, summary(rate=30), summary(rate=20)]}})
    assert metric_median(seen, "unary", "karta", requests_rate) == 20
    assert math.isnan(metric_median(seen, "unary", "relay", requests_rate))


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


def test_the_harness_is_the_limit_near_its_own_ceiling() -> None:
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


def test_the_harness_is_the_limit_where_its_cores_are_busy_and_the_targets_is_not() -> None:
    idle_half = msgspec.structs.replace(summary(rate=500, cpu_seconds=0.55), harness_cpu_share=0.99)
    busy = msgspec.structs.replace(summary(rate=300, cpu_seconds=0.97), harness_cpu_share=0.99)
    sleepy = msgspec.structs.replace(summary(rate=100, cpu_seconds=0.2), harness_cpu_share=0.4)
    by_arm = {"direct": [summary(rate=1000)], "nginx": [idle_half], "karta": [busy], "lazy": [sleepy]}
    seen = comparison({"unary": {arm: [*found] for arm, found in by_arm.items()}})
    assert harness_bound(seen, "unary", "nginx", requests_rate)
    assert not harness_bound(seen, "unary", "karta", requests_rate)
    # Who does nothing while the harness would ask more is slow by itself.
    assert not harness_bound(seen, "unary", "lazy", requests_rate)
    # Cores that are kept awake are always busy.
    seen.options = msgspec.structs.replace(seen.options, keep_awake=True)
    assert not harness_bound(seen, "unary", "nginx", requests_rate)


def test_the_rate_of_paced_streams_is_their_pace() -> None:
    assert any(figure.limited for figure in figures_of(scenario("burst")))
    assert not any(figure.limited for figure in figures_of(scenario("paced")))
