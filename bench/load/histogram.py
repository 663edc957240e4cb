"""A log-linear histogram of durations, after HdrHistogram.

Values are nanoseconds.  Below `_LINEAR` a value has a slot of its own; above, each power of two is divided
into `_LINEAR / 2` slots, so that a slot is never wider than 1/128 of its value and percentiles are right
within 1 %. Memory is bounded by the slots that a day of nanoseconds can reach (about 5,000) however much is
recorded, and histograms of several processes add up exactly.  Ours, because the PyPI package brings pbr and
setuptools along as run-time dependencies for what is one page here.
"""

import math
from collections.abc import Iterable

_LINEAR_BITS = 8
_LINEAR = 1 << _LINEAR_BITS
_HALF_BITS = _LINEAR_BITS - 1
# One day.  A longer duration is a broken clock, and counts as a day.
duration_ns_max = 86_400 * 10**9


def slot_of(value: int) -> int:
    """Return the slot number of a value of 0 to `duration_ns_max`."""
    shift = value.bit_length() - _LINEAR_BITS
    if shift <= 0:
        return value
    return (shift << _HALF_BITS) + (value >> shift)


def middle_of(slot: int) -> int:
    """Return the value that stands for all values of a slot: its middle."""
    if slot < _LINEAR:
        return slot
    shift = (slot >> _HALF_BITS) - 1
    low = (slot - (shift << _HALF_BITS)) << shift
    return low + (1 << shift >> 1)


_SLOTS = slot_of(duration_ns_max) + 1


class Histogram:
    """Counts of durations in nanoseconds; negative ones (clock noise) count as zero."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * _SLOTS
        self.total = 0

    def record(self, value: int, count: int = 1) -> None:
        """Add `count` durations of `value` nanoseconds."""
        # Written out instead of calling slot_of: this runs once or more for every event of a stream.
        if value < _LINEAR:
            slot = max(value, 0)
        elif value > duration_ns_max:
            slot = _SLOTS - 1
        else:
            shift = value.bit_length() - _LINEAR_BITS
            slot = (shift << _HALF_BITS) + (value >> shift)
        self._counts[slot] += count
        self.total += count

    def percentile(self, percent: float) -> float:
        """Return the duration (nanoseconds) that `percent` of all do not exceed; NaN if there are none."""
        if not self.total:
            return math.nan
        rank = max(1, math.ceil(self.total * percent / 100))
        seen = 0
        for slot, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return float(middle_of(slot))
        raise AssertionError("total counts more than the slots hold")

    def above(self, value: int) -> int:
        """Return how many durations were longer than `value` nanoseconds, within the width of a slot."""
        return sum(self._counts[slot_of(value) + 1 :])

    def mean(self) -> float:
        """Return the mean duration in nanoseconds; NaN if there are none."""
        if not self.total:
            return math.nan
        return sum(middle_of(slot) * count for slot, count in enumerate(self._counts) if count) / self.total

    def add(self, other: "Histogram") -> None:
        """Add all that the other one recorded."""
        self.add_pairs(other.pairs())

    def pairs(self) -> list[tuple[int, int]]:
        """Return (slot, count) of the slots in use: the form in which a histogram travels."""
        return [(slot, count) for slot, count in enumerate(self._counts) if count]

    def add_pairs(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Add what `pairs` of another histogram says; ValueError for a slot that does not exist."""
        for slot, count in pairs:
            if not (0 <= slot < _SLOTS and count >= 0):
                raise ValueError(
                    f"no histogram has {count} values in slot {slot}; was it made by this version?"
                )
            self._counts[slot] += count
            self.total += count
