"""`results_url` leads back to the gateway, and nothing else of an answer changes."""

from __future__ import annotations

import json

import pytest

from gateway.provider import AuthStyle, make_provider
from gateway.refusal import Dialect, Kind, Refusal
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader
from gateway.rewrite import needs_rewrite, rewrite
from tests.gateway.inbounds import request

VERSION = "anthropic-version: 2023-06-01"
PROVIDER = make_provider(
    "anthropic",
    Dialect.ANTHROPIC,
    AuthStyle.CLIENT,
    "https://api.anthropic.com",
    api_key=None,
    ca_file=None,
    development=False,
)


def needed(method: str, target: str, *, status: int = 200, lines: tuple[bytes, ...] = ()) -> bool:
    asked = request(method, target, VERSION)
    reader = ResponseReader()
    reader.begin(head_only=True)
    reader.feed(
        b"HTTP/1.1 %d X\r\n" % status
        + b"\r\n".join([*(lines or (b"Content-Type: application/json",)), b"", b""])
    )
    return needs_rewrite(asked, reader, ClientHead(reader, PROVIDER, hide_account=False))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches?beta=true&limit=3"),
        ("GET", "/v1/messages/batches/msgbatch_1"),
        ("POST", "/v1/messages/batches/msgbatch_1/cancel"),
        ("GET", "/anthropic/v1/messages/batches/msgbatch_1"),
    ],
)
def test_batch_objects_are_rewritten(method: str, target: str) -> None:
    assert needed(method, target)


@pytest.mark.parametrize(
    ("method", "target", "status", "content_type"),
    [
        ("HEAD", "/v1/messages/batches/msgbatch_1", 200, b"application/json"),
        ("GET", "/v1/messages/batches/msgbatch_1/results", 200, b"application/x-jsonl"),
        ("GET", "/v1/messages/batches/msgbatch_1", 404, b"application/json"),
        ("GET", "/v1/messages/batches/msgbatch_1", 302, b"application/json"),
        ("GET", "/v1/messages/batches/msgbatch_1", 200, b"text/html"),
        ("GET", "/v1/batches", 200, b"application/json"),
        ("GET", "/v1/models", 200, b"application/json"),
        ("POST", "/v1/messages", 200, b"application/json"),
    ],
)
def test_other_answers_pass_as_they_are(method: str, target: str, status: int, content_type: bytes) -> None:
    assert not needed(method, target, status=status, lines=(b"Content-Type: " + content_type,))


def test_an_answer_that_cannot_be_read_is_not_passed_on() -> None:
    with pytest.raises(Refusal) as caught:
        needed(
            "GET",
            "/v1/messages/batches/b",
            lines=(b"Content-Type: application/json", b"CONTENT-ENCODING: gzip"),
        )
    assert caught.value.kind is Kind.UPSTREAM_BROKEN
    assert not needed("GET", "/v1/models", lines=(b"Content-Encoding: gzip",)), "others pass compressed"


ASKED = request("GET", "/v1/messages/batches/b", VERSION)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"results_url":"https://api.anthropic.com/v1/messages/batches/b/results"}',
            b'{"results_url":"http://karta.example:8080/v1/messages/batches/b/results"}',
            id="as it is written",
        ),
        pytest.param(
            b'{ "results_url" :\n "http://127.0.0.1:9/v1/x?y=z" }',
            b'{ "results_url" :\n "http://karta.example:8080/v1/x?y=z" }',
            id="spaces, port, query",
        ),
        pytest.param(
            b'{"results_url":"https:\\/\\/api.anthropic.com\\/v1\\/x"}',
            b'{"results_url":"http://karta.example:8080\\/v1\\/x"}',
            id="escaped slashes",
        ),
        pytest.param(
            b'[{"results_url":"https://a/1"},{"results_url":"https://b/2"}]',
            b'[{"results_url":"http://karta.example:8080/1"},{"results_url":"http://karta.example:8080/2"}]',
            id="each",
        ),
        pytest.param(b'{"results_url":null}', b'{"results_url":null}', id="none yet"),
        pytest.param(b'{"results_url":"/v1/x"}', b'{"results_url":"/v1/x"}', id="relative"),
        pytest.param(b'{"url":"https://a/1"}', b'{"url":"https://a/1"}', id="another field"),
        pytest.param(
            b'{"t":"\\"results_url\\":\\"https://a/1\\""}',
            b'{"t":"\\"results_url\\":\\"https://a/1\\""}',
            id="text about it",
        ),
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"\xff\x00", b"\xff\x00", id="no text at all"),
    ],
)
def test_the_origin_becomes_the_gateway_s(body: bytes, expected: bytes) -> None:
    assert rewrite(body, ASKED) == expected


BODY = b'{"id":"b","results_url":"https://api.anthropic.com/v1/r"}'


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        ("https://karta.acme.example", "https://karta.acme.example/v1/r"),
        ("https://karta.acme.example/", "https://karta.acme.example/v1/r"),
        ("https://acme.example/karta", "https://acme.example/karta/v1/r"),
        (r"https://acme.example/\g<0>\1", r"https://acme.example/\g<0>\1/v1/r"),
    ],
)
def test_a_configured_url_wins(public_url: str, expected: str) -> None:
    changed = rewrite(BODY, ASKED, public_url)
    assert changed == BODY.replace(b"https://api.anthropic.com/v1/r", expected.encode())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("[::1]:8080", "http://[::1]:8080/v1/r"),
        ("gateway", "http://gateway/v1/r"),
        ('x"y', "/v1/r"),
        ("x\\u0022", "/v1/r"),
        ("x/y", "/v1/r"),
        ("a@b", "/v1/r"),
        ("", "/v1/r"),
        ("x" * 300, "/v1/r"),
    ],
)
def test_the_client_s_host_is_used_only_if_it_is_one(host: str, expected: str) -> None:
    asked = request("GET", "/v1/messages/batches/b", VERSION, f"Host: {host}")
    assert json.loads(rewrite(BODY, asked))["results_url"] == expected


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        ((), "http"),
        (("X-Forwarded-Proto: http",), "http"),
        (("X-Forwarded-Proto: https",), "https"),
        (("x-forwarded-proto: HTTPS, http",), "https"),
    ],
)
def test_a_client_of_a_proxy_that_speaks_tls_goes_on_doing_so(lines: tuple[str, ...], scheme: str) -> None:
    """The SDK sends its key to that address."""
    asked = request("GET", "/v1/messages/batches/b", VERSION, "Host: karta", *lines)
    assert json.loads(rewrite(BODY, asked))["results_url"] == f"{scheme}://karta/v1/r"
