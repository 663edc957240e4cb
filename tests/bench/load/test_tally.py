"""Windows count what belongs to them; tallies add up."""

import msgspec

from bench.load.answer import Failure
from bench.load.tally import Tally, TallyReport, example_characters_max


def test_a_closed_loop_counts_what_ends_while_the_window_is_open() -> None:
    tally = Tally()
    assert not tally.counts(5)
    tally.open_window(10)
    assert tally.counts(5)
    tally.close_window(2_000_000_010)
    assert not tally.counts(15)
    assert tally.seconds == 2.0


def test_a_closed_loop_times_what_was_asked_for_in_the_window_however_late_it_comes() -> None:
    tally = Tally()
    tally.open_window(10)
    tally.close_window(20)
    assert not tally.counts(15)
    assert [tally.times(started) for started in (9, 10, 19, 20)] == [False, True, True, False]


def test_an_open_loop_counts_what_was_due_in_the_window_however_late() -> None:
    tally = Tally(by_start=True)
    assert not tally.counts(5)
    tally.open_window(10)
    assert not tally.counts(9)
    assert tally.counts(10)
    tally.close_window(20)
    assert tally.counts(19)
    assert not tally.counts(20)


def test_reports_travel_and_add_up() -> None:
    reports = []
    for number in (1, 2):
        tally = Tally()
        tally.open_window(1)
        tally.requests = number
        tally.events = 10 * number
        tally.latency.record(1000 * number)
        tally.fail(Failure.STATUS, f"example {number}" * 200)
        tally.close_window(number * 1_000_000_001)
        tally.cpu_seconds = number / 4
        reports.append(msgspec.json.decode(msgspec.json.encode(tally.report()), type=TallyReport))
    total = Tally()
    for report in reports:
        total.add(report)
    assert (total.requests, total.events, total.failed) == (3, 30, 2)
    assert total.seconds == 2.000000001
    # The busiest process's: several that are half busy are none that is at its end.
    assert total.cpu_seconds == 0.5
    assert total.latency.total == 2
    assert total.failures == {"status": 2}
    assert total.examples["status"].startswith("example 1")
    assert len(total.examples["status"]) == example_characters_max
