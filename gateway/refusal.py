"""The one error Karta itself makes, and how it is told to each SDK.

A `Refusal` says what went wrong, whose fault it is and whether trying again can help. It is rendered in the
dialect of the API that was called, so that the SDK raises its own exception class: Anthropic's `{"type":
"error", ...}` with a `request-id` header, OpenAI's `{"error": {...}}` with `x-request-id`. Where the dialect
cannot be known (the head did not parse), one body serves both: each SDK reads the keys it knows. Messages
name the mend and never repeat a credential or a provider's text.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from http import HTTPStatus
from typing import NamedTuple

import msgspec


class Dialect(StrEnum):
    """Which API a request speaks."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Whose fault it is."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class _Meaning(NamedTuple):
    """What one kind of refusal is called by each side."""

    source: Source
    status: int
    anthropic_type: str
    openai_type: str
    openai_code: str | None
    retryable: bool | None
    """Sent as `x-should-retry`; None leaves the SDK to its own rule for the status."""


_C, _G, _U = Source.CLIENT, Source.GATEWAY, Source.UPSTREAM
_INVALID = "invalid_request_error"


class Kind(Enum):
    """Every way in which Karta says no. Statuses and types: wire-level facts of both APIs' error pages."""

    MALFORMED = _Meaning(_C, 400, _INVALID, _INVALID, None, False)
    UNAUTHENTICATED = _Meaning(_C, 401, "authentication_error", _INVALID, "invalid_api_key", False)
    FORBIDDEN = _Meaning(_C, 403, "permission_error", _INVALID, "permission_denied", False)
    MODEL_FORBIDDEN = _Meaning(_C, 403, "permission_error", _INVALID, "model_not_allowed", False)
    NOT_FOUND = _Meaning(_C, 404, "not_found_error", _INVALID, "unknown_url", False)
    METHOD_NOT_ALLOWED = _Meaning(_C, 405, _INVALID, _INVALID, "method_not_allowed", False)
    CLIENT_TIMEOUT = _Meaning(_C, 408, "timeout_error", _INVALID, "request_timeout", None)
    TOO_LARGE = _Meaning(_C, 413, "request_too_large", _INVALID, "request_too_large", False)
    TARGET_TOO_LONG = _Meaning(_C, 414, _INVALID, _INVALID, "uri_too_long", False)
    EXPECTATION_FAILED = _Meaning(_C, 417, _INVALID, _INVALID, "expectation_failed", False)
    HEADERS_TOO_LARGE = _Meaning(_C, 431, _INVALID, _INVALID, "headers_too_large", False)
    BUDGET_SPENT = _Meaning(_C, 402, "billing_error", "insufficient_quota", "insufficient_quota", False)
    """As Anthropic tells it."""
    QUOTA_SPENT = _Meaning(_C, 429, "billing_error", "insufficient_quota", "insufficient_quota", False)
    """The same, as OpenAI tells it."""
    LIMIT_TOO_SMALL = _Meaning(_C, 429, "rate_limit_error", "tokens", "rate_limit_exceeded", False)
    RATE_LIMITED = _Meaning(_C, 429, "rate_limit_error", "requests", "rate_limit_exceeded", True)
    INTERNAL = _Meaning(_G, 500, "api_error", "server_error", "internal_error", None)
    NOT_SUPPORTED = _Meaning(_G, 501, "api_error", "server_error", "not_supported", False)
    UNAVAILABLE = _Meaning(_G, 503, "overloaded_error", "server_error", "unavailable", True)
    VERSION_UNSUPPORTED = _Meaning(_C, 505, _INVALID, _INVALID, "http_version", False)
    UPSTREAM_UNREACHABLE = _Meaning(_U, 502, "api_error", "server_error", "upstream_unreachable", False)
    UPSTREAM_BROKEN = _Meaning(_U, 502, "api_error", "server_error", "upstream_broken", False)
    UPSTREAM_TIMEOUT = _Meaning(_U, 504, "timeout_error", "server_error", "upstream_timeout", False)


class Refusal(Exception):
    """Karta will not, or cannot, answer this request.

    `retry_after` is in whole seconds (kept ≤ 120: OpenAI's SDK gives up beyond); `close` ends the client's
    connection after the answer, because what follows on it cannot be trusted or was not read. `fields` are
    further header lines.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        retry_after: int | None = None,
        close: bool = False,
        fields: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self.close = close
        self.fields = fields

    @property
    def status(self) -> int:
        return self.kind.value.status

    @property
    def source(self) -> Source:
        return self.kind.value.source


def error_body(kind: Kind, message: str, dialect: Dialect, request_id: str) -> bytes:
    """The JSON body of an error in `dialect`."""
    meaning = kind.value
    body: dict[str, object]
    if dialect is Dialect.OPENAI:
        body = {"error": _openai_error(meaning, message)}
    elif dialect is Dialect.ANTHROPIC:
        body = {
            "type": "error",
            "error": {"type": meaning.anthropic_type, "message": message},
            "request_id": request_id,
        }
    else:
        body = {"type": "error", "error": _openai_error(meaning, message), "request_id": request_id}
    return msgspec.json.encode(body)


def _openai_error(meaning: _Meaning, message: str) -> dict[str, object]:
    return {"message": message, "type": meaning.openai_type, "param": None, "code": meaning.openai_code}


def error_event(kind: Kind, message: str, dialect: Dialect, endpoint: str, request_id: str) -> bytes:
    """The same error as one server-sent event, for a stream that already began, in each API's own form.

    OpenAI's Responses API has a flat error event of its own.
    """
    body = error_body(kind, message, dialect, request_id)
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    if endpoint.startswith("/v1/responses"):
        flat = {"type": "error", "code": kind.value.openai_code, "message": message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(flat) + b"\n\n"
    return b"data: " + body + b"\n\n"


def render(refusal: Refusal, dialect: Dialect, request_id: str, *, head_only: bool = False) -> bytes:
    """The whole HTTP/1.1 response, ready to send (without body for HEAD)."""
    status = refusal.status
    body = error_body(refusal.kind, refusal.message, dialect, request_id)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-karta-request-id: {request_id}",
    ]
    if dialect is not Dialect.OPENAI:
        lines.append(f"request-id: {request_id}")
    if dialect is not Dialect.ANTHROPIC:
        lines.append(f"x-request-id: {request_id}")
    if refusal.kind.value.retryable is not None:
        lines.append(f"x-should-retry: {'true' if refusal.kind.value.retryable else 'false'}")
    if refusal.retry_after is not None:
        lines.append(f"retry-after: {refusal.retry_after}")
    lines += refusal.fields
    if refusal.close:
        lines.append("connection: close")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if head_only else head + body
