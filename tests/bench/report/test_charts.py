"""Curves are medians, one line an arm, and none where there is nothing to draw."""

import msgspec

from bench.compare.comparison import Comparison
from bench.load.summary import Percentiles, Summary, spectrum_percents
from bench.report.charts import (
    distribution_charts,
    families,
    family_charts,
    frontier,
    memory_charts,
)
from tests.bench.compare.seen import comparison, summary


def spread(start: float, memory: list[tuple[float, int]] | None = None, *, events: bool = False) -> Summary:
    """A run whose latency grows by 1 ms with each of the percentiles."""
    values = [start + number for number in range(len(spectrum_percents))]
    told = Percentiles(p50=values[3], p90=0, p99=values[7], p999=0, mean=0, spectrum=values)
    return msgspec.structs.replace(
        summary(rate=10 * start, events=events),
        latency_ms=told,
        first_ms=told,
        gap_ms=told,
        memory=memory or [],
    )


def seen_load() -> Comparison:
    return comparison(
        {
            "unary": {"direct": [spread(1)], "karta": [spread(3), spread(5), None]},
            "load@50": {"direct": [spread(1)], "karta": [spread(2)]},
            "load@100": {"direct": [spread(2)], "karta": [None]},
            "load@5000": {"direct": [spread(4)], "karta": [None]},
        }
    )


def test_a_sweep_is_a_curve_of_each_figure() -> None:
    seen = seen_load()
    [(name, points)] = families(seen).items()
    assert (name, [point.at for point in points]) == ("load", [50, 100, 5000])
    by_title = {chart.title: chart for chart in family_charts(seen, points)}
    p50 = by_title["p50 ms"]
    assert (p50.x.scale, p50.y.scale, p50.x.label) == ("log", "log", "rate")
    direct, karta = p50.lines
    assert (direct.arm, direct.x, direct.y) == ("direct", [50, 100, 5000], [4, 5, 7])
    assert (karta.arm, karta.x) == ("karta", [50])


def test_the_frontier_is_latency_at_the_rate_that_was_reached() -> None:
    [chart] = frontier(seen_load())
    assert chart.points
    direct, karta = chart.lines
    assert direct.x == [10, 10, 20, 40]
    assert karta.x == [20, 40]


def test_what_is_added_is_over_direct_at_each_percentile() -> None:
    seen = seen_load()
    [chart] = distribution_charts(seen, seen.scenarios[0])
    [line] = chart.lines
    assert line.arm == "karta"
    assert set(line.y) == {3}
    assert max(line.x) < 100
    # Beside one that adds far more, by decades; and below 0 there are none.
    assert chart.y.scale == "linear"
    far = comparison({"unary": {"direct": [spread(1)], "karta": [spread(3)], "naive": [spread(900)]}})
    assert distribution_charts(far, far.scenarios[0])[0].y.scale == "log"
    near = comparison({"unary": {"direct": [spread(5)], "karta": [spread(3)], "naive": [spread(900)]}})
    assert distribution_charts(near, near.scenarios[0])[0].y.scale == "linear"
    alone = comparison({"unary": {"karta": [spread(3)]}})
    [chart] = distribution_charts(alone, alone.scenarios[0])
    assert (chart.title, chart.lines[0].y[0]) == ("latency", 3)


def test_streams_have_their_gaps_too() -> None:
    seen = comparison({"burst": {"direct": [spread(1, events=True)], "relay": [spread(2, events=True)]}})
    assert [chart.title for chart in distribution_charts(seen, seen.scenarios[0])] == [
        "added first event",
        "between events",
    ]


def test_memory_is_that_of_the_last_round() -> None:
    rounds = [spread(1, [(0.0, 1), (1.0, 1)]), spread(1, [(0.0, 2**20), (1.0, 2**21)]), None]
    seen = comparison({"unary": {"karta": rounds, "direct": [spread(1)]}})
    [chart] = memory_charts(seen, seen.scenarios[0])
    [line] = chart.lines
    assert (line.arm, line.x, line.y) == ("karta", [0.0, 1.0], [1.0, 2.0])
