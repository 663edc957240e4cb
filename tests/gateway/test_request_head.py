"""What becomes of each request header, by table."""

from __future__ import annotations

import pytest

from gateway import request_head
from gateway.request_head import Field, decide, forwarded

FORWARDED = [
    "anthropic-beta",
    "anthropic-user-profile-id",
    "user-agent",
    "openai-beta",
    "idempotency-key",
    "x-client-request-id",
    "accept",
    "content-encoding",
    "traceparent",
    "x-stainless-lang",
    "x-stainless-retry-count",
    "x-stainless-raw-response",
    "x-stainless-helper-method",
    "x-stainless-timeout",
    "x-custom",
    "last-event-id",
    "if-none-match",
    "range",
]
ACCOUNT = ["anthropic-organization-id", "anthropic-workspace-id", "openai-organization", "openai-project"]
DROPPED = [
    # Hop by hop.
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    # What Karta decides by itself.
    "accept-encoding",
    # Who the client is, or was said to be.
    "cookie",
    "cookie2",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded",
    "x-real-ip",
    "x-envoy-original-path",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-amzn-trace-id",
    "origin",
    "referer",
    "sec-websocket-protocol",
    "sec-fetch-mode",
    # Ways to another operation or another key.
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-goog-api-key",
    "api-key",
    "x-karta-request-id",
    # Second spellings for servers that fold names.
    "x_api_key",
    "x-api_key",
    "anthropic_version",
    "openai-beta_x",
    "content_length",
    "transfer_encoding",
    # Nobody's.
    "unknown",
    "dnt",
]


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarded(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        assert decide(spelling.encode()) is Field.FORWARD


@pytest.mark.parametrize("name", ACCOUNT)
def test_what_names_a_part_of_an_account(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        assert decide(spelling.encode()) is Field.ACCOUNT


@pytest.mark.parametrize("name", DROPPED)
def test_dropped(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        assert decide(spelling.encode()) is Field.DROP


@pytest.mark.parametrize(
    "field", [field for field in Field if field not in (Field.FORWARD, Field.DROP, Field.ACCOUNT)]
)
def test_fields_karta_reads(field: Field) -> None:
    name = field.name.lower().replace("_", "-")
    if field in (Field.API_KEY, Field.FORWARDED_PROTO):
        name = f"x-{name}"
    for spelling in (name, name.upper(), name.title()):
        assert decide(spelling.encode()) is field


def test_every_decision_holds_when_it_is_remembered() -> None:
    for _ in range(2):
        assert decide(b"X-Custom") is Field.FORWARD
        assert decide(b"Cookie") is Field.DROP
        assert decide(b"X-Api-Key") is Field.API_KEY
    assert b"X-Custom" in forwarded
    assert forwarded.isdisjoint({b"Cookie", b"X-Api-Key"})


@pytest.mark.parametrize("size", [20, request_head._DECIDED_BYTES_MAX])
def test_a_spelling_is_decided_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    decided: list[bytes] = []
    decide_anew = request_head._decide

    def counted(name: bytes) -> Field:
        decided.append(name)
        return decide_anew(name)

    monkeypatch.setattr(request_head, "_decide", counted)
    name = b"X-Once-".ljust(size, b"a")
    assert [decide(name), decide(name)] == [Field.FORWARD] * 2
    assert decided == [name.lower()]


def test_only_what_is_forwarded_is_remembered_as_forwarded() -> None:
    assert decide(b"X-Custom") is Field.FORWARD
    for name in forwarded:
        assert decide(name) in (Field.FORWARD, Field.ANTHROPIC_VERSION)


def test_memory_is_bounded_whatever_names_strangers_send() -> None:
    for number in range(3 * request_head._DECIDED_MAX):
        decide(b"x-%d" % number)
        decide(b"y-%d" % number)
        assert len(request_head._decided) <= request_head._DECIDED_MAX
    decide(b"x-" + b"a" * 30_000)
    assert forwarded <= request_head._decided.keys()
    assert max(map(len, request_head._decided)) <= request_head._DECIDED_BYTES_MAX
    assert decide(b"user-agent") is Field.FORWARD
    assert b"user-agent" in request_head._decided, "names that are in use find their place again"
