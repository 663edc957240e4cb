"""Ended requests as OpenTelemetry's spans, sent by its own exporter (OTLP over HTTP). Its only importer.

Two spans a request: Karta's own (kind SERVER), and within it the provider's work (kind CLIENT), from when the
request had been sent, with the attributes of the GenAI conventions. Neither has a prompt, an answer or a
header in it: they are made of `Ended`. Attributes under `karta.` are Karta's.

The exporter's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `_CERTIFICATE`, `_COMPRESSION`, `_TIMEOUT`, and
`OTEL_RESOURCE_ATTRIBUTES`) hold as everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from gateway.ended import Ended

_OPERATIONS = {
    "/v1/messages": "chat",
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/realtime": "chat",
    "/v1/completions": "text_completion",
    "/v1/complete": "text_completion",
    "/v1/embeddings": "embeddings",
}
# The conventions' words for providers, where they are not Karta's.
_PROVIDERS = {
    "azure_openai": "azure.ai.openai",
    "bedrock_openai": "aws.bedrock",
    "deepseek_anthropic": "deepseek",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, AttributeValue]


class SpanSender:
    """Sends spans to one collector. To be called in a thread: it waits, and tries again."""

    def __init__(self, url: str, version: str) -> None:
        """`url` is the whole of it, `/v1/traces` included."""
        self._exporter = OTLPSpanExporter(endpoint=url)
        self._resource = Resource.create({"service.name": "karta-gateway", "service.version": version})
        self._scope = InstrumentationScope("karta.gateway", version)
        self._ids = random.Random()  # noqa: S311 - unique, not secret; seeded by the system

    def __call__(self, batch: list[Ended]) -> bool:
        """The spans of these requests; whether they were taken."""
        spans = [span for one in batch for span in self._spans(one)]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Nothing more is tried."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _spans(self, ended: Ended) -> Iterator[ReadableSpan]:
        trace_id = int(ended.request_id, 16) if ended.trace is None else ended.trace.trace_id
        parent = None
        if ended.trace is not None:
            parent = SpanContext(trace_id, ended.trace.span_id, is_remote=True, trace_flags=_SAMPLED)
        begin = ended.started_us
        end = begin + ended.total_us
        own = self._context(trace_id)
        yield self._span(_own_name(ended), own, parent, SpanKind.SERVER, _own_attributes(ended), begin, end)
        if ended.sent_us:
            attributes = _provider_attributes(ended)
            name = _provider_name(ended)
            yield self._span(
                name, self._context(trace_id), own, SpanKind.CLIENT, attributes, begin + ended.sent_us, end
            )

    def _context(self, trace_id: int) -> SpanContext:
        span_id = self._ids.getrandbits(64) or 1
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        begin_us: int,
        end_us: int,
    ) -> ReadableSpan:
        failed = "error.type" in attributes
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=begin_us * 1000,
            end_time=end_us * 1000,
            instrumentation_scope=self._scope,
        )


def _own_name(ended: Ended) -> str:
    return "HTTP" if ended.method is None else f"{ended.method} {ended.endpoint}"


def _own_attributes(ended: Ended) -> Attributes:
    found: dict[str, AttributeValue | None] = {
        "http.request.method": ended.method,
        "http.route": ended.endpoint,
        "http.response.status_code": ended.status or None,
        "karta.request_id": ended.request_id,
        "karta.org_id": ended.org_id,
        "karta.key_id": ended.key_id,
        "karta.outcome": ended.outcome,
        "karta.cost_usd": None if ended.cost_picodollars is None else ended.cost_picodollars / 10**12,
        "karta.verify_ms": ended.verify_us / 1000,
        "karta.queue_ms": ended.queue_us / 1000,
        "karta.dial_ms": ended.dial_us / 1000,
        "karta.added_ms": ended.added_us / 1000,
        "error.type": _error(ended),
    }
    return {name: value for name, value in found.items() if value is not None}


def _error(ended: Ended) -> str | None:
    """What failed. A client's own mistake is no error of the server's span."""
    if ended.outcome not in ("completed", "refused"):
        return ended.outcome
    return str(ended.status) if ended.status >= 500 else None


def _provider_name(ended: Ended) -> str:
    operation = _OPERATIONS.get(ended.endpoint or "")
    if operation is None:
        return _own_name(ended)
    return operation if ended.model is None else f"{operation} {ended.model}"


def _provider_attributes(ended: Ended) -> Attributes:
    found: dict[str, AttributeValue | None] = {
        "http.request.method": ended.method,
        "http.response.status_code": ended.status or None,
        "server.address": ended.server,
        "server.port": ended.port,
        "error.type": str(ended.status) if ended.status >= 400 else _error(ended),
        "karta.credential": ended.credential,
    }
    operation = _OPERATIONS.get(ended.endpoint or "")
    if operation is not None:
        provider = ended.provider or ""
        cached = ended.cache_read_tokens + ended.cache_write_tokens
        waited = (ended.first_byte_us - ended.sent_us) / 1_000_000
        found |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
            "gen_ai.request.model": ended.model,
            "gen_ai.request.stream": ended.streamed,
            "gen_ai.response.model": ended.response_model,
            "gen_ai.response.time_to_first_chunk": waited if ended.streamed else None,
            # The conventions count cached tokens among the input.
            "gen_ai.usage.input_tokens": ended.input_tokens + cached,
            "gen_ai.usage.output_tokens": ended.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": ended.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": ended.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": ended.reasoning_tokens,
        }
    return {name: value for name, value in found.items() if value is not None}
