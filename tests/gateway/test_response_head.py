"""The head of the answer: the provider's, less what must not pass."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.provider import AuthStyle, Provider, make_provider
from gateway.refusal import Dialect, Kind, Refusal
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader


def provider(base_url: str) -> Provider:
    return make_provider(
        "anthropic",
        Dialect.ANTHROPIC,
        AuthStyle.CLIENT,
        base_url,
        api_key=None,
        ca_file=None,
        development=True,
    )


ANTHROPIC = provider("https://api.anthropic.com")


def head(
    *lines: bytes, status: bytes = b"200 OK", hide_account: bool = False, of: Provider = ANTHROPIC
) -> ClientHead:
    reader = ResponseReader()
    reader.begin(head_only=True)
    reader.feed(b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]))
    assert reader.head_done
    return ClientHead(reader, of, hide_account=hide_account)


@pytest.mark.parametrize(
    "line",
    [
        b"content-type: application/json",
        b"Content-Encoding: gzip",
        b"request-id: req_1",
        b"x-request-id: req_1",
        b"openai-processing-ms: 5",
        b"openai-version: 2020-10-01",
        b"x-ratelimit-remaining-tokens: 5",
        b"anthropic-ratelimit-requests-reset: 2026-01-01T00:00:00Z",
        b"retry-after: 5",
        b"x-should-retry: true",
        b"cf-ray: 1",
        b"X-Latin: \xe9",
        b"X-Empty: ",
        b"Cache-Control: no-cache",
        b"Content-Disposition: attachment",
    ],
)
def test_passed_as_it_came(line: bytes) -> None:
    assert head(b"A: 1", line, b"B: 2").lines == [b"A: 1", line, b"B: 2"]


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"content-length",
        b"upgrade",
        b"set-cookie",
        b"server",
        b"alt-svc",
        b"strict-transport-security",
        b"x-karta-request-id",
    ],
)
def test_dropped(name: bytes) -> None:
    value = {b"transfer-encoding": b"chunked", b"content-length": b"5", b"connection": b"close"}
    for spelling in (name, name.title(), name.upper()):
        assert head(b"A: 1", spelling + b": " + value.get(name, b"x")).lines == [b"A: 1"]


def test_what_connection_names_stays_between_provider_and_karta() -> None:
    found = head(
        b"X-Hop: 1", b"Connection: keep-alive, x-hop", b"X-End: 2", b"connection: X-Other", b"X-Other: 3"
    )
    assert found.lines == [b"X-End: 2"]
    assert head(b"Connection: close,X-Hop ,x-other", b"X-Hop: a:b", b"x-other: 1").lines == []
    assert head(b"Connection: close", b"Close: 1").lines == [b"Close: 1"], "close is no field's name there"


@pytest.mark.parametrize("hide", [True, False])
def test_the_account_is_hidden_when_it_is_shared(hide: bool) -> None:
    lines = [
        b"openai-organization: acme",
        b"OpenAI-Project: p",
        b"Anthropic-Organization-Id: o",
        b"anthropic-workspace-id: w",
    ]
    assert head(*lines, b"A: 1", hide_account=hide).lines == ([b"A: 1"] if hide else [*lines, b"A: 1"])


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (b"200 OK", b"HTTP/1.1 200 OK"),
        (b"529 Overloaded", b"HTTP/1.1 529 Overloaded"),
        (b"404", b"HTTP/1.1 404 "),
        (b"404 Nicht gefunden \xfc", b"HTTP/1.1 404 Nicht gefunden \xfc"),
        (b"200 O\0K", b"HTTP/1.1 200 "),
        (b"200 \x1b[31m", b"HTTP/1.1 200 "),
    ],
)
def test_the_status_line(status: bytes, line: bytes) -> None:
    assert head(status=status).status_line == line


@pytest.mark.parametrize(
    ("content_type", "event_stream"),
    [
        (b"text/event-stream", True),
        (b"text/event-stream; charset=utf-8", True),
        (b"Text/Event-Stream;charset=utf-8", True),
        (b"application/json", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_streaming_is_told_by_the_content_type(content_type: bytes, event_stream: bool) -> None:
    found = head(b"Content-Type: " + content_type)
    assert found.event_stream is event_stream
    assert not head().event_stream


def test_values_are_told_without_the_white_space_around_them() -> None:
    """In one piece, as the parser takes it away itself."""
    reader = ResponseReader()
    reader.feed(
        b"HTTP/1.1 307 T\r\nContent-Type:\t X/X \t\r\nRequest-Id: \tX1X\t \r\n"
        b"Location:\t X?X\t \r\nConnection:\tX-Hop \r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
    )
    found = ClientHead(reader, ANTHROPIC, hide_account=False)
    assert (found.content_type, found.provider_request_id) == (b"X/X", b"X1X")
    assert found.lines == [b"Content-Type:\t X/X \t", b"Request-Id: \tX1X\t ", b"Location: X?X"]


@pytest.mark.parametrize("name", [b"request-id", b"X-Request-ID"])
def test_the_provider_s_request_id_is_learnt(name: bytes) -> None:
    assert head(name + b": req_1").provider_request_id == b"req_1"
    assert head(b"A: 1").provider_request_id is None


def test_rendered() -> None:
    found = head(b"content-type: text/plain", b"Server: x", status=b"201 Created")
    assert found.render(b"id-1", b"content-length: 5", close=False) == (
        b"HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
        b"x-karta-request-id: id-1\r\n\r\n"
    )
    assert found.render(b"id-1", b"", close=True) == (
        b"HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        b"x-karta-request-id: id-1\r\n\r\n"
    )


# Redirects. The SDKs follow them with the key in hand.


@pytest.mark.parametrize(
    ("base_url", "location", "expected"),
    [
        ("https://api.anthropic.com", b"https://api.anthropic.com/v1/x?a=b&c", b"/v1/x?a=b&c"),
        ("https://api.anthropic.com", b"https://API.Anthropic.com:443/v1/x", b"/v1/x"),
        ("https://api.anthropic.com", b"https://api.anthropic.com", b"/"),
        ("https://api.anthropic.com", b"https://api.anthropic.com//evil.example/x", b"/evil.example/x"),
        ("https://api.anthropic.com", b"https://api.anthropic.com/X/x", b"/X/x"),
        ("https://api.anthropic.com", b"/v1/x?a=b", b"/v1/x?a=b"),
        ("https://api.anthropic.com", b"///evil.example/x", b"/evil.example/x"),
        ("https://api.anthropic.com", b"x?a=b", b"x?a=b"),
        ("https://api.anthropic.com", b"?a=b", b"?a=b"),
        ("https://api.anthropic.com", b"", b""),
        ("https://api.anthropic.com", b"/v1/\xc3\xa9", b"/v1/\xc3\xa9"),
        ("http://127.0.0.1:9000/pre", b"http://127.0.0.1:9000/pre/v1/x", b"/v1/x"),
        ("http://127.0.0.1:9000/pre", b"/pre/v1/x", b"/v1/x"),
        ("http://127.0.0.1:9000/pre", b"/prefix/v1/x", b"/prefix/v1/x"),
        ("http://127.0.0.1:9000/pre", b"http://127.0.0.1:9000/other", b"/other"),
        ("http://127.0.0.1", b"http://127.0.0.1/v1/x", b"/v1/x"),
        ("http://[::1]:9000", b"http://[::1]:9000/v1/x", b"/v1/x"),
    ],
)
@pytest.mark.parametrize("status", [b"300 M", b"301 M", b"302 F", b"303 S", b"307 T", b"308 P"])
def test_a_redirect_within_the_provider(
    base_url: str, location: bytes, expected: bytes, status: bytes
) -> None:
    found = head(b"Location: " + location, status=status, of=provider(base_url))
    assert found.lines == [b"Location: " + expected]


@pytest.mark.parametrize(
    "location",
    [
        b"https://evil.example/v1/x",
        b"https://api.anthropic.com.evil.example/",
        b"https://api.anthropic.com@evil.example/",
        b"https://api.anthropic.com:8443/v1/x",
        b"http://api.anthropic.com/v1/x",
        b"//evil.example/v1/x",
        b"//api.anthropic.com:1/v1/x",
        b"\\\\evil.example/v1/x",
        b"/\\evil.example/v1/x",
        b"/\t/evil.example",
        b"https://api.anthropic.com/\\evil.example",
        b"https:evil.example",
        b"https:/evil.example",
        b"https:///evil.example",
        b"ftp://api.anthropic.com/",
        b"javascript:alert(1)",
        b"http://[::1",
        b"http://[evil]/",
        b"https://api.anthropic.com:port/",
        b"https://api.anthropic.com:99999/",
    ],
)
def test_a_redirect_to_elsewhere_is_refused(location: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        head(b"Location: " + location, status=b"307 Temporary Redirect")
    assert caught.value.kind is Kind.UPSTREAM_BROKEN
    assert str(caught.value) == "The provider redirected to another host."


@pytest.mark.parametrize("status", [b"201 Created", b"400 Bad Request"])
def test_location_of_what_is_no_redirect_passes(status: bytes) -> None:
    line = b"Location: https://elsewhere.example/v1/realtime/calls/rtc_1"
    assert head(line, status=status).lines == [line]


@given(st.binary(max_size=40).filter(lambda raw: not set(raw) & {0, 10, 13}))
@settings(max_examples=300, deadline=None)
def test_any_location_stays_here_or_is_refused(raw: bytes) -> None:
    value = bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F)
    for location in (value, b"//" + value, b"https:" + value, b"https://api.anthropic.com" + value):
        try:
            (line,) = head(b"Location: " + location, status=b"307 T").lines
        except Refusal:
            continue
        found = line.removeprefix(b"Location: ")
        assert b"://" not in found.partition(b"?")[0].partition(b"/")[0]
        assert not found.startswith((b"//", b"/\\", b"\\"))
