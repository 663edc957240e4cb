"""How each way to go wrong ends: what a client is told that can still be told, and what the record says."""

from __future__ import annotations

import pytest

from gateway.ending import Cut, ending_of
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
