"""From what was seen to what is promised: medians over rounds, and the ratios of targets in the same round.

Pure: takes a `Comparison`, returns rows.  A ratio is the median over rounds of the ratio within each
round, since two runs a minute apart share their machine's mood and two runs an hour apart do not.
"""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.scenarios import Scenario
from bench.load.summary import Summary

# A target that reaches this share of what the harness reaches alone is limited by the harness.
harness_bound_share = 0.9
_CEILING_ARM = "direct"
_KIBIBYTE = 1024
# A core for each of two workers, and one for the harness.
_CORES_FOR_TWO = 3

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
    """One row of a scenario: what it says, how it is got, digits to print, whether the harness limits it, and
    whether more of it is better."""

    label: str
    metric: Metric
    digits: int
    limited: bool = False
    more_is_better: bool = False


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
    Figure("stalls", stalls, 0),
)
_MEMORY = (Figure("resident MiB", resident_mebibytes, 1),)


def figures_of(scenario: Scenario) -> tuple[Figure, ...]:
    """Return the figures that a scenario is about."""
    if scenario.idle:
        return ()
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
    pairs = _paired(seen, scenario, (arm, _CEILING_ARM), metric)
    values = [one - other for one, other in pairs if not math.isnan(one - other)]
    return median(values) if values and arm != _CEILING_ARM else math.nan


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


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """One promised figure.  `low` and `high` are its extremes over the rounds; `met` is None without a
    goal."""

    figure: str
    value: float
    low: float
    high: float
    unit: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


def metric_median(seen: Comparison, scenario: str, arm: str, metric: Metric) -> float:
    """Return the median over the rounds; NaN if the arm has none."""
    values = [metric(summary) for summary in seen.rounds.get(scenario, {}).get(arm, []) if summary]
    return median(values) if values else math.nan


def harness_bound(seen: Comparison, scenario: str, arm: str, metric: Metric) -> bool:
    """Whether the arm does about as well as no target at all; False if the ceiling is not known."""
    ceiling = metric_median(seen, scenario, _CEILING_ARM, metric)
    if arm == _CEILING_ARM or math.isnan(ceiling):
        return False
    return metric_median(seen, scenario, arm, metric) >= harness_bound_share * ceiling


def _paired(
    seen: Comparison, scenario: str, arms: tuple[str, str], metric: Metric
) -> Sequence[tuple[float, float]]:
    """Return the arms' figures of the same rounds, as far as both have them."""
    by_arm = seen.rounds.get(scenario, {})
    left, right = (by_arm.get(arm, []) for arm in arms)
    return [(metric(one), metric(other)) for one, other in zip(left, right, strict=False) if one and other]


