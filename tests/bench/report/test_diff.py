"""A change is told with how sure it is: wide for few rounds, and never surer than it is."""

import math
import random

import msgspec
import pytest

from bench.compare.comparison import Comparison
from bench.load.summary import Summary
from bench.report.diff import change_of, changes, difference_interval, ratio_interval
from tests.bench.compare.seen import comparison, idle, summary


def test_the_interval_is_welchs() -> None:
    # By hand: variance 0.01 on each side, so the error is sqrt(0.02 / 3), with 4 degrees of freedom.
    first, second = ([math.exp(x) for x in side] for side in ((0, 0.1, 0.2), (0.5, 0.6, 0.7)))
    found = ratio_interval(first, second)
    reach = 2.776 * math.sqrt(0.02 / 3)
    assert found == pytest.approx((math.exp(0.5), math.exp(0.5 - reach), math.exp(0.5 + reach)))


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(2000):
        first, second = ([chance.lognormvariate(0.0, 0.1) for _ in range(3)] for _ in range(2))
        _, low, high = ratio_interval(first, second)
        assert low is not None
        assert high is not None
        held += low <= 1 <= high
    assert 0.94 < held / 2000 < 0.99


def test_rounds_that_agree_to_a_slot_of_the_histogram_prove_no_change_of_a_slot() -> None:
    _, low, high = ratio_interval([1.0, 1.0], [1.0 + 1 / 128, 1.0 + 1 / 128])
    assert low is not None
    assert high is not None
    assert low < 1 < high


ABOUT = {"scenario": "burst", "arm": "karta", "figure": "stalls", "more_is_better": False}


def test_one_round_has_values_and_no_interval() -> None:
    change = change_of([1.0], [1.0, 4.0], **ABOUT)
    assert (change.first, change.second, change.ratio) == pytest.approx((1.0, 2.0, 2.0))
    assert (change.low, change.high, change.sure, change.better) == (None, None, False, None)


def test_of_nothing_the_difference_is_told() -> None:
    change = change_of([0.0, 0.0, 0.0], [40.0, 50.0, 45.0], counted=True, **ABOUT)
    assert (change.first, change.second, change.ratio, change.difference) == (0, 45, None, 45)
    assert change.low is not None
    assert 20 < change.low < 45
    assert change.better is False
    back = change_of([40.0, 50.0, 45.0], [0.0, 0.0, 0.0], counted=True, **ABOUT)
    assert (back.difference, back.better) == (-45, True)


def test_the_interval_of_differences_is_welchs() -> None:
    # As above, on the values themselves.
    found = difference_interval([0, 0.1, 0.2], [0.5, 0.6, 0.7])
    reach = 2.776 * math.sqrt(0.02 / 3)
    assert found == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))


def test_a_few_rare_events_prove_nothing() -> None:
    assert not change_of([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], counted=True, **ABOUT).sure
    assert change_of([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], **ABOUT).sure
    same = change_of([0.0, 0.0], [0.0, 0.0], counted=True, **ABOUT)
    assert (same.difference, same.low, same.high, same.sure) == (0, 0, 0, False)


def test_figures_that_are_zero_in_one_run_are_told() -> None:
    def stalled(*counts: int) -> Comparison:
        rounds: list[Summary | None] = [
            msgspec.structs.replace(summary(rate=100, events=True), stalls=count) for count in counts
        ]
        return comparison({"burst": {"karta": rounds}})

    [change] = [
        change for change in changes(stalled(0, 0, 0), stalled(90, 80, 100)) if change.figure == "stalls"
    ]
    assert (change.first, change.second, change.better) == (0, 90, False)


def test_memory_of_idle_streams_is_told_though_it_is_measured_once() -> None:
    first, second = (comparison({}, idle={"idle": {"karta": idle(size)}}) for size in (1024, 3072))
    [change] = changes(first, second)
    assert (change.scenario, change.figure, change.sure) == ("idle", "KiB a stream", False)
    assert (change.first, change.second, change.ratio) == pytest.approx((1, 3, 3))


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
    assert faster.low is not None
    assert faster.high is not None
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
