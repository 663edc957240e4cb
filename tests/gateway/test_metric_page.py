"""Figures of several workers as one page."""

from __future__ import annotations

from gateway.metric_page import Family, counters, merge, render

REQUESTS = Family("requests_total", "counter", "Requests.", "sum", {"": 3.0})
LISTENING = Family("listening", "gauge", "Hears.", "min", {"": 1.0})
FULL = Family("full", "gauge", "Full.", "max", {"": 0.0})
MEMORY = Family("memory", "gauge", "Of each.", "each", {"": 10.0})
LABELLED = Family("ends_total", "counter", "By end.", "sum", {'end="good"': 1.0, 'end="bad"': 2.0})


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