def _row(
    figure: str,
    values: Sequence[float],
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Ratio | None:
    usable = [value for value in values if not math.isnan(value)]
    if not usable:
        return None
    value = median(usable)
    goal, met = "", None
    if at_least is not None:
        goal, met = f"≥ {at_least:g}", value >= at_least
    if at_most is not None:
        goal, met = f"≤ {at_most:g}", value <= at_most
    return Ratio(figure=figure, value=value, low=min(usable), high=max(usable), unit=unit, goal=goal, met=met)


def rate_ratio(
    seen: Comparison,
    scenario: str,
    arms: tuple[str, str],
    metrics: tuple[Metric, Metric],
    *,
    figure: str,
    at_least: float | None,
) -> Ratio | None:
    """Return how many times the first arm's rate is the second's; None if either is missing.

    `metrics` are the rate by the clock and by the target's CPU time.  The clock's is taken unless the harness
    limits one of the arms: then neither rate is the target's own, and CPU time is the fairer measure.
    """
    by_clock, by_cpu = metrics
    bound = [arm for arm in arms if harness_bound(seen, scenario, arm, by_clock)]
    chosen = by_cpu if bound else by_clock
    pairs = _paired(seen, scenario, arms, chosen)
    row = _row(figure, [one / other for one, other in pairs if other], "x", at_least=at_least)
    if row is not None and bound:
        note = f"per CPU-second, since the harness limits {' and '.join(bound)}"
        return msgspec.structs.replace(row, note=note)
    return row


def difference(
    seen: Comparison, scenario: str, arms: tuple[str, str], metric: Metric, *, figure: str, at_most: float
) -> Ratio | None:
    """Return by how many milliseconds the first arm exceeds the second; None if either is missing."""
    pairs = _paired(seen, scenario, arms, metric)
    return _row(figure, [one - other for one, other in pairs], "ms", at_most=at_most)


def _memory(seen: Comparison, arm: str, *, at_most: float | None, scenario: str = "idle") -> Ratio | None:
    idle = seen.idle.get(scenario, {}).get(arm)
    values = [] if idle is None else [idle.bytes_per_stream / _KIBIBYTE]
    figure = f"memory per idle open stream{', TLS upstream' * (scenario != 'idle')}, {arm}"
    row = _row(figure, values, "KiB", at_most=at_most)
    return (
        row if row is None or idle is None else msgspec.structs.replace(row, note=f"{idle.streams} streams")
    )


_GOALS: tuple[tuple[str, str, float], ...] = (
    ("unary", "relay", 0.6),
    ("unary", "nginx", 0.35),
    ("unary", "naive", 15.0),
    ("unary-openai", "ferrogw", 1.5),
    ("unary", "respan-gateway", 1.5),
    ("unary-openai", "portkey", 15.0),
    ("unary-openai", "litellm", 60.0),
)


def _scaling(seen: Comparison, arm: str) -> Ratio | None:
    """Return what two workers do against one, by the clock where there are cores for both and for the
    harness."""
    one, two = (seen.rounds.get(f"workers@{count}", {}).get(arm, []) for count in (1, 2))
    crowded = len(seen.machine.cpus) < _CORES_FOR_TWO
    metric = requests_per_cpu if crowded else requests_rate
    pairs = [(metric(a), metric(b)) for a, b in zip(one, two, strict=False) if a and b]
    values = [(2 if crowded else 1) * b / a for a, b in pairs if a]
    row = _row(f"two workers against one, {arm}", values, "x", at_least=1.7)
    if row is not None and crowded:
        note = "twice the requests per CPU-second, since the harness needs the second core"
        return msgspec.structs.replace(row, note=note)
    return row


def ratios(seen: Comparison, subject: str = "karta") -> list[Ratio]:
    """Return the promised figures of `subject` that this comparison can tell."""
    by_requests = (requests_rate, requests_per_cpu)
    by_events = (events_rate, events_per_cpu)
    rows = [
        rate_ratio(
            seen,
            scenario,
            (subject, other),
            by_requests,
            figure=f"requests/s, {subject} / {other}",
            at_least=goal,
        )
        for scenario, other, goal in _GOALS
    ]
    rows.append(_scaling(seen, subject))
    alone = (subject, _CEILING_ARM)
    rows += [
        difference(seen, "alone", alone, latency_p50, figure="added p50 at concurrency 1", at_most=0.5),
        difference(seen, "alone", alone, latency_p99, figure="added p99 at concurrency 1", at_most=3.0),
    ]
    rows += [
        rate_ratio(
            seen,
            "burst",
            (subject, other),
            by_events,
            figure=f"SSE events/s, {subject} / {other}",
            at_least=goal,
        )
        for other, goal in (("relay", 0.6), ("naive", None))
    ]
    both = (subject, "relay")
    per_cpu = [one / other for one, other in _paired(seen, "paced", both, events_per_cpu) if other]
    rows.append(
        _row(f"paced events per CPU-second, {subject} / relay", per_cpu, "x", at_least=0.6),
    )
    rows += [
        difference(
            seen,
            "paced",
            both,
            first_p50,
            figure="added time to first event p50 over relay",
            at_most=1.0,
        ),
        _memory(seen, subject, at_most=16.0),
        _memory(seen, subject, at_most=56.0, scenario="idle-tls"),
        _memory(seen, "relay", at_most=None),
    ]
    return [row for row in rows if row is not None]
