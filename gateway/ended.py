"""What is told of a request that has ended, to whoever watches: a line of the log, a span of a trace.

A closed list of fields. None of them can hold what a client, a customer or a provider wrote: each is Karta's
own word, a number, or a name that the configuration, an organization's settings or the price library had
before the request came. So nothing secret can be in it, wherever in a request or an answer the secret stood.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from gateway.prices import SIMULATED
from gateway.refusal import Kind

if TYPE_CHECKING:
    from gateway.api_request import APIRequest
    from gateway.authorize import Grant
    from gateway.meter import Metering
    from gateway.prices import Prices
    from gateway.tally import Tally
    from gateway.trace_context import TraceParent


class Ended(msgspec.Struct, kw_only=True, gc=False):
    """One request, admitted or refused."""

    started_us: int
    """Microseconds since 1970."""
    request_id: str
    api: str | None = None
    method: str | None = None
    endpoint: str | None = None
    """The template of its path; None, as for the two before, where nothing like it is known."""
    org_id: str | None = None
    key_id: str | None = None
    """None where no key was verified, or it was not allowed this."""
    provider: str | None = None
    server: str | None = None
    port: int | None = None
    credential: str | None = None
    model: str | None = None
    """What was asked for, as an organization's settings or the price library name it; None for a name that
    nobody but the client knows."""
    response_model: str | None = None
    """What answered, as the price library names it."""
    status: int
    outcome: str
    error: str | None = None
    """Why Karta refused it."""
    streamed: bool = False
    usage_complete: bool = True
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_picodollars: int | None = 0
    request_bytes: int = 0
    response_bytes: int = 0
    verify_us: int = 0
    queue_us: int = 0
    dial_us: int = 0
    sent_us: int = 0
    added_us: int = 0
    first_byte_us: int = 0
    total_us: int = 0
    trace: TraceParent | None = None
    """Of the client's own trace; only spans have it, whose trace it is."""


def settled(
    metering: Metering,
    grant: Grant,
    outcome: str,
    tally: Tally,
    complete: bool,
    cost: int | None,
    total_us: int,
    prices: Prices,
) -> Ended:
    """Of a request that has a usage row."""
    request = grant.request
    operation = request.operation
    key = grant.caller.key
    origin = grant.provider.origin
    return Ended(
        started_us=metering.started_us,
        request_id=metering.request_id,
        api=operation.dialect.value,
        method=operation.method,
        endpoint=operation.path,
        org_id=str(key.org_id),
        key_id=key.key_id,
        provider=grant.provider.name,
        server=origin.host,
        port=origin.port,
        credential=grant.kind.value,
        model=_asked(grant, prices),
        response_model=_priced(grant, tally.model, prices),
        status=metering.status,
        outcome=outcome,
        streamed=tally.streamed,
        usage_complete=complete,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cache_read_tokens=tally.cache_read_tokens,
        cache_write_tokens=tally.cache_write_5m_tokens + tally.cache_write_1h_tokens,
        reasoning_tokens=tally.reasoning_tokens,
        cost_picodollars=cost,
        request_bytes=metering.request_bytes,
        response_bytes=metering.response_bytes,
        verify_us=metering.verify_us,
        queue_us=metering.queue_us,
        dial_us=metering.dial_us,
        sent_us=metering.sent_us,
        added_us=max(0, metering.added_us),
        first_byte_us=metering.first_byte_us,
        total_us=total_us,
        trace=request.inbound.trace,
    )


def refused(
    request_id: str, request: APIRequest | None, grant: Grant | None, kind: Kind, status: int, total_us: int
) -> Ended:
    """Of a request that was refused before anything could have been used."""
    operation = None if request is None else request.operation
    key = None if grant is None else grant.caller.key
    return Ended(
        started_us=time.time_ns() // 1000 - total_us,
        request_id=request_id,
        api=None if operation is None else operation.dialect.value,
        method=None if operation is None else operation.method,
        endpoint=None if operation is None else operation.path,
        org_id=None if key is None else str(key.org_id),
        key_id=None if key is None else key.key_id,
        status=status,
        outcome="refused",
        error=kind.name.lower(),
        total_us=total_us,
        trace=None if request is None else request.inbound.trace,
    )


def _asked(grant: Grant, prices: Prices) -> str | None:
    key = grant.caller.key
    model = grant.request.model
    if grant.model is not model or (key.allowed_models is not None and model in key.allowed_models):
        # An organization's own words.
        return grant.model
    return _priced(grant, model, prices)


def _priced(grant: Grant, model: str | None, prices: Prices) -> str | None:
    provider = grant.provider.name
    # The simulated one takes every name.
    provider = grant.request.dialect.value if provider == SIMULATED else provider
    return prices.name_of(provider, model, time.time())
