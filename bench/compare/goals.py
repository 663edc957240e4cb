"""What is promised, and how much of it a comparison shows: one row for each promise.

Pure: takes a `Comparison`, returns rows.  A ratio is the median over rounds of the ratio within each round,
since two runs a minute apart share their machine's mood and two runs an hour apart do not.

Rates are judged by the clock as long as each of the two arms is its own limit.  Where the harness limits one
of them its rate by the clock is the harness's, and would flatter whoever it is set against; then what is
judged are the requests (or events) per CPU-second of the target.  Every such row tells the other figure, too.
"""

import math
from collections.abc import Sequence
from statistics import linear_regression, median, pstdev
from typing import NamedTuple

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.figures import (
    CEILING_ARM,
    Metric,
    events_per_cpu,
    events_rate,
    first_p50,
    harness_bound,
    latency_p50,
    latency_p99,
    paired,
    requests_per_cpu,
    requests_rate,
)

_KIBIBYTE = 1024
_MEBIBYTE = 1024**2
# A core for each of two workers, and one for the harness.
_CORES_FOR_TWO = 3
# Memory grows until every path has been walked once; and a window shorter than this has no end to speak of.
_SETTLED_SECONDS = 60.0
_SOAK_SECONDS_MIN = 180.0
# An allocator's own play; a leak of a byte a request is some three times as much in ten minutes.
_GROWTH_MEBIBYTES_MAX = 1.0
_REASON_CHARACTERS = 120
_BY_REQUESTS = (requests_rate, requests_per_cpu)
_BY_EVENTS = (events_rate, events_per_cpu)


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """One promised figure.

    `low` and `high` are its extremes over the rounds; `met` is None without a goal, and without a figure:
    then `value` is NaN and `note` says why.
    """

    figure: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


class Promise(NamedTuple):
    """A figure that is promised: its scenario, the arms it is of, and the bound that it must keep."""

    figure: str
    scenario: str
    arms: tuple[str, ...]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def row(self, values: Sequence[float], note: str = "") -> Ratio | None:
        """Return the row of the rounds' values; None without any."""
        usable = [value for value in values if not math.isnan(value)]
        if not usable:
            return None
        value, met = median(usable), None
        if self.at_least is not None:
            met = value >= self.at_least
        if self.at_most is not None:
            met = value <= self.at_most
        return Ratio(
            figure=self.figure,
            value=value,
            low=min(usable),
            high=max(usable),
            unit=self.unit,
            goal=self.goal,
            met=met,
            note=note,
        )

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    def missing(self, seen: Comparison) -> Ratio:
        """Return the row of a figure that there is none of, with the reason."""
        reasons = (why for arm in self.arms if (why := why_missing(seen, self.scenario, arm)) is not None)
        note = next(reasons, "no round has it of both")
        return Ratio(figure=self.figure, unit=self.unit, goal=self.goal, note=f"not measured: {note}")


def why_missing(seen: Comparison, scenario: str, arm: str) -> str | None:
    """Say why an arm has no figures in a scenario; None if it has some."""
    if any(seen.rounds.get(scenario, {}).get(arm, [])) or arm in seen.idle.get(scenario, {}):
        return None
    if arm not in seen.options.arms:
        return f"{arm} was not asked for (--arms)"
    labels = [label for label in seen.unavailable if label == arm or label.startswith(f"{arm} (")]
    reason = seen.declined.get(scenario, {}).get(arm) or next((seen.unavailable[one] for one in labels), "")
    if reason:
        return f"{arm}: {reason[:_REASON_CHARACTERS]}"
    return f"{arm} has no right figures: see what is told as wrong"


def _rate_ratio(seen: Comparison, promise: Promise, metrics: tuple[Metric, Metric]) -> Ratio | None:
    """Return how many times the first arm's rate is the second's; `metrics` are by the clock and by CPU."""
    by_clock, by_cpu = metrics
    arms = promise.arms[0], promise.arms[1]
    bound = [arm for arm in arms if harness_bound(seen, promise.scenario, arm, by_clock)]
    chosen, other = (by_cpu, by_clock) if bound else (by_clock, by_cpu)
    row = promise.row(_quotients(seen, promise.scenario, arms, chosen))
    if row is None:
        return None
    note = f"per CPU-second, as the harness limits {' and '.join(bound)}" if bound else "by the clock"
    besides = promise.row(_quotients(seen, promise.scenario, arms, other))
    if besides is not None:
        note += f"; {'by the clock' if bound else 'per CPU-second'} {besides.value:,.2f}"
    return msgspec.structs.replace(row, note=note)


def _quotients(seen: Comparison, scenario: str, arms: tuple[str, str], metric: Metric) -> list[float]:
    return [one / other for one, other in paired(seen, scenario, arms, metric) if other]


def _difference(seen: Comparison, promise: Promise, metric: Metric) -> Ratio | None:
    """Return by how many milliseconds the first arm exceeds the second."""
    pairs = paired(seen, promise.scenario, (promise.arms[0], promise.arms[1]), metric)
    return promise.row([one - other for one, other in pairs])


