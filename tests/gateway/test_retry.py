"""What may be tried again: by cause, by the request's bounds, and by the origin's budget."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retry import Budget, Cause, Failure, RetryPolicy, counts_as_away, failure_of_answer

POLICY = RetryPolicy()


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 413, 422])
def test_what_is_passed_on_in_any_case(status: int) -> None:
    assert failure_of_answer(status, [b"x-should-retry: true", b"retry-after: 1"]) is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 501, 502, 503, 504, 520, 529, 599])
def test_what_another_provider_may_do_better(status: int) -> None:
    assert failure_of_answer(status, []) == Failure(Cause.STATUS, status)


@pytest.mark.parametrize(
    ("lines", "after", "pointless"),
    [
        ([b"retry-after: 2"], 2.0, False),
        ([b"Retry-After: 0.5"], 0.5, False),
        ([b"retry-after-ms: 250", b"retry-after: 9"], 0.25, False),
        ([b"retry-after: 9", b"RETRY-AFTER-MS:250"], 0.25, False),
        ([b"retry-after: -3"], 0.0, False),
        ([b"retry-after: soon"], None, False),
        ([b"retry-after: nan"], None, False),
        ([b"retry-after: 1e999"], None, False),
        ([b"retry-after-ms: \xff"], None, False),
        ([b"x-should-retry: false"], None, True),
        ([b"X-Should-Retry: False "], None, True),
        ([b"x-should-retry: true"], None, False),
    ],
)
def test_what_a_provider_says_of_trying_again(
    lines: list[bytes], after: float | None, pointless: bool
) -> None:
    failure = failure_of_answer(503, lines)
    assert failure is not None
    assert (failure.after, failure.pointless) == (after, pointless)


def test_retry_after_may_be_a_date() -> None:
    for ahead, expected in ((100.0, 100.0), (-100.0, 0.0)):
        failure = failure_of_answer(503, [b"retry-after: " + formatdate(time.time() + ahead).encode()])
        assert failure is not None
        assert failure.after is not None
        assert abs(failure.after - expected) < 10


@pytest.mark.parametrize(
    ("failure", "repeatable", "allowed"),
    [
        (Failure(Cause.STATUS, 503), False, True),
        (Failure(Cause.STATUS, 529), True, True),
        (Failure(Cause.STATUS, 503, pointless=True), True, False),
        (Failure(Cause.STATUS, 429), True, False),
        (Failure(Cause.STATUS, 500), True, False),
        (Failure(Cause.NOT_CONNECTED), False, True),
        (Failure(Cause.UNTRUSTED), True, False),
        (Failure(Cause.NO_ANSWER), True, True),
        (Failure(Cause.NO_ANSWER), False, False),
        (Failure(Cause.SILENT), True, False),
        (Failure(Cause.BROKEN), True, False),
        (Failure(Cause.BUSY), True, False),
        (Failure(Cause.OPEN), True, False),
        (Failure(Cause.KEY), True, False),
    ],
)
def test_what_the_same_target_is_asked_again(failure: Failure, repeatable: bool, allowed: bool) -> None:
    assert POLICY.may_repeat(failure, repeatable=repeatable) is allowed


def test_a_policy_may_name_other_statuses() -> None:
    policy = RetryPolicy(statuses=frozenset((429,)))
    assert policy.may_repeat(Failure(Cause.STATUS, 429), repeatable=False)
    assert not policy.may_repeat(Failure(Cause.STATUS, 503), repeatable=False)


@given(st.integers(0, 20), st.floats(0, 60), st.floats(0, 1), st.none() | st.floats(0, 200))
def test_no_delay_goes_beyond_a_bound(retries: int, elapsed: float, draw: float, after: float | None) -> None:
    policy = RetryPolicy(retries_max=10)
    delay = policy.delay(Failure(Cause.STATUS, 503, after), retries, elapsed, draw)
    if delay is None:
        assert retries >= 10 or elapsed + max(after or 0.0, 2.0) > policy.seconds
    else:
        assert retries < 10
        assert delay >= (after or 0.0)
        assert elapsed + delay <= policy.seconds


def test_delays_differ_and_grow() -> None:
    policy = RetryPolicy(retries_max=5, seconds=60)
    failure = Failure(Cause.NOT_CONNECTED)
    assert [policy.delay(failure, retries, 0, 1.0) for retries in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert policy.delay(failure, 0, 0, 0.0) == 0.125


def test_a_budget_is_a_share_of_the_requests() -> None:
    budget = Budget(POLICY)
    tried = sum(budget.spend(requests / 1_000, requests) for requests in range(1, 10_001))
    # A tenth of them, one a second, and what there was at the beginning.
    assert 1_000 <= tried <= 1_000 + 10 + 10
    assert not Budget(RetryPolicy(budget_share=0, budget_per_second=0)).spend(0, 10)


def test_what_was_not_used_is_not_kept_for_later() -> None:
    budget = Budget(POLICY)
    assert budget.spend(0.0, 0)
    assert sum(budget.spend(1_000.0, 1_000) for _ in range(200)) <= 21
    # Nor is the pause itself.
    assert sum(budget.spend(5_000.0, 1_000) for _ in range(200)) <= 11


def test_failures_as_they_are_told() -> None:
    assert Failure(Cause.STATUS, 429).word == "429"
    assert Failure(Cause.NOT_CONNECTED).word == "not-connected"


def test_what_counts_against_whoever_was_asked() -> None:
    assert [status for status in range(400, 600) if counts_as_away(status)] == [
        *(502, 503, 504),
        *range(520, 600),
    ]
    away = {cause for cause in Cause if Failure(cause).away}
    assert away == {Cause.NOT_CONNECTED, Cause.UNTRUSTED, Cause.NO_ANSWER, Cause.SILENT, Cause.BROKEN}
    assert Failure(Cause.STATUS, 503).away
    assert not Failure(Cause.STATUS, 429).away
