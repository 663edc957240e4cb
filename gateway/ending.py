"""How a request that went wrong ended: what its client is told, if it can be, and what the record says."""

from __future__ import annotations

from typing import NamedTuple

from gateway.refusal import Kind, Refusal, Source
from gateway.response_reader import UpstreamBroken
from gateway.wait import Overdue, Waiting
from storage.model import Outcome


class Cut(Exception):
    """Karta itself ends a request under way: why, as its client and its record are told."""

    def __init__(self, refusal: Refusal, outcome: Outcome) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.outcome = outcome


class Ending(NamedTuple):
    refusal: Refusal
    """For a client that has seen nothing of an answer yet."""
    outcome: Outcome


def ending_of(error: Exception) -> Ending:
    """What an exception of the stages means. One that nobody expected is Karta's own fault.

    `OSError` is the client's connection: what the provider's may raise has been translated by then.
    """
    if isinstance(error, Refusal):
        return Ending(error, _outcome(error))
    if isinstance(error, Cut):
        return Ending(error.refusal, error.outcome)
    if isinstance(error, UpstreamBroken):
        unusable = Refusal(Kind.UPSTREAM_BROKEN, f"The provider's answer cannot be used: {error}.")
        return Ending(unusable, Outcome.UPSTREAM_FAILED)
    if isinstance(error, Overdue):
        return Ending(_too_late(error), Outcome.TIMED_OUT)
    fault = Refusal(
        Kind.INTERNAL,
        "Karta failed to handle this request; its operator finds the fault by the request id.",
        close=True,
    )
    return Ending(fault, Outcome.CLIENT_GONE if isinstance(error, OSError) else Outcome.REFUSED)


def cut_by_provider(error: Exception) -> bool:
    """An answer that had begun broke off at the provider's end."""
    return isinstance(error, UpstreamBroken) or (
        isinstance(error, Overdue) and error.waiting is Waiting.UPSTREAM
    )


def _outcome(refusal: Refusal) -> Outcome:
    if refusal.kind is Kind.UPSTREAM_TIMEOUT:
        return Outcome.TIMED_OUT
    return Outcome.UPSTREAM_FAILED if refusal.source is Source.UPSTREAM else Outcome.REFUSED


def _too_late(overdue: Overdue) -> Refusal:
    if overdue.waiting is Waiting.UPSTREAM:
        return Refusal(Kind.UPSTREAM_TIMEOUT, "The provider did not answer in time.")
    return Refusal(Kind.CLIENT_TIMEOUT, "The request body took too long to arrive.", close=True)
