"""A change is told with how sure it is: wide for few rounds, and never surer than it is."""

import math
import random

import pytest

from bench.compare.comparison import Comparison
from bench.report.diff import changes, ratio_interval
from tests.bench.compare.seen import comparison, summary


def test_the_interval_is_welchs() -> None:
    # By hand: variance 0.01 on each side, so the error is sqrt(0.02 / 3), with 4 degrees of freedom.
    first, second = ([math.exp(x) for x in side] for side in ((0, 0.1, 0.2), (0.5, 0.6, 0.7)))
    found = ratio_interval(first, second)
    assert found is not None
    reach = 2.776 * math.sqrt(0.02 / 3)
    assert found == pytest.approx((math.exp(0.5), math.exp(0.5 - reach), math.exp(0.5 + reach)))


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(2000):
        first, second = ([chance.lognormvariate(0.0, 0.1) for _ in range(3)] for _ in range(2))
        found = ratio_interval(first, second)
        assert found is not None
        held += found[1] <= 1 <= found[2]
    assert 0.94 < held / 2000 < 0.99


def test_rounds_that_agree_to_a_slot_of_the_histogram_prove_no_change_of_a_slot() -> None:
    found = ratio_interval([1.0, 1.0], [1.0 + 1 / 128, 1.0 + 1 / 128])
    assert found is not None
    assert found[1] < 1 < found[2]


@pytest.mark.parametrize("sides", [([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 2.0])])
def test_without_enough_to_go_by_nothing_is_said(sides: tuple[list[float], list[float]]) -> None:
    assert ratio_interval(*sides) is None


def run(rates: list[float], relay: list[float], p50: float) -> Comparison:
    return comparison(
        {
            "unary": {
                "relay": [summary(rate=rate) for rate in relay],
                "karta": [
                    summary(rate=rate, p50=p50 * (1 + number / 100)) for number, rate in enumerate(rates)
                ],
            }
        }
    )


def test_what_changed_is_told_with_its_direction() -> None:
    first, second = run([100, 101, 99], [200, 202, 198], 2.0), run([150, 151, 149], [200, 199, 201], 3.0)
    found = {(change.arm, change.figure): change for change in changes(first, second)}
    faster = found["karta", "requests/s"]
    assert faster.ratio == pytest.approx(1.5, rel=0.01)
    assert faster.low < 1.5 < faster.high
    assert faster.better is True
    assert found["karta", "p50 ms"].better is False
    assert found["relay", "requests/s"].better is None


def test_another_arm_takes_the_machines_mood_out() -> None:
    first, second = run([100, 110, 90], [200, 220, 180], 2.0), run([50, 55, 45], [100, 110, 90], 2.0)
    [change] = [
        change for change in changes(first, second, relative_to="relay") if change.figure == "requests/s"
    ]
    assert change.arm == "karta"
    assert change.ratio == pytest.approx(1.0)
    assert change.better is None
