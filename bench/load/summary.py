"""The figures of one run, as they are printed and written to JSON."""

import math

import msgspec

from bench.load.histogram import Histogram
from bench.load.run import LoadResult

# A generator that uses this much of its core may itself be the limit.
generator_busy_share = 0.9
_NANOSECONDS_PER_MILLISECOND = 1e6
# An event that comes so much later than it could is what a reader notices.
stall_ms = 200
spectrum_percents = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    mean: float
    max: float = 0.0
    spectrum: list[float] = []
    """At each of `spectrum_percents`, for a plot of the whole distribution."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed.

    `first_ms` is the time to the first byte (unary) or first event (stream), `gap_ms` the time between
    events, `lateness_ms` how much later than intended an open loop asked.  `target_*` are None if no
    process was watched.  `waited_share` is of the questions of an open loop that found no connection
    free.  `ok` means that every answer was right and that there was at least one.  `stalls` are the gaps
    between events that were `stall_ms` longer than the provider's pace, `left` the streams that the harness
    itself had closed.  `memory` has the target's resident bytes over the window, as (second, bytes).
    """

    seconds: float
    requests: int
    requests_per_second: float
    events: int
    events_per_second: float
    body_bytes: int
    answers_checked: int
    failures: dict[str, int]
    examples: dict[str, str]
    reconnects: int
    merged_events_share: float
    waited_share: float
    latency_ms: Percentiles | None
    first_ms: Percentiles | None
    gap_ms: Percentiles | None
    lateness_ms: Percentiles | None
    generator_cpu_share: float
    target_cpu_seconds: float | None
    target_cpu_share: float | None
    target_resident_bytes: int | None
    stalls: int = 0
    left: int = 0
    memory: list[tuple[float, int]] = []
    target_starved_share: float | None = None
    """Of the window, how long the target waited for a core that others had."""
    harness_cpu_share: float | None = None
    """Of the window, how long each of the harness's cores was busy, on average: the generator, the provider,
    and what else was at work there."""

    @property
    def ok(self) -> bool:
        return not self.failures and self.answers_checked > 0

    @property
    def requests_per_cpu_second(self) -> float:
        """What the target could do if it had its core for itself; NaN if it was not watched."""
        return self.requests / self.target_cpu_seconds if self.target_cpu_seconds else math.nan

    @property
    def events_per_cpu_second(self) -> float:
        """As `requests_per_cpu_second`, for the events of streams."""
        return self.events / self.target_cpu_seconds if self.target_cpu_seconds else math.nan


def percentiles(histogram: Histogram) -> Percentiles | None:
    """Return a histogram's percentiles in milliseconds, None if it is empty."""
    if not histogram.total:
        return None
    spectrum = [histogram.percentile(percent) / _NANOSECONDS_PER_MILLISECOND for percent in spectrum_percents]
    at = dict(zip(spectrum_percents, spectrum, strict=True))
    return Percentiles(
        p50=at[50.0],
        p90=at[90.0],
        p99=at[99.0],
        p999=at[99.9],
        mean=histogram.mean() / _NANOSECONDS_PER_MILLISECOND,
        max=at[100.0],
        spectrum=spectrum,
    )


def summarize(result: LoadResult, *, pace_ms: float) -> Summary:
    """Return the figures of a run; `pace_ms` is how long the provider waited between two events."""
    tally = result.tally
    seconds = tally.seconds or math.nan
    spent = result.target_cpu_seconds
    return Summary(
        seconds=tally.seconds,
        requests=tally.requests,
        requests_per_second=tally.requests / seconds,
        events=tally.events,
        events_per_second=tally.events / seconds,
        body_bytes=tally.body_bytes,
        answers_checked=tally.answers_checked,
        failures=dict(tally.failures),
        examples=tally.examples,
        reconnects=tally.reconnects,
        merged_events_share=tally.merged_events / tally.events if tally.events else 0.0,
        waited_share=tally.waited / tally.requests if tally.requests else 0.0,
        latency_ms=percentiles(tally.latency),
        first_ms=percentiles(tally.first),
        gap_ms=percentiles(tally.gaps),
        lateness_ms=percentiles(tally.lateness),
        generator_cpu_share=tally.cpu_seconds / seconds,
        target_cpu_seconds=spent,
        target_cpu_share=None if spent is None else spent / seconds,
        target_resident_bytes=result.target_resident_bytes,
        stalls=tally.gaps.above(int((pace_ms + stall_ms) * _NANOSECONDS_PER_MILLISECOND)),
        left=tally.left,
        memory=list(result.memory),
        target_starved_share=None
        if result.target_starved_seconds is None
        else result.target_starved_seconds / seconds,
        harness_cpu_share=None
        if result.harness_busy_seconds is None
        else result.harness_busy_seconds / (seconds * result.harness_cores),
    )
