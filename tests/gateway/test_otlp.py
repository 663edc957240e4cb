"""Spans as a collector gets them, through a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.ended import Ended
from gateway.otlp import SpanSender
from gateway.trace_context import TraceParent
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway
from tests.support.otlp_sink import Sink, attributes, otlp_sink
from tests.support.requests import ANSWER, get, post
from tests.support.scripted_provider import answering

SERVER, CLIENT = 2, 3
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
MODEL = b"claude-sonnet-4-5"
SAID = ANSWER.replace(b"claude-test", MODEL)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with otlp_sink() as running:
        yield running


async def flush(gateway: RunningGateway) -> None:
    watch = gateway.worker.watch
    assert watch is not None
    assert watch.traces is not None
    await watch.traces.flush()


def asking(token: str, headers: str = "") -> bytes:
    body = b'{"model":"%s","max_tokens":10,"messages":[]}' % MODEL
    return post(token, body, headers=headers)


async def test_a_request_is_two_spans(stage: Stage, tenant: Tenant, sink: Sink) -> None:
    async with stage(answering(SAID), traces_url=sink.url) as (gateway, _), gateway.client() as client:
        for _ in range(2):
            await client.send(asking(tenant.token))
            answer = await client.read_answer()
        assert gateway.worker.lane.requests == 1
        await flush(gateway)
        row = (await gateway.settled(2))[1]
    # Of the second, which took the lane.
    own, inner = sink.spans[2:]
    request_id = answer.headers["x-karta-request-id"]
    assert own.trace_id.hex() == inner.trace_id.hex() == request_id
    assert (own.name, own.kind, own.parent_span_id) == ("POST /v1/messages", SERVER, b"")
    assert (inner.name, inner.kind) == ("chat claude-sonnet-4-5", CLIENT)
    assert inner.parent_span_id == own.span_id != inner.span_id
    assert own.start_time_unix_nano == int(row["started_at"].timestamp() * 1_000_000) * 1000
    assert own.end_time_unix_nano - own.start_time_unix_nano == row["total_us"] * 1000
    assert own.start_time_unix_nano < inner.start_time_unix_nano < inner.end_time_unix_nano
    assert inner.end_time_unix_nano == own.end_time_unix_nano
    told = attributes(own)
    assert told["http.route"] == "/v1/messages"
    assert told["http.response.status_code"] == 200
    assert (told["karta.request_id"], told["karta.org_id"]) == (request_id, str(tenant.org_id))
    assert (told["karta.key_id"], told["karta.outcome"]) == (tenant.key_id, "completed")
    told = attributes(inner)
    assert {name: told[name] for name in told if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }
    assert (told["server.address"], told["karta.credential"]) == ("127.0.0.1", "platform")
    assert sink.resource["service.name"] == "karta-gateway"


async def test_a_request_joins_the_trace_it_came_with(stage: Stage, tenant: Tenant, sink: Sink) -> None:
    """Each time: also when the same head came before, or one of its shape. The header goes up as it came."""
    joining = f"traceparent: 00-{TRACE}-{PARENT}-01\r\n"
    async with stage(answering(SAID), traces_url=sink.url) as (gateway, provider):
        async with gateway.client() as client:
            for header in ("traceparent: none\r\n", joining, joining):
                await client.send(asking(tenant.token, header))
                await client.read_answer()
        await flush(gateway)
        assert provider.received.count(joining.encode()) == 2
    assert [span.trace_id.hex() for span in sink.spans].count(TRACE) == len(sink.spans) - 2 == 4
    assert [span.parent_span_id.hex() for span in sink.spans if span.kind == SERVER] == ["", PARENT, PARENT]


async def test_who_records_no_trace_has_no_spans(stage: Stage, tenant: Tenant, sink: Sink) -> None:
    async with stage(answering(SAID), traces_url=sink.url) as (gateway, _):
        await gateway.ask(asking(tenant.token, f"traceparent: 00-{TRACE}-{PARENT}-00\r\n"))
        await gateway.ask(asking("kt_live_nobody"))
        await gateway.ask(get(tenant.token))
        await flush(gateway)
    # A listing of models is no work of a model's.
    assert [span.name for span in sink.spans] == ["GET /v1/models", "GET /v1/models"]
    assert not any(name.startswith("gen_ai.") for span in sink.spans for name in attributes(span))


async def test_what_waits_at_the_end_is_exported(stage: Stage, tenant: Tenant, sink: Sink) -> None:
    async with stage(answering(SAID), traces_url=sink.url) as (gateway, _):
        await gateway.ask(asking(tenant.token))
        gateway.worker._stopped.set()
        await gateway.stopped.wait()
    assert len(sink.spans) == 2


def test_a_failure_is_told_by_the_conventions(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a collector that needs a header gets it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2luaw==")
    sender = SpanSender(sink.url, "1.2.3")
    failed = Ended(
        started_us=1_700_000_000_000_000,
        request_id=f"{5:032x}",
        method="POST",
        endpoint="/v1/embeddings",
        provider="gemini",
        org_id="an organization",
        status=504,
        outcome="timed_out",
        streamed=True,
        sent_us=1000,
        first_byte_us=251_000,
        total_us=500_000,
        input_tokens=1,
        cache_read_tokens=10,
        cache_write_tokens=100,
        trace=TraceParent(7, 8, sampled=True),
    )
    assert sender([failed])
    sender.close()
    own, inner = sink.spans
    assert (attributes(own)["error.type"], own.status.code) == ("timed_out", 2)
    told = attributes(inner)
    assert (inner.name, told["error.type"], inner.status.code) == ("embeddings", "504", 2)
    assert told["gen_ai.provider.name"] == "gcp.gemini"
    assert told["gen_ai.usage.input_tokens"] == 111
    assert told["gen_ai.response.time_to_first_chunk"] == 0.25
    assert "gen_ai.request.model" not in told
    assert sink.headers[0]["authorization"] == "Basic c2luaw=="
    assert sink.resource["service.version"] == "1.2.3"


def test_a_collector_that_refuses_is_told_of(sink: Sink) -> None:
    sender = SpanSender(sink.url, "1")
    sink.status = 400
    one = Ended(started_us=1, request_id=f"{5:032x}", status=200, outcome="completed", total_us=1)
    assert not sender([one])
    sender.close()