def _scaling(seen: Comparison, promise: Promise) -> Ratio | None:
    """Return what two workers do against one, by the clock where there are cores for both and for the
    harness."""
    [arm] = promise.arms
    one, two = (seen.rounds.get(f"workers@{count}", {}).get(arm, []) for count in (1, 2))
    rounds = [(a, b) for a, b in zip(one, two, strict=False) if a and b]
    clock, cpu = (
        [factor * metric(b) / metric(a) for a, b in rounds if metric(a)]
        for factor, metric in ((1, requests_rate), (2, requests_per_cpu))
    )
    crowded = len(seen.machine.cpus) < _CORES_FOR_TWO
    besides = median(clock if crowded else cpu) if clock else math.nan
    if crowded:
        note = f"twice the requests per CPU-second, as the harness needs a core; by the clock {besides:,.2f}"
        return promise.row(cpu, note)
    return promise.row(clock, f"by the clock; twice the requests per CPU-second {besides:,.2f}")


def _memory(seen: Comparison, promise: Promise) -> Ratio | None:
    idle = seen.idle.get(promise.scenario, {}).get(promise.arms[0])
    if idle is None:
        return None
    return promise.row([idle.bytes_per_stream / _KIBIBYTE], f"{idle.streams:,} streams, measured once")


def _growth(seen: Comparison, promise: Promise) -> Ratio | None:
    """Return by how much memory grew from the second minute on: by the line through all samples, since what a
    process has resident goes up and down by more than is promised."""
    runs = [one for one in seen.rounds.get(promise.scenario, {}).get(promise.arms[0], []) if one]
    long_enough = [one for one in runs if one.seconds >= _SOAK_SECONDS_MIN]
    if runs and not long_enough:
        note = f"not measured: {runs[-1].seconds:,.0f} s are too short, it takes {_SOAK_SECONDS_MIN:g}"
        return Ratio(figure=promise.figure, unit=promise.unit, goal=promise.goal, note=note)
    grown, note = [], ""
    for run in long_enough:
        settled = [(at, size / _MEBIBYTE) for at, size in run.memory if at >= _SETTLED_SECONDS]
        if len(settled) > 2:
            at, sizes = zip(*settled, strict=True)
            slope, base = linear_regression(at, sizes)
            rest = math.sqrt(sum((size - base - slope * t) ** 2 for t, size in settled) / (len(at) - 2))
            error = rest / (pstdev(at) * math.sqrt(len(at)))
            seconds = run.seconds - _SETTLED_SECONDS
            grown.append(slope * seconds)
            note = f"{seconds / 60:,.1f} minutes after the first, ± {2 * error * seconds:.2f} (95 %)"
    return promise.row(grown, note)


_RATES: tuple[tuple[str, str, float | None], ...] = (
    ("unary", "relay", 0.6),
    ("unary", "nginx", 0.35),
    ("unary", "naive", 15.0),
    ("unary-openai", "ferrogw", 1.5),
    ("unary", "respan-gateway", 1.5),
    ("unary-openai", "portkey", 15.0),
    ("unary-openai", "litellm", 60.0),
)
_EVENT_RATES: tuple[tuple[str, str, float | None], ...] = (
    ("burst", "relay", 0.6),
    ("burst", "naive", None),
    ("burst", "respan-gateway", None),
    ("burst-openai", "ferrogw", None),
    ("burst-openai", "portkey", None),
    ("burst-openai", "litellm", None),
)


def _rows(seen: Comparison, subject: str) -> list[tuple[Promise, Ratio | None]]:
    """Return every promise with its row, in the order in which they are told."""
    told: list[tuple[Promise, Ratio | None]] = []
    for rates, what, metrics in (
        (_RATES, "requests/s", _BY_REQUESTS),
        (_EVENT_RATES, "SSE events/s", _BY_EVENTS),
    ):
        for scenario, other, goal in rates:
            one = Promise(f"{what}, {subject} / {other}", scenario, (subject, other), "x", at_least=goal)
            told.append((one, _rate_ratio(seen, one, metrics)))
    both, alone = (subject, "relay"), (subject, CEILING_ARM)
    paced = Promise(f"paced events per CPU-second, {subject} / relay", "paced", both, "x", at_least=0.6)
    told.append((paced, paced.row(_quotients(seen, "paced", both, events_per_cpu))))
    workers = Promise(f"two workers against one, {subject}", "workers@2", (subject,), "x", at_least=1.7)
    told.append((workers, _scaling(seen, workers)))
    for one, metric in (
        (Promise("added p50 at concurrency 1", "alone", alone, "ms", at_most=0.5), latency_p50),
        (Promise("added p99 at concurrency 1", "alone", alone, "ms", at_most=3.0), latency_p99),
        (Promise("added time to first event p50 over relay", "paced", both, "ms", at_most=1.0), first_p50),
    ):
        told.append((one, _difference(seen, one, metric)))
    for arm, scenario, bound in (
        (subject, "idle", 16.0),
        (subject, "idle-tls", 56.0),
        ("relay", "idle", None),
    ):
        figure = f"memory per idle open stream{', TLS upstream' * (scenario != 'idle')}, {arm}"
        one = Promise(figure, scenario, (arm,), "KiB", at_most=bound)
        told.append((one, _memory(seen, one)))
    growth = Promise(
        f"memory grown after the first minute, {subject}",
        "soak",
        (subject,),
        "MiB",
        at_most=_GROWTH_MEBIBYTES_MAX,
    )
    told.append((growth, _growth(seen, growth)))
    return told


def ratios(seen: Comparison, subject: str = "karta") -> list[Ratio]:
    """Return the promised figures of `subject`, as far as the suite has their scenarios.

    A figure that could not be had is there as well, with the reason.
    """
    if subject not in seen.options.arms:
        return []
    asked = {scenario.name for scenario in seen.scenarios}
    return [
        row if row is not None else promise.missing(seen)
        for promise, row in _rows(seen, subject)
        if row is not None or promise.scenario in asked
    ]
