from __future__ import annotations

import pytest

from gateway.guessing import MINUTE_SECONDS, Guesses
from gateway.limits import Limits
from gateway.watchdog import Watchdog


def make(**limits: int) -> tuple[Guesses, Watchdog]:
    watchdog = Watchdog()
    return Guesses(Limits(failures_per_minute=2, **limits), watchdog), watchdog


def fail(guesses: Guesses, address: str, key_id: str) -> None:
    assert guesses.refusal(address, key_id) is None
    guesses.begin(address, key_id)
    guesses.end(address, key_id, wrong=True)


def test_an_address_has_so_many_failures_a_minute() -> None:
    guesses, watchdog = make()
    fail(guesses, "a", "1")
    fail(guesses, "a", "2")
    refused = guesses.refusal("a", "3")
    assert refused is not None
    assert refused.status == 429
    assert guesses.refusal("b", "3") is None
    watchdog.now += MINUTE_SECONDS
    assert guesses.refusal("a", "3") is None


def test_a_spent_id_is_open_to_who_has_not_failed() -> None:
    guesses, _ = make()
    fail(guesses, "a", "1")
    fail(guesses, "b", "1")
    assert guesses.refusal("c", "1") is None
    assert guesses.refusal("b", "1") is not None
    # Of the two failures that `b` may have, it has one left for other ids.
    assert guesses.refusal("b", "2") is None


def test_what_was_right_counts_for_nothing() -> None:
    guesses, _ = make()
    for _ in range(5):
        assert guesses.refusal("a", "1") is None
        guesses.begin("a", "1")
        guesses.end("a", "1", wrong=False)
    assert guesses.failures == {}
    assert guesses._under_way == {}


def test_an_address_verifies_few_secrets_of_one_id_at_once() -> None:
    guesses, _ = make(verifications_each_max=2)
    guesses.begin("a", "1")
    assert guesses.refusal("a", "1") is None
    guesses.begin("a", "1")
    refused = guesses.refusal("a", "1")
    assert refused is not None
    assert (refused.status, refused.retry_after) == (429, 1)
    assert guesses.refusal("a", "2") is None
    assert guesses.refusal("b", "1") is None
    guesses.end("a", "1", wrong=False)
    assert guesses.refusal("a", "1") is None


def test_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.guessing._COUNTERS_MAX", 4)
    guesses, _ = make()
    for number in range(10):
        fail(guesses, f"a{number}", f"k{number}")
    assert list(guesses.failures) == ["address a8", "key k8", "address a9", "key k9"]
