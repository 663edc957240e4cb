"""Answers that no task waits for: how one ends.

So are those of the `lane` from their beginning, and those the pipeline's task has begun and then leaves to
events (`leave`): an open stream costs an exchange then, and not the frames of the stages that led to it.
"""

from __future__ import annotations

import logging

from gateway.ending import cut_by_provider, ending_of
from gateway.exchange import Exchange
from gateway.fault import tell
from gateway.refusal import Kind, Refusal
from storage.model import Outcome

_log = logging.getLogger("karta.gateway.left_alone")


def leave(exchange: Exchange) -> bool:
    """Leave an answer that has begun to events; False where the connection's task has to see its end."""
    connection = exchange.connection
    if exchange.ended or not connection.leavable:
        return False
    connection.tried = False
    connection.postponed = 0.0
    exchange.leave_to(_ended, abandon)
    return True


def abandon(exchange: Exchange) -> None:
    """The client has gone in the middle of its answer, or before it."""
    connection = exchange.connection
    exchange.upstream.spoiled = True
    exchange.upstream.pool.give_back(exchange.upstream)
    exchange.metering.settle(Outcome.CLIENT_GONE)
    if connection.answered:
        # An orderly end could make it look whole.
        connection.abort()


def settle_failed(exchange: Exchange, error: Exception, *, counted: bool = False) -> Refusal | None:
    """Record that it failed, and let go of all it holds; what is left to be said to the client, if any.

    `counted`: its head was taken for a success of the provider's already.
    """
    connection = exchange.connection
    upstream = exchange.upstream
    metering = exchange.metering
    ending = ending_of(error)
    if ending.refusal.kind is Kind.INTERNAL and not isinstance(error, OSError):
        request_id = metering.request_id
        tell(_log, error, "request %s failed", request_id, request_id=request_id, grant=exchange.grant)
    if not connection.answered:
        metering.status = ending.refusal.status
    upstream.spoiled = True
    upstream.pool.give_back(upstream)
    metering.settle(ending.outcome)
    if cut_by_provider(error):
        upstream.pool.breakers.failed(exchange.grant.account, counted=counted)
    if connection.answered or isinstance(error, OSError):
        # Cut, and told so where that was possible.
        connection.abort()
        connection.finish()
        return None
    return ending.refusal


def _ended(exchange: Exchange, error: Exception | None) -> None:
    if error is not None:
        settle_failed(exchange, error, counted=True)
        return
    exchange.upstream.pool.give_back(exchange.upstream)
    exchange.connection.rest()
