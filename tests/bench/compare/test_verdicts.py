"""Sums tell of what single answers do not show."""

import msgspec

from bench.compare.scenarios import Beside
from bench.compare.verdicts import merged, only_late, unasked
from bench.load.answer import Failure
from bench.load.summary import Summary
from tests.bench.compare.seen import comparison, summary


def paced(share: float, cpu_share: float | None = None, starved: float | None = None) -> Summary:
    return msgspec.structs.replace(
        summary(rate=10, events=True),
        merged_events_share=share,
        target_cpu_share=cpu_share,
        target_starved_share=starved,
    )


def test_more_answers_than_questions_are_told() -> None:
    assert unasked(10, 10) == []
    assert unasked(10, 12) == []
    assert unasked(10, 7) == ["3 unasked: 10 answers, and 7 at the provider"]


def test_wrong_keys_may_be_made_to_wait_and_nobody_else() -> None:
    wrong, leavers = Beside(kind="wrong keys"), Beside(kind="leavers")
    late = msgspec.structs.replace(summary(rate=10), failures={Failure.TIMEOUT.value: 3})
    assert only_late(wrong, late)
    assert not only_late(leavers, late)
    reset = msgspec.structs.replace(late, failures={Failure.TIMEOUT.value: 3, Failure.BROKEN.value: 1})
    assert not only_late(wrong, reset)


def test_joined_events_are_told_against_the_direct_runs_of_the_rounds() -> None:
    seen = comparison(
        {
            "paced": {
                "direct": [paced(0.1), paced(0.5), paced(0.1)],
                "relay": [paced(0.2), paced(0.6), paced(0.9)],
                "joiner": [paced(0.5, 0.1), paced(0.55), paced(0.5)],
                "busy": [paced(0.9, 0.95), None, None],
                "starved": [paced(0.9, 0.1, starved=0.5), None, None],
            }
        }
    )
    assert merged(seen) == [
        "joiner, paced: merged: 50% of the events came together with the one before, 10% without a target"
    ]


def test_only_paced_streams_are_judged() -> None:
    assert merged(comparison({"burst": {"direct": [paced(0.0)], "nginx": [paced(0.9)]}})) == []
