"""Percentiles within 1 %, in bounded memory, and sums that are exact."""

import math
import random
from itertools import pairwise

import pytest

from bench.load.histogram import Histogram, duration_ns_max, middle_of, slot_of


def test_slots_follow_each_other_and_stand_for_their_values() -> None:
    values = [*range(5000), *(random.Random(1).randrange(duration_ns_max) for _ in range(5000))]
    slots = [slot_of(value) for value in range(5000)]
    assert all(0 <= after - before <= 1 for before, after in pairwise(slots))
    for value in values:
        assert abs(middle_of(slot_of(value)) - value) <= value / 128


@pytest.mark.parametrize("percent", [0.1, 50, 90, 99, 99.9, 100])
def test_percentiles_are_right_within_one_percent(percent: float) -> None:
    generator = random.Random(2)
    values = sorted(int(generator.lognormvariate(14, 2)) for _ in range(20_000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = values[max(1, math.ceil(len(values) * percent / 100)) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.01)
    assert histogram.mean() == pytest.approx(sum(values) / len(values), rel=0.01)


def test_record_puts_values_where_slot_of_says() -> None:
    for value in (0, 255, 256, 257, 10**6, duration_ns_max, duration_ns_max * 2, -5):
        histogram = Histogram()
        histogram.record(value, 3)
        assert histogram.pairs() == [(slot_of(min(max(value, 0), duration_ns_max)), 3)]


def test_nothing_recorded_is_not_a_number() -> None:
    assert math.isnan(Histogram().percentile(50))
    assert math.isnan(Histogram().mean())


def test_histograms_of_two_processes_add_up() -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    for value in range(1000):
        (one if value % 3 else other).record(value * 1000)
        both.record(value * 1000)
    one.add(other)
    assert one.pairs() == both.pairs()
    assert one.total == 1000


@pytest.mark.parametrize("pair", [(10**6, 1), (-1, 1), (5, -1)])
def test_foreign_pairs_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="this version"):
        Histogram().add_pairs([pair])


def test_those_above_a_bound_are_counted() -> None:
    histogram = Histogram()
    for value in (1_000_000, 199_000_000, 201_500_000, 900_000_000):
        histogram.record(value)
    assert histogram.above(200_000_000) == 2
    assert histogram.above(2_000_000_000) == 0
