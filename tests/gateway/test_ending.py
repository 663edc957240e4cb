"""How each way to go wrong ends: what a client is told that can still be told, and what the record says."""

from __future__ import annotations

import pytest

from gateway.ending import Cut, cut_by_provider, ending_of
from gateway.refusal import Kind, Refusal
from gateway.response_reader import UpstreamBroken
from gateway.upstream_response import NothingReceived
from gateway.wait import Overdue, Waiting
from storage.model import Outcome

ENDINGS = {
    "the provider broke off": (UpstreamBroken("it did"), Kind.UPSTREAM_BROKEN, Outcome.UPSTREAM_FAILED),
    "the provider said nothing": (NothingReceived(), Kind.UPSTREAM_BROKEN, Outcome.UPSTREAM_FAILED),
    "the provider is too slow": (Overdue(Waiting.UPSTREAM), Kind.UPSTREAM_TIMEOUT, Outcome.TIMED_OUT),
    "the body is too slow": (Overdue(Waiting.BODY), Kind.CLIENT_TIMEOUT, Outcome.TIMED_OUT),
    "the client takes nothing": (Overdue(Waiting.WRITE), Kind.CLIENT_TIMEOUT, Outcome.TIMED_OUT),
    "the client is gone": (ConnectionResetError(), Kind.INTERNAL, Outcome.CLIENT_GONE),
    "Karta ends it": (
        Cut(Refusal(Kind.FORBIDDEN, "No."), Outcome.REVOKED),
        Kind.FORBIDDEN,
        Outcome.REVOKED,
    ),
    "a fault of Karta's": (ZeroDivisionError("a secret"), Kind.INTERNAL, Outcome.REFUSED),
    "no connection": (
        Refusal(Kind.UPSTREAM_UNREACHABLE, "No."),
        Kind.UPSTREAM_UNREACHABLE,
        Outcome.UPSTREAM_FAILED,
    ),
    "no connection in time": (
        Refusal(Kind.UPSTREAM_TIMEOUT, "No."),
        Kind.UPSTREAM_TIMEOUT,
        Outcome.TIMED_OUT,
    ),
    "too large": (Refusal(Kind.TOO_LARGE, "No."), Kind.TOO_LARGE, Outcome.REFUSED),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_each_has_its_answer_and_its_outcome(name: str) -> None:
    error, kind, outcome = ENDINGS[name]
    ending = ending_of(error)
    assert (ending.refusal.kind, ending.outcome) == (kind, outcome)


def test_a_refusal_is_told_as_it_is() -> None:
    refusal = Refusal(Kind.TOO_LARGE, "No.")
    assert ending_of(refusal).refusal is refusal


def test_a_fault_is_not_repeated_to_the_client() -> None:
    ending = ending_of(ZeroDivisionError("a secret"))
    assert "secret" not in ending.refusal.message
    assert ending.refusal.close


def test_a_cut_ends_as_who_made_it_says() -> None:
    refusal = Refusal(Kind.FORBIDDEN, "This key ended.")
    error = Cut(refusal, Outcome.REVOKED)
    assert str(error) == "This key ended."
    assert ending_of(error) == (refusal, Outcome.REVOKED)


def test_what_is_wrong_with_the_provider_s_answer_is_told() -> None:
    message = ending_of(UpstreamBroken("its head is too large")).refusal.message
    assert message == "The provider's answer cannot be used: its head is too large."


@pytest.mark.parametrize(
    ("error", "by_provider"),
    [
        (UpstreamBroken("it did"), True),
        (NothingReceived(), True),
        (Overdue(Waiting.UPSTREAM), True),
        (Overdue(Waiting.BODY), False),
        (Overdue(Waiting.WRITE), False),
        (ConnectionResetError(), False),
        (Cut(Refusal(Kind.FORBIDDEN, "No."), Outcome.REVOKED), False),
    ],
)
def test_who_cut_an_answer_that_had_begun(error: Exception, by_provider: bool) -> None:
    assert cut_by_provider(error) is by_provider


@pytest.mark.parametrize(("waiting", "close"), [(Waiting.UPSTREAM, False), (Waiting.BODY, True)])
def test_who_was_too_slow_is_told_and_a_body_that_may_still_come_is_not_waited_for(
    waiting: Waiting, close: bool
) -> None:
    refusal = ending_of(Overdue(waiting)).refusal
    assert refusal.close is close
    assert ("provider" in refusal.message, "body" in refusal.message) == (not close, close)
