"""How long requests take, stage by stage: histograms of plain numbers, of each provider.

A request is observed once, when its usage row is made, from the times that the row tells; nothing is measured
for the figures' sake but when the request had been sent. An observation is a bisection and two additions,
written out where it is made, since a call would cost as much again.

The stages overlap where the work does:

    verify       from a request's arrival until its key was known (on the lane, which has no more precise
                 times: until it was sent)
    queue        until its limits had room, where it had to wait for that
    dial         waiting for a connection to the provider, where none was idle
    added        Karta's own: from the moment the request was here until it had been sent, less `dial`
    first_byte   from arrival until the answer's head was here, where one came
    total        from arrival until the answer's end

Bounds: `BOUNDS_US` buckets; providers are named by the configuration, and of more than `PROVIDERS_MAX` the
rest are counted together. Statuses are three digits.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_US: Final[tuple[int, ...]] = (
    *(50, 100, 200, 500),
    *(1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000, 300_000_000),
)
"""Upper bounds of the buckets, in microseconds; one more is without bound. Of no length that the type tells:
compiled, a tuple of a known length is made anew each time it is handed to somebody."""
PROVIDERS_MAX: Final = 32
OTHERS: Final = "other"


class Histogram:
    """Counts of durations."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        """By bucket, not added up."""
        self.sum_us = 0

    def add(self, us: int) -> None:
        self.counts[bisect_left(BOUNDS_US, us)] += 1
        self.sum_us += us

    def plus(self, other: Histogram) -> Histogram:
        """Both together, in another one."""
        found = Histogram()
        found.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        found.sum_us = self.sum_us + other.sum_us
        return found


class Stages:
    """Of one provider."""

    __slots__ = ("added", "dial", "ends", "first_byte", "lane", "queue", "total", "verify")

    def __init__(self) -> None:
        self.verify = Histogram()
        self.queue = Histogram()
        self.dial = Histogram()
        self.added = Histogram()
        self.first_byte = Histogram()
        self.total = Histogram()
        self.lane = Histogram()
        """`verify` and `added` in one, of requests for which they are the same."""
        self.ends: dict[tuple[str, int], int] = {}
        """Requests by outcome and status (0: there was no answer)."""

    def by_name(self) -> dict[str, Histogram]:
        return {
            "verify": self.verify.plus(self.lane),
            "queue": self.queue,
            "dial": self.dial,
            "added": self.added.plus(self.lane),
            "first_byte": self.first_byte,
            "total": self.total,
        }


class AllStages:
    """Of all providers of one worker."""

    def __init__(self) -> None:
        self.by_provider: dict[str, Stages] = {}

    def of(self, provider: str) -> Stages:
        """Those of one provider, by its name."""
        found = self.by_provider.get(provider)
        return self._begin(provider) if found is None else found

    def _begin(self, provider: str) -> Stages:
        if len(self.by_provider) >= PROVIDERS_MAX:
            provider = OTHERS
        return self.by_provider.setdefault(provider, Stages())

    def observe(
        self,
        provider: str,
        outcome: str,
        status: int,
        verify_us: int,
        queue_us: int,
        dial_us: int,
        added_us: int,
        first_byte_us: int,
        total_us: int,
    ) -> None:
        """One request has ended. What is 0 did not take place, but for `total`, which always does."""
        found = self.by_provider.get(provider)
        stages = self.of(provider) if found is None else found
        end = (outcome, status)
        stages.ends[end] = stages.ends.get(end, 0) + 1
        one = stages.total
        one.counts[bisect_left(BOUNDS_US, total_us)] += 1
        one.sum_us += total_us
        if first_byte_us > 0:
            one = stages.first_byte
            one.counts[bisect_left(BOUNDS_US, first_byte_us)] += 1
            one.sum_us += first_byte_us
        if verify_us == added_us and added_us > 0:
            one = stages.lane
            one.counts[bisect_left(BOUNDS_US, added_us)] += 1
            one.sum_us += added_us
            return
        for us, rare in (
            (verify_us, stages.verify),
            (queue_us, stages.queue),
            (dial_us, stages.dial),
            (added_us, stages.added),
        ):
            if us > 0:
                rare.add(us)
