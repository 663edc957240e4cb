"""What follows from a try: the table, and that no sequence of answers leads anywhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.webhook_schedule import (
    DELAYS_SECONDS,
    JITTER,
    RETRY_AFTER_SECONDS_MAX,
    TRIES_MAX,
    Next,
    decide,
)

STATUSES = st.none() | st.integers(100, 599)


def test_the_delays_are_those_of_standard_webhooks() -> None:
    assert TRIES_MAX == 10
    assert 3 < sum(DELAYS_SECONDS) / 86400 < 3.3
    for tries, seconds in enumerate(DELAYS_SECONDS, 1):
        assert decide(tries, 500, None, lambda: 0.5) == Next("pending", seconds)
        assert decide(tries, None, None, lambda: 0.0) == Next("pending", seconds * (1 - JITTER))
    assert decide(TRIES_MAX, 500, None, lambda: 0.5) == Next("failed", 0)


def test_patience_is_heeded_where_it_is_asked_for() -> None:
    assert decide(1, 429, 90, lambda: 0.5).delay_seconds == 90
    assert decide(1, 503, 10**9, lambda: 0.5).delay_seconds == RETRY_AFTER_SECONDS_MAX
    assert decide(1, 500, 90, lambda: 0.5).delay_seconds == 5
    assert decide(3, 429, 1, lambda: 0.5).delay_seconds == DELAYS_SECONDS[2]


def test_gone_ends_it() -> None:
    assert decide(1, 410, 60, lambda: 0.5) == Next("failed", 0)


@given(
    st.lists(
        st.tuples(STATUSES, st.none() | st.integers(0, 10**9), st.floats(0, 1)), min_size=10, max_size=12
    )
)
def test_any_answers_end_within_the_tries_and_only_a_2xx_delivers(
    answers: list[tuple[int | None, int | None, float]],
) -> None:
    state, waited = "pending", 0.0
    for tries, (status, retry_after, number) in enumerate(answers, 1):
        following = decide(tries, status, retry_after, lambda number=number: number)  # type: ignore[misc]
        state, waited = following.state, waited + following.delay_seconds
        assert (state == "delivered") == (status is not None and 200 <= status < 300)
        assert (following.delay_seconds > 0) == (state == "pending")
        if state != "pending":
            break
    assert state != "pending"
    assert tries <= TRIES_MAX
    assert waited <= sum(max(seconds * (1 + JITTER), RETRY_AFTER_SECONDS_MAX) for seconds in DELAYS_SECONDS)
