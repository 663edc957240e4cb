"""Byte for byte: requests arrive as they were sent, and answers as the provider wrote them, framing included.

What libraries would tidy up is written by hand here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import zlib
from typing import Any

import pytest

from tests.sdk.compare import Answer, Side, Sides
from tests.sdk.wire import RawAnswer, RawClient, chunked, request

Headers = list[tuple[str, str]]

ANTHROPIC: Headers = [("anthropic-version", "2023-06-01")]
PATHS: dict[str, tuple[str, Headers, dict[str, Any]]] = {
    "messages": ("/v1/messages", ANTHROPIC, {"max_tokens": 500}),
    "chat": ("/v1/chat/completions", [], {"stream_options": {"include_usage": True}}),
    "responses": ("/v1/responses", [], {}),
    "completions": ("/v1/completions", [], {"prompt": "x", "stream_options": {"include_usage": True}}),
}
apis = pytest.mark.parametrize("api", list(PATHS))

STREAMS = [
    "tokens=40",
    "tokens=40,split=3",
    "tokens=40,flush",
    "tokens=12,pace_ms=2",
    "tokens=40,pings=2,comments,future_event,newline=crlf",
    "tokens=9,newline=cr,no_blank_end",
    "tokens=9,framing=length",
    "tokens=9,framing=close",
    "tokens=9,usage=none",
    "tokens=9,seed=77,thinking=3",
    "bytes=3000000",
    "event_bytes=9000000",
    "tokens=9,malformed=json,malformed_after=3",
    "tokens=9,malformed=utf8,malformed_after=3",
]
WHOLE = [
    "tokens=40",
    "bytes=20000000",
    "framing=chunked,bytes=200000",
    "framing=close",
    "split=1",
    "interim=102",
    "close",
    "close_silently",
    "status=201",
    "malformed=json",
    "malformed=utf8",
    "cloudflare",
]


def ask(side: Side, host: str, api: str, behaviour: str, **more: Any) -> bytes:
    path, headers, fields = PATHS[api]
    body = {"model": f"sim:{behaviour}", "messages": [{"role": "user", "content": "ä"}], "input": "x"}
    document = json.dumps(body | fields | more).encode()
    return request("POST", path, [*common(side, host), *headers], document)


def common(side: Side, host: str) -> Headers:
    return [("Host", host), ("Authorization", f"Bearer {side.key}"), ("Content-Type", "application/json")]


def exchange(side: Side, data: bytes, method: str = "POST") -> RawAnswer:
    """One request on a connection of its own."""
    with RawClient(side.url) as client:
        client.send(data)
        answer = client.read_answer(method)
    _, status, reason = answer.status_line.split(" ", 2)
    side.answers.append(Answer(int(status), reason, answer.headers))
    return answer


def seen_raw(side: Side, api: str, behaviour: str, **more: Any) -> list[Any]:
    host = side.url.removeprefix("http://")
    answer = exchange(side, ask(side, host, api, behaviour, **more))
    return [answer.framing, hashlib.sha256(answer.raw).hexdigest(), hashlib.sha256(answer.body).hexdigest()]


@apis
@pytest.mark.parametrize("behaviour", STREAMS)
def test_a_stream_is_byte_identical(sides: Sides, api: str, behaviour: str) -> None:
    seen = sides.same(lambda side: seen_raw(side, api, behaviour, stream=True))
    assert seen.result[2] == seen.entries[0]["response_sha256"] or "malformed" in behaviour
    assert seen.entries[0]["streamed"]


STRIPPED = [
    # Not where another event changes what the simulator says besides, and not where the framing is compared.
    *(one for one in STREAMS if not any(word in one for word in ("malformed", "pings", "framing=length"))),
    "tokens=40,future_event,newline=crlf",
]


@pytest.mark.parametrize("behaviour", STRIPPED)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_that_karta_asked_the_usage_of_says_the_same(
    sides: Sides, path: str, behaviour: str
) -> None:
    """The framing is Karta's own there (docs/decisions/0031); the bytes in it are not."""

    def use(side: Side) -> str:
        host = side.url.removeprefix("http://")
        said = {"messages": [{"role": "user", "content": "ä"}], "prompt": "x", "stream": True}
        document = json.dumps({"model": f"sim:{behaviour}"} | said).encode()
        return hashlib.sha256(
            exchange(side, request("POST", path, common(side, host), document)).body
        ).hexdigest()

    sides.same(use)


