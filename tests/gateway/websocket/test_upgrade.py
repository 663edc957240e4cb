"""The two heads of a handshake: which sockets there are, and what of either head passes."""

from __future__ import annotations

import pytest

from gateway.api_request import APIRequest
from gateway.authorize import Grant
from gateway.head_layout import layout_of
from gateway.limits import Limits
from gateway.operations import Operation
from gateway.provider import AuthStyle, make_provider
from gateway.refusal import Dialect, Kind, Refusal
from gateway.request_reader import Inbound, RequestReader
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader
from gateway.websocket import upgrade
from gateway.websocket.upgrade import (
    Handshake,
    aim,
    answer_head,
    read_handshake,
    recognise_socket,
    upstream_prefix,
)
from tests.gateway.websocket.sides import KEY, REALTIME, opening, proof

PROVIDER = make_provider(
    "openai",
    Dialect.OPENAI,
    AuthStyle.BEARER,
    "https://api.openai.com",
    api_key="sk-x",
    ca_file=None,
    development=False,
)


def inbound(raw: bytes) -> Inbound:
    reader = RequestReader()
    reader.feed(raw)
    (found,) = reader.ready
    assert found.upgrade
    return found


@pytest.mark.parametrize(
    ("path", "endpoint", "model", "stateless"),
    [
        (REALTIME, "/v1/realtime", "gpt-realtime", True),
        ("/openai" + REALTIME, "/v1/realtime", "gpt-realtime", True),
        ("/v1/realtime?call_id=rtc_1", "/v1/realtime", None, False),
        # A server reads these as the same name.
        ("/v1/realtime?c%61ll_id=rtc_1", "/v1/realtime", None, False),
        ("/v1/realtime?model=m&%63%61%6C%6C%5Fid=rtc_1", "/v1/realtime", "m", False),
        ("/v1/responses", "/v1/responses", None, True),
        ("/v1/live/sessions", "/v1/live/sessions", None, False),
    ],
)
def test_the_sockets_there_are(path: str, endpoint: str, model: str | None, stateless: bool) -> None:
    request = recognise_socket(inbound(opening("kt_live_x", path)), Limits())
    assert (request.operation.path, request.model) == (endpoint, model)
    assert request.operation.stateless is stateless
    assert (request.token, request.bearer) == (b"kt_live_x", True)
    assert request.target == path.removeprefix("/openai").encode()


@pytest.mark.parametrize(
    "raw",
    [
        opening("k", "/v1/live/sessions/live_1/attach?graceful_close=true"),
        opening("k", "/v1/live/sessions/live_1/fork"),
        opening("k", "/v1/messages"),
        opening("k", "/anthropic/v1/realtime"),
        opening("k").replace(b"GET", b"POST"),
        opening("k").replace(b"websocket", b"spdy/3.1"),
        b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n",
    ],
)
def test_other_upgrades_are_not_supported(raw: bytes) -> None:
    with pytest.raises(Refusal) as found:
        recognise_socket(inbound(raw), Limits())
    assert found.value.kind is Kind.NOT_SUPPORTED


@pytest.mark.parametrize("path", ["/v1/realtime?model=a&model=b", f"{REALTIME}&key=kt_live_x"])
def test_a_query_that_says_too_much_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as found:
        recognise_socket(inbound(opening("kt_live_x", path)), Limits())
    assert found.value.kind is Kind.MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        opening("k", key="short"),
        opening("k").replace(b"Version: 13", b"Version: 8"),
        opening("k", REALTIME, f"Sec-WebSocket-Key: {KEY}"),
        opening("k", REALTIME, "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.kt_live_x"),
        opening("k", REALTIME, "Sec-WebSocket-Protocol: kt_live_x"),
        opening("k", REALTIME, "Sec-WebSocket-Protocol: a b"),
        opening("k") + b"\x81\x80mask",
    ],
)
def test_what_is_no_handshake_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal) as found:
        read_handshake(inbound(raw))
    assert found.value.kind is Kind.MALFORMED


@pytest.mark.parametrize(("hide", "goes_up"), [(False, b"realtime, openai-project.p"), (True, b"realtime")])
def test_a_part_of_an_account_that_is_shared_is_not_named(hide: bool, goes_up: bytes) -> None:
    raw = opening("kt_live_x", REALTIME, "Sec-WebSocket-Protocol: realtime, openai-project.p")
    handshake = read_handshake(inbound(raw))
    assert b"sec-websocket-protocol: " + goes_up + b"\r\n" in upstream_prefix(
        b"", handshake, hide_account=hide
    )


def test_what_goes_up() -> None:
    raw = opening("kt_live_x", REALTIME, "Sec-WebSocket-Protocol: realtime", "OpenAI-Beta: realtime=v1")
    request = recognise_socket(inbound(raw), Limits())
    handshake = read_handshake(request.inbound)
    prefix = upstream_prefix(
        request.upstream_prefix(PROVIDER, hide_account=False), handshake, hide_account=False
    )
    assert prefix.split(b"\r\n") == [
        b"GET /v1/realtime?model=gpt-realtime HTTP/1.1",
        b"host: api.openai.com",
        b"OpenAI-Beta: realtime=v1",
        b"accept-encoding: identity",
        b"connection: Upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: 13",
        b"sec-websocket-key: " + KEY.encode(),
        b"sec-websocket-protocol: realtime",
        b"",
    ]


def answer(*lines: str, protocols: bytes = b"") -> bytes:
    reader = ResponseReader()
    reader.status, reader.lines = 101, [line.encode() for line in lines]
    reader.layout = layout_of(reader.lines, reader.layout)
    head = ClientHead(reader, PROVIDER, hide_account=True)
    return answer_head(Handshake(KEY.encode(), protocols), reader.lines, head, b"id")


AGREED = ("Upgrade: WebSocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {proof()}")


def test_what_comes_down() -> None:
    told = answer(
        *AGREED,
        "Sec-WebSocket-Protocol: realtime",
        "x-request-id: req_1",
        "set-cookie: __cf_bm=x",
        "openai-organization: org",
        "server: cloudflare",
        protocols=b"realtime, other",
    )
    assert told.split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + proof().encode(),
        b"sec-websocket-protocol: realtime",
        b"x-request-id: req_1",
        b"x-karta-request-id: id",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        AGREED[1:],
        AGREED[:2],
        (*AGREED[:2], "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        (*AGREED, "Sec-WebSocket-Extensions: permessage-deflate"),
        (*AGREED, "Sec-WebSocket-Protocol: unasked"),
    ],
)
def test_a_provider_that_agrees_to_something_else_is_not_believed(lines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="did not agree"):
        answer(*lines)


@pytest.mark.parametrize(
    ("asked", "operation", "target"),
    [
        ("/v1/realtime?model=voice", upgrade.REALTIME, "/v1/realtime?model=a%2Fb%26c"),
        ("/v1/realtime?x=%2F&m%6Fdel=voice&y", upgrade.REALTIME, "/v1/realtime?x=%2F&model=a%2Fb%26c&y"),
        ("/v1/responses?model=voice", upgrade.RESPONSE, "/v1/responses"),
        ("/v1/responses?x=1&model=voice", upgrade.RESPONSE, "/v1/responses?x=1"),
    ],
)
def test_a_routes_socket_is_aimed_at_its_target(asked: str, operation: Operation, target: str) -> None:
    request = APIRequest(inbound(opening("k", asked)), operation, asked.encode())
    grant = Grant.__new__(Grant)
    grant.request, grant.model = request, "a/b&c"
    aim(grant)
    assert grant.request.target == target.encode()
    # The other targets have the request as it was.
    assert request.target == asked.encode()
