"""A collector: takes spans by OTLP over HTTP on loopback, and keeps what it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.http_server import QuietHandler, serving


class Sink:
    def __init__(self) -> None:
        self.received: list[bytes] = []
        """Bodies as they came."""
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.url = ""

    @property
    def spans(self) -> list[Any]:
        """All spans, in the order they came."""
        found = []
        for body in self.received:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    @property
    def resource(self) -> dict[str, Any]:
        """What the first batch says of its sender."""
        return attributes(ExportTraceServiceRequest.FromString(self.received[0]).resource_spans[0].resource)


def attributes(of: Any) -> dict[str, Any]:
    """Those of a span or resource, with their values as Python's."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@contextmanager
def otlp_sink() -> Iterator[Sink]:
    sink = Sink()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["content-length"]))
            if sink.status == 200:
                sink.received.append(body)
                sink.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(sink.status)
            self.send_header("content-length", "0")
            self.end_headers()

    with serving(Handler) as origin:
        sink.url = f"{origin}/v1/traces"
        yield sink
