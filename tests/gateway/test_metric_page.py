"""Figures of several workers as one page."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metric_page import Family, counters, merge, numbers_of, render
from gateway.stages import BOUNDS_US, Histogram

REQUESTS = Family("requests_total", "counter", "Requests.", "sum", {"": 3.0})
LISTENING = Family("listening", "gauge", "Hears.", "min", {"": 1.0})
FULL = Family("full", "gauge", "Full.", "max", {"": 0.0})
MEMORY = Family("memory", "gauge", "Of each.", "each", {"": 10.0})
LABELLED = Family("ends_total", "counter", "By end.", "sum", {'end="good"': 1.0, 'end="bad"': 2.0})


TIMES = Histogram()
for _us in (40, 60, 60, 10**12):
    TIMES.add(_us)
HISTOGRAM = Family("stage_seconds", "histogram", "Times.", "sum", {}, {'stage="total"': numbers_of(TIMES)})


def of(family: Family, **samples: float) -> Family:
    return Family(family.name, family.kind, family.help, family.merge, samples or {"": 5.0})


def test_a_page() -> None:
    assert render([REQUESTS, LABELLED]) == (
        b"# HELP karta_gateway_requests_total Requests.\n"
        b"# TYPE karta_gateway_requests_total counter\n"
        b"karta_gateway_requests_total 3\n"
        b"# HELP karta_gateway_ends_total By end.\n"
        b"# TYPE karta_gateway_ends_total counter\n"
        b'karta_gateway_ends_total{end="good"} 1\n'
        b'karta_gateway_ends_total{end="bad"} 2\n'
    )


def test_a_count_is_told_to_its_last_digit() -> None:
    """Rates are differences of counts."""
    assert b"_total 123456789\n" in render([Family("a_total", "counter", "", "sum", {"": 123456789.0})])


def test_each_is_merged_by_its_own_rule() -> None:
    zero = Family("listening", "gauge", "Hears.", "min", {"": 0.0})
    one = Family("full", "gauge", "Full.", "max", {"": 1.0})
    merged = merge(
        [("0", [REQUESTS, LISTENING, FULL, MEMORY, LABELLED]), ("1", [of(REQUESTS), zero, one, of(MEMORY)])]
    )
    assert {family.name: family.samples for family in merged} == {
        "requests_total": {"": 8.0},
        "listening": {"": 0.0},
        "full": {"": 1.0},
        "memory": {'worker="0"': 10.0, 'worker="1"': 5.0},
        "ends_total": {'end="good"': 1.0, 'end="bad"': 2.0},
    }


def test_labels_are_kept_beside_the_worker_s() -> None:
    family = Family("lag", "gauge", "", "each", {'q="99"': 1.0})
    assert merge([("0", [family])])[0].samples == {'q="99",worker="0"': 1.0}


def test_what_a_worker_counted_outlives_it() -> None:
    last_word = counters([REQUESTS, LISTENING, MEMORY])
    assert last_word == [REQUESTS]
    retired = merge([("", last_word), ("", last_word)])
    assert merge([("0", [REQUESTS]), ("", retired)])[0].samples == {"": 9.0}


def test_a_histogram_adds_up_as_its_readers_expect() -> None:
    (family,) = text_string_to_metric_families(render([HISTOGRAM]).decode())
    assert (family.name, family.type) == ("karta_gateway_stage_seconds", "histogram")
    buckets = {float(one.labels["le"]): one.value for one in family.samples if one.name.endswith("_bucket")}
    assert list(buckets) == [*(bound / 1_000_000 for bound in BOUNDS_US), float("inf")]
    assert list(buckets.values()) == sorted(buckets.values())
    assert (buckets[0.00005], buckets[0.0001], buckets[300.0], buckets[float("inf")]) == (1, 3, 3, 4)
    others = {one.name.rpartition("_")[2]: one.value for one in family.samples if "le" not in one.labels}
    assert others == {"sum": pytest.approx(1_000_000.00016), "count": 4}
    assert all(one.labels["stage"] == "total" for one in family.samples)


def test_histograms_of_several_workers_are_added_and_outlive_them() -> None:
    other = Family("stage_seconds", "histogram", "Times.", "sum", {}, {'stage="dial"': numbers_of(TIMES)})
    (merged,) = merge([("0", [HISTOGRAM]), ("1", counters([HISTOGRAM])), ("", [other])])
    assert merged.counts['stage="total"'] == [2 * number for number in numbers_of(TIMES)]
    assert merged.counts['stage="dial"'] == numbers_of(TIMES)
    # What was merged is not changed by it.
    assert HISTOGRAM.counts['stage="total"'] == numbers_of(TIMES)
