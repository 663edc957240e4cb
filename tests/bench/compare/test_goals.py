"""What is promised is told whole: ratios of the same round, by CPU time where the harness is the limit."""

import math

import msgspec
import pytest

from bench.compare.goals import Ratio, ratios
from bench.compare.suite import load_suite
from bench.load.summary import Summary
from tests.bench.compare.seen import comparison, idle, summary


def by_figure(found: list[Ratio]) -> dict[str, Ratio]:
    return {row.figure: row for row in found}


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine was twice as fast in the second round; the third round has only one of both.
    seen = comparison(
        {
            "unary": {
                "karta": [summary(rate=50), summary(rate=120), summary(rate=70)],
                "relay": [summary(rate=100), summary(rate=200), None],
            }
        }
    )
    row = by_figure(ratios(seen))["requests/s, karta / relay"]
    assert row.value == pytest.approx(0.55)
    assert (row.low, row.high) == (0.5, 0.6)
    assert row.goal == "≥ 0.6"
    assert row.met is False
    assert row.note == "by the clock"


def test_added_latency_is_over_direct_and_first_events_over_the_relay() -> None:
    seen = comparison(
        {
            "alone": {"direct": [summary(p50=0.1, p99=0.2)], "karta": [summary(p50=0.5, p99=4.0)]},
            "paced": {"relay": [summary(p50=1.0)], "karta": [summary(p50=1.5)]},
        }
    )
    found = by_figure(ratios(seen))
    assert found["added p50 at concurrency 1"].value == pytest.approx(0.4)
    assert found["added p50 at concurrency 1"].met is True
    assert found["added p99 at concurrency 1"].met is False
    assert found["added time to first event p50 over relay"].value == pytest.approx(0.5)


def test_events_and_memory() -> None:
    seen = comparison(
        {
            "burst": {"relay": [summary(rate=100, events=True)], "karta": [summary(rate=70, events=True)]},
            "paced": {
                "relay": [summary(rate=100, cpu_seconds=0.2, events=True)],
                "karta": [summary(rate=100, cpu_seconds=0.4, events=True)],
            },
        },
        idle={"idle": {"karta": idle(12 * 1024), "relay": idle(6 * 1024)}},
    )
    found = by_figure(ratios(seen))
    assert found["SSE events/s, karta / relay"].value == pytest.approx(0.7)
    assert found["paced events per CPU-second, karta / relay"].value == pytest.approx(0.5)
    assert found["memory per idle open stream, karta"].value == 12
    assert found["memory per idle open stream, karta"].met is True
    assert found["memory per idle open stream, relay"].met is None


def test_two_workers_are_counted_by_cpu_time_where_the_harness_needs_the_second_core() -> None:
    rounds: dict[str, dict[str, list[Summary | None]]] = {
        "workers@1": {"karta": [summary(rate=100, cpu_seconds=1.0)]},
        "workers@2": {"karta": [summary(rate=110, cpu_seconds=1.2)]},
    }
    crowded = by_figure(ratios(comparison(dict(rounds))))["two workers against one, karta"]
    assert crowded.value == pytest.approx(2 * (110 / 1.2) / 100)
    assert "CPU-second" in crowded.note
    wide = comparison(dict(rounds))
    wide.machine = msgspec.structs.replace(wide.machine, cpus=[0, 1, 2])
    assert by_figure(ratios(wide))["two workers against one, karta"].value == pytest.approx(1.1)


def test_peers_are_judged_in_the_api_they_speak() -> None:
    seen = comparison(
        {
            "unary": {"karta": [summary(rate=40)], "respan-gateway": [summary(rate=20)]},
            "unary-openai": {"karta": [summary(rate=30)], "ferrogw": [summary(rate=30)]},
        }
    )
    found = by_figure(ratios(seen))
    assert found["requests/s, karta / respan-gateway"].met is True
    assert found["requests/s, karta / ferrogw"].met is False


