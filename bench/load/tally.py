"""What a run of load saw: counts, failures by kind, and histograms.  Tallies of several processes add up.

Failures are counted from the first request to the last, warm-up included, since a wrong answer is wrong
whenever it comes; figures of speed only for the window.  A closed loop counts the answers that end in the
window, but times those that were asked for in it, however late they come: a stall at its end would show in
no latency else.  An open loop counts and times the questions that were due in it, however late their answers:
dropping the late ones would hide exactly the stalls it is there to show.
"""

from collections import Counter

import msgspec

from bench.load.answer import Failure
from bench.load.histogram import Histogram

# One example of each kind of failure is kept, cut to this length.
example_characters_max = 300


class TallyReport(msgspec.Struct, kw_only=True):
    """A tally as it travels between processes: histograms as (slot, count) pairs."""

    seconds: float
    requests: int
    events: int
    body_bytes: int
    answers_checked: int
    reconnects: int
    merged_events: int
    waited: int
    left: int
    failures: dict[str, int]
    examples: dict[str, str]
    latency: list[tuple[int, int]]
    first: list[tuple[int, int]]
    gaps: list[tuple[int, int]]
    lateness: list[tuple[int, int]]
    cpu_seconds: float


class Tally:
    """Running totals.

    `latency` is from the intended start to the last byte, `first` to the first byte (unary) or first
    event (stream), `gaps` between events, `lateness` how much later than intended an open loop sent (the
    harness's own error).  `merged_events` counts events that arrived in one read with the event before,
    `waited` the questions of an open loop for which no connection was free, `left` the streams that the
    plan itself had closed in the middle.  `cpu_seconds` are those of the busiest process: a generator is at
    its end when one of its processes is.
    """

    def __init__(self, *, by_start: bool = False) -> None:
        self.counting = False
        self._by_start = by_start
        self._opened_ns = self._closed_ns = 0
        self.seconds = 0.0
        self.requests = 0
        self.events = 0
        self.body_bytes = 0
        self.answers_checked = 0
        self.reconnects = 0
        self.merged_events = 0
        self.waited = 0
        self.left = 0
        self.failures: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.latency = Histogram()
        self.first = Histogram()
        self.gaps = Histogram()
        self.lateness = Histogram()
        self.cpu_seconds = 0.0

    def open_window(self, now_ns: int) -> None:
        """Begin to count."""
        self.counting = True
        self._opened_ns = now_ns

    def close_window(self, now_ns: int) -> None:
        """Count no more, but for answers to questions of the window."""
        self.counting = False
        self._closed_ns = now_ns
        self.seconds = (now_ns - self._opened_ns) / 1e9

    def counts(self, started_ns: int) -> bool:
        """Whether an answer that is here now, to a question due at `started_ns`, belongs to the window."""
        if self._by_start:
            return self.times(started_ns)
        return self.counting

    def times(self, started_ns: int) -> bool:
        """Whether the latency of an answer to a question asked (or due) at `started_ns` is told."""
        return self.counting_from(started_ns) and not 0 < self._closed_ns <= started_ns

    def counting_from(self, started_ns: int) -> bool:
        """Whether the window was open at `started_ns` or had been."""
        return 0 < self._opened_ns <= started_ns

    def fail(self, failure: Failure, example: str) -> None:
        """Count one failure and keep the first example of its kind."""
        self.failures[failure.value] += 1
        self.examples.setdefault(failure.value, example[:example_characters_max])

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def outcomes(self) -> int:
        """What has come of questions so far: answers that count, failures, and streams that were left."""
        return self.requests + self.failed + self.left

    def report(self) -> TallyReport:
        return TallyReport(
            seconds=self.seconds,
            requests=self.requests,
            events=self.events,
            body_bytes=self.body_bytes,
            answers_checked=self.answers_checked,
            reconnects=self.reconnects,
            merged_events=self.merged_events,
            waited=self.waited,
            left=self.left,
            failures=dict(self.failures),
            examples=self.examples,
            latency=self.latency.pairs(),
            first=self.first.pairs(),
            gaps=self.gaps.pairs(),
            lateness=self.lateness.pairs(),
            cpu_seconds=self.cpu_seconds,
        )

    def add(self, report: TallyReport) -> None:
        """Add another process's report; the window is the longest of all, since they run side by side."""
        self.seconds = max(self.seconds, report.seconds)
        self.requests += report.requests
        self.events += report.events
        self.body_bytes += report.body_bytes
        self.answers_checked += report.answers_checked
        self.reconnects += report.reconnects
        self.merged_events += report.merged_events
        self.waited += report.waited
        self.left += report.left
        self.failures.update(report.failures)
        for kind, example in report.examples.items():
            self.examples.setdefault(kind, example)
        self.latency.add_pairs(report.latency)
        self.first.add_pairs(report.first)
        self.gaps.add_pairs(report.gaps)
        self.lateness.add_pairs(report.lateness)
        self.cpu_seconds = max(self.cpu_seconds, report.cpu_seconds)
