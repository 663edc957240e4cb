"""Histograms of how long requests take, and what is counted of their ends."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.stages import BOUNDS_US, OTHERS, PROVIDERS_MAX, AllStages, Histogram, Stages

TIMES = {
    "verify_us": 10,
    "queue_us": 0,
    "dial_us": 0,
    "added_us": 60,
    "first_byte_us": 2_000,
    "total_us": 3_000_000,
}


def observe(stages: AllStages, provider: str = "anthropic", **changes: Any) -> Stages:
    stages.observe(provider, "completed", 200, **(TIMES | changes))
    return stages.of(provider)


@pytest.mark.parametrize(
    ("us", "bucket"),
    [(-5, 0), (0, 0), (50, 0), (51, 1), (1_000, 4), (1_001, 5), (10**12, len(BOUNDS_US))],
)
def test_a_duration_falls_into_the_first_bucket_whose_bound_it_does_not_exceed(us: int, bucket: int) -> None:
    histogram = Histogram()
    histogram.add(us)
    assert [at for at, count in enumerate(histogram.counts) if count] == [bucket]
    assert histogram.sum_us == us


def test_a_request_is_in_the_stages_that_took_place() -> None:
    stages = observe(AllStages())
    assert {name: sum(one.counts) for name, one in stages.by_name().items()} == {
        "verify": 1,
        "queue": 0,
        "dial": 0,
        "added": 1,
        "first_byte": 1,
        "total": 1,
    }
    stages = observe(AllStages(), queue_us=7, dial_us=8, added_us=0, first_byte_us=0)
    assert {name for name, one in stages.by_name().items() if one.sum_us} == {
        "verify",
        "queue",
        "dial",
        "total",
    }


def test_ends_are_counted_by_outcome_and_status() -> None:
    stages = AllStages()
    observe(stages)
    observe(stages)
    stages.observe("anthropic", "timed_out", 504, **TIMES)
    assert stages.of("anthropic").ends == {("completed", 200): 2, ("timed_out", 504): 1}


def test_providers_beyond_the_bound_are_counted_together() -> None:
    stages = AllStages()
    for number in range(PROVIDERS_MAX + 5):
        observe(stages, f"p{number}")
    assert len(stages.by_provider) == PROVIDERS_MAX + 1
    assert stages.by_provider[OTHERS].ends == {("completed", 200): 5}