def test_where_the_harness_is_the_limit_cpu_time_decides_and_the_clock_is_told() -> None:
    seen = comparison(
        {
            "unary": {
                "direct": [summary(rate=1000)],
                "relay": [summary(rate=950, cpu_seconds=0.5)],
                "karta": [summary(rate=800, cpu_seconds=1.0)],
            }
        }
    )
    row = by_figure(ratios(seen))["requests/s, karta / relay"]
    assert row.value == pytest.approx(800 / 1900)
    assert row.note == "per CPU-second, as the harness limits relay; by the clock 0.84"


def test_every_row_of_the_headline_is_told_even_if_nothing_was_measured() -> None:
    suite = load_suite("headline")
    seen = comparison({})
    seen.scenarios = suite.scenarios()
    seen.options = msgspec.structs.replace(seen.options, arms=suite.arms)
    seen.unavailable = {"litellm": "litellm is not installed: karta bench install litellm"}
    found = ratios(seen)
    with_goals = [row for row in found if row.goal]
    # Seven peers, two of events, workers, two of latency, first events, two of memory, growth.
    assert len(with_goals) == 16
    assert all(math.isnan(row.value) and row.met is None for row in found)
    rows = by_figure(found)
    assert "karta bench install litellm" not in rows["requests/s, karta / relay"].note
    assert rows["memory grown after the first minute, karta"].note.startswith("not measured: karta has no")


def test_why_a_figure_is_missing_is_told() -> None:
    seen = comparison(
        {
            "unary": {"karta": [summary(rate=10)], "nginx": [None]},
            "unary-openai": {"karta": [summary(rate=10)]},
        }
    )
    seen.options = msgspec.structs.replace(seen.options, arms=["karta", "nginx", "litellm", "portkey"])
    seen.unavailable = {"litellm": "litellm is not installed: karta bench install litellm"}
    seen.declined = {"unary-openai": {"portkey": "status 500"}}
    rows = by_figure(ratios(seen))
    assert rows["requests/s, karta / nginx"].note.startswith("not measured: nginx has no right figures")
    assert "not installed" in rows["requests/s, karta / litellm"].note
    assert rows["requests/s, karta / portkey"].note == "not measured: portkey: status 500"
    assert rows["requests/s, karta / relay"].note == "not measured: relay was not asked for (--arms)"


def test_without_its_subject_nothing_is_promised() -> None:
    assert ratios(comparison({"unary": {"relay": [summary(rate=1)]}})) == []


def soaked(seconds: float, after: list[tuple[float, int]]) -> Ratio:
    run = msgspec.structs.replace(summary(rate=10), seconds=seconds, memory=after)
    seen = comparison({"soak": {"karta": [run]}})
    return by_figure(ratios(seen))["memory grown after the first minute, karta"]


def test_growth_is_from_the_second_minute_to_the_last() -> None:
    mebibyte = 1024**2
    # It grows in the first minute, which is no matter, and by half a MiB a minute afterwards.
    steep = [
        (float(at), (50 + min(at, 60)) * mebibyte + max(0, at - 60) * mebibyte // 120)
        for at in range(0, 600, 3)
    ]
    row = soaked(600.0, steep)
    assert row.value == pytest.approx(4.5, abs=0.1)
    assert row.met is False
    assert row.note == "9.0 minutes after the first, ± 0.00 (95 %)"
    flat = [(at, min(size, 110 * mebibyte)) for at, size in steep]
    assert soaked(600.0, flat).met is True
    assert soaked(100.0, flat).met is None
    assert "too short" in soaked(100.0, flat).note
    # By more than a MiB up and down, as the allocator takes and gives.
    for samples, met in ((flat, True), (steep, False)):
        uneven = [
            (at, size + (-3, 0, 3, 1)[index % 4] * mebibyte) for index, (at, size) in enumerate(samples)
        ]
        assert soaked(600.0, uneven).met is met
