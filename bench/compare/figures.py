"""The figures of a scenario: which they are, how each is got from a run, and their medians over rounds.

Pure.  `bench.compare.goals` sets them against what is promised.
"""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from bench.compare.comparison import Comparison
from bench.compare.scenarios import Scenario
from bench.load.summary import Summary

# A target that reaches this share of what the harness reaches alone is limited by the harness.
harness_bound_share = 0.9
# A core that is used so much has nothing left to give.
_busy_share = 0.9
CEILING_ARM = "direct"

Metric = Callable[[Summary], float]


def requests_rate(summary: Summary) -> float:
    return summary.requests_per_second


def events_rate(summary: Summary) -> float:
    return summary.events_per_second


def requests_per_cpu(summary: Summary) -> float:
    return summary.requests_per_cpu_second


def events_per_cpu(summary: Summary) -> float:
    return summary.events_per_cpu_second


def latency_p50(summary: Summary) -> float:
    return summary.latency_ms.p50 if summary.latency_ms else math.nan


def latency_p99(summary: Summary) -> float:
    return summary.latency_ms.p99 if summary.latency_ms else math.nan


def first_p50(summary: Summary) -> float:
    return summary.first_ms.p50 if summary.first_ms else math.nan


def latency_p999(summary: Summary) -> float:
    return summary.latency_ms.p999 if summary.latency_ms else math.nan


def first_p99(summary: Summary) -> float:
    return summary.first_ms.p99 if summary.first_ms else math.nan


def gap_p99(summary: Summary) -> float:
    return summary.gap_ms.p99 if summary.gap_ms else math.nan


def stalls(summary: Summary) -> float:
    return summary.stalls


def cpu_microseconds(summary: Summary) -> float:
    """CPU time of the target for one request, or for one event of a stream."""
    spent, units = summary.target_cpu_seconds, summary.events or summary.requests
    return spent / units * 1e6 if spent is not None and units else math.nan


def resident_mebibytes(summary: Summary) -> float:
    resident = summary.target_resident_bytes
    return math.nan if resident is None else resident / 1024**2


class Figure(NamedTuple):
    """One row of a scenario: what it says, how it is got, digits to print, whether the harness limits it,
    whether more of it is better, and whether it is a number of rare events."""

    label: str
    metric: Metric
    digits: int
    limited: bool = False
    more_is_better: bool = False
    counted: bool = False


_RATES = {
    False: (
        Figure("requests/s", requests_rate, 0, True, True),
        Figure("requests per CPU-second", requests_per_cpu, 0, more_is_better=True),
    ),
    True: (
        Figure("events/s", events_rate, 0, True, True),
        Figure("events per CPU-second", events_per_cpu, 0, more_is_better=True),
    ),
}
_LATENCIES = (Figure("p50 ms", latency_p50, 3), Figure("p99 ms", latency_p99, 3))
_STREAM_TIMES = (
    Figure("first event p50 ms", first_p50, 2),
    Figure("first event p99 ms", first_p99, 2),
    Figure("between events p99 ms", gap_p99, 2),
    Figure("stalls", stalls, 0, counted=True),
)
_MEMORY = (Figure("resident MiB", resident_mebibytes, 1),)


def figures_of(scenario: Scenario) -> tuple[Figure, ...]:
    """Return the figures that a scenario is about."""
    if scenario.idle:
        return ()
    if scenario.paced_seconds:
        # The pace makes the rate, whoever is the limit.
        rates = tuple(figure._replace(limited=False) for figure in _RATES[True])
        return (*rates, *_STREAM_TIMES, *_MEMORY)
    if scenario.stream:
        return (*_RATES[True], *_STREAM_TIMES, *_MEMORY)
    if scenario.loop == "open":
        cost = Figure("CPU microseconds each", cpu_microseconds, 0)
        return (*_LATENCIES, Figure("p99.9 ms", latency_p999, 3), cost, *_MEMORY)
    if scenario.connections == 1:
        return _LATENCIES
    return (*_RATES[False], *_LATENCIES, *_MEMORY)


def added(seen: Comparison, scenario: str, arm: str, metric: Metric) -> float:
    """Return the median over the rounds of how much more an arm has than the direct run of that round."""
    pairs = paired(seen, scenario, (arm, CEILING_ARM), metric)
    values = [one - other for one, other in pairs if not math.isnan(one - other)]
    return median(values) if values and arm != CEILING_ARM else math.nan


def rate_within(seen: Comparison, family: str, arm: str, p99_ms_max: float) -> float:
    """Return the greatest rate of a sweep at which, and below which, an arm's p99 keeps the bound; NaN if
    none."""
    best = math.nan
    for scenario in sorted(seen.scenarios, key=lambda one: one.at):
        if scenario.family != family or scenario.axis != "rate":
            continue
        if not metric_median(seen, scenario.name, arm, latency_p99) <= p99_ms_max:
            return best
        best = scenario.at
    return best


def metric_median(seen: Comparison, scenario: str, arm: str, metric: Metric) -> float:
    """Return the median over the rounds; NaN if the arm has none."""
    values = [metric(summary) for summary in seen.rounds.get(scenario, {}).get(arm, []) if summary]
    return median(values) if values else math.nan


def harness_bound(seen: Comparison, scenario: str, arm: str, metric: Metric) -> bool:
    """Whether the harness, and not the arm, is what limits a rate.

    So it is where the arm does about as well as no target at all, and where the harness's cores were busy
    all the time while the arm's was not: it could have done more, had it been asked more.
    """
    ceiling = metric_median(seen, scenario, CEILING_ARM, metric)
    if arm == CEILING_ARM:
        return False
    if metric_median(seen, scenario, arm, metric) >= harness_bound_share * ceiling:
        return True
    if seen.options.keep_awake:
        # Then they are always busy, and that says nothing.
        return False
    workers = next((one.workers for one in seen.scenarios if one.name == scenario), 1)
    harness = metric_median(seen, scenario, arm, _harness_share)
    return (
        harness >= _busy_share and metric_median(seen, scenario, arm, _target_share) < _busy_share * workers
    )


def _harness_share(summary: Summary) -> float:
    return math.nan if summary.harness_cpu_share is None else summary.harness_cpu_share


def _target_share(summary: Summary) -> float:
    return math.nan if summary.target_cpu_share is None else summary.target_cpu_share


def paired(
    seen: Comparison, scenario: str, arms: tuple[str, str], metric: Metric
) -> Sequence[tuple[float, float]]:
    """Return the arms' figures of the same rounds, as far as both have them."""
    by_arm = seen.rounds.get(scenario, {})
    left, right = (by_arm.get(arm, []) for arm in arms)
    return [(metric(one), metric(other)) for one, other in zip(left, right, strict=False) if one and other]