@apis
@pytest.mark.parametrize("behaviour", WHOLE)
def test_a_whole_answer_is_byte_identical(sides: Sides, api: str, behaviour: str) -> None:
    seen = sides.same(lambda side: seen_raw(side, api, behaviour))
    assert seen.result[2] == seen.entries[0]["response_sha256"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"sim:tokens=1","a":1,"a":1.0,"max_tokens":12345678901234567890,"messages":[]}',
        b' \r\n\t{"model" : "sim:tokens=1", "messages":[], "x":1e2, "y":-0.0, "z":1.10}\r\n',
        b'{"model":"\\u0073im:tokens=1","messages":[],"e":"\\ud83e\\udd8a\\/\\u0000","u":"\xf0\x9f\xa6\x8a"}',
        b'{"messages":[{"content":{"model":"not this"}}],"deep":'
        + b"[" * 60
        + b"]" * 60
        + b',"model":"sim:tokens=1"}',
        b'{"model":"sim:tokens=1","messages":[],"long":"' + b"x" * 3_000_000 + b'"}',
    ],
    ids=["duplicates and large numbers", "spaces", "escapes", "nesting", "three megabytes"],
)
@pytest.mark.parametrize("chunks", [0, 1, 7])
def test_a_body_arrives_as_it_was_written(sides: Sides, body: bytes, chunks: int) -> None:
    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            headers = common(side, client.host)
            data = request("POST", "/v1/chat/completions", headers, body, chunks=chunks)
            client.send(data[: len(data) // 2], data[len(data) // 2 :])
            return client.read_answer().raw

    seen = sides.same(use)
    assert seen.entries[0]["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_header_fields_arrive_as_they_were_written(sides: Sides) -> None:
    """Case, order, repetition, empty values, inner spaces, bytes beyond ASCII."""

    def use(side: Side) -> Any:
        host = side.url.removeprefix("http://")
        odd = [
            ("ANTHROPIC-BETA", "one-2025-01-01"),
            ("anthropic-version", "2023-06-01"),
            ("Anthropic-Beta", "two-2025-02-02, three-2025-03-03"),
            ("X-Stainless-Retry-Count", "0"),
            ("X-Empty", ""),
            ("X-Spaces", " \t a  b \t"),
            ("X-Latin", "caf\xe9"),
            ("User-Agent", "Odd/1.0 (a; b) [c]"),
            ("Accept", "*/*"),
            ("Accept-Language", "de;q=0.5"),
            ("Idempotency-Key", "k k"),
            ("Content-Type", 'application/json; Charset="utf-8"'),
        ]
        key = [("HOST", host), ("x-API-key", side.key)]
        body = b'{"model":"sim:tokens=1","max_tokens":1,"messages":[]}'
        return exchange(side, request("POST", "/v1/messages?a=b", [*key, *odd], body)).raw

    (entry,) = sides.same(use).entries
    headers = dict(map(tuple, entry["headers"]))
    assert headers["x-spaces"].rstrip() == "a  b"
    assert headers["x-latin"] == "caf\xe9"
    betas = [value for name, value in entry["headers"] if name == "anthropic-beta"]
    assert betas == ["one-2025-01-01", "two-2025-02-02, three-2025-03-03"]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_requests_may_arrive_in_any_pieces(sides: Sides, size: int) -> None:
    """Three pipelined requests of both dialects, cut every `size` bytes."""

    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            first = ask(side, client.host, "messages", "tokens=3")
            second = ask(side, client.host, "chat", "tokens=3", stream=True)
            third = request("GET", "/v1/models", common(side, client.host))
            data = first + second + third
            client.send(*(data[start : start + size] for start in range(0, len(data), size)))
            return [client.read_answer().raw for _ in range(3)]

    sides.same(use, requests=3)


def test_chunked_uploads_with_trailers_stream_through(sides: Sides) -> None:
    content = bytes(range(256)) * 8000
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    form += (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )

    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            headers = [("Host", client.host), ("Authorization", f"Bearer {side.key}")]
            headers += [("Content-Type", "multipart/form-data; boundary=b"), ("Transfer-Encoding", "Chunked")]
            client.send(request("POST", "/v1/files", [*headers, ("Trailer", "X-Trailer")]))
            client.send(chunked(form, 90).removesuffix(b"\r\n"), b"X-Trailer: 1\r\n", b"\r\n")
            first = client.read_answer()
            client.send(request("GET", "/v1/files", common(side, client.host)))
            return [first.raw, client.read_answer().raw]

    (entry, _) = sides.same(use, requests=2).entries
    assert entry["body_sha256"] == hashlib.sha256(form).hexdigest()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["close", "keep-alive", "Keep-Alive, Upgrade", ""])
def test_connection_options_are_between_neighbours(sides: Sides, version: str, connection: str) -> None:
    def use(side: Side) -> Any:
        host = side.url.removeprefix("http://")
        headers = common(side, host) + ([("Connection", connection)] if connection else [])
        if "Upgrade" in connection:
            headers += [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]
        data = request("GET", "/v1/models", headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)
        return exchange(side, data, "GET").body

    (entry,) = sides.same(use).entries
    assert entry["status"] == 200


def test_a_stream_for_http_1_0_has_no_chunks(sides: Sides) -> None:
    def use(side: Side) -> Any:
        host = side.url.removeprefix("http://")
        data = ask(side, host, "chat", "tokens=20", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        answer = exchange(side, data)
        return [answer.framing, answer.raw]

    assert sides.same(use).result[0] == "close"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_answer_is_never_half_encoded(sides: Sides, encoding: str, *, stream: bool) -> None:
    """Karta asks for `identity`; what the client then gets is the same content, and says so."""

    def use(side: Side) -> RawAnswer:
        host = side.url.removeprefix("http://")
        data = ask(side, host, "chat", f"tokens=20,encoding={encoding}", stream=stream)
        return exchange(side, data.replace(b"Host:", b"Accept-Encoding: gzip, deflate\r\nHost:", 1))

    direct, karta = use(sides.direct), use(sides.karta)
    assert direct.header("content-encoding") == encoding
    assert karta.header("content-encoding") is None
    plain = gzip.decompress(direct.body) if encoding == "gzip" else zlib.decompress(direct.body)
    assert karta.body == plain


def test_expect_is_answered_before_the_body_is_asked_for(sides: Sides) -> None:
    """A refusal instead of `100 Continue` where the key is wrong: on both sides nothing is uploaded."""

    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            headers = [
                ("Host", client.host),
                ("Authorization", "Bearer sk-wrong"),
                ("Expect", "100-continue"),
            ]
            data = request("POST", "/v1/files", [*headers, ("Content-Length", "5000000")])
            client.send(data)
            answer = client.read_answer()
        return [answer.status, len(answer.interim), json.loads(answer.body)["error"]["code"]]

    for side in (sides.direct, sides.karta):
        assert use(side) == [401, 0, "invalid_api_key"]


def test_a_reader_that_begins_late_gets_the_same_bytes(sides: Sides) -> None:
    """Far more than all buffers on the way hold waits at the provider meanwhile."""

    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.send(ask(side, client.host, "chat", "bytes=6000000", stream=True))
            client.wait_for_more()
            return hashlib.sha256(client.read_answer().raw).hexdigest()

    sides.same(use)


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize(
    "behaviour",
    ["tokens=9", "tokens=9,split=1", "framing=chunked", "split=2", "framing=chunked,split=1", "status=204"],
)
def test_a_connection_that_was_not_said_to_close_is_kept(sides: Sides, method: str, behaviour: str) -> None:
    """However the answer's last bytes came. A client may only be left without a warning when it was idle."""

    def use(side: Side) -> Any:
        with RawClient(side.url) as client:
            seen = []
            for _ in range(3):
                if method == "HEAD":
                    headers = [*common(side, client.host), ("X-Sim-Behaviour", behaviour)]
                    client.send(request("HEAD", "/v1/responses/r-1?stream=true", headers))
                else:
                    client.send(ask(side, client.host, "chat", behaviour, stream="tokens" in behaviour))
                answer = client.read_answer(method)
                assert answer.header("connection") is None
                seen.append([answer.status, answer.raw])
            return seen

    sides.same(use, requests=3)
