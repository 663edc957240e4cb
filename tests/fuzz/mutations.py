"""Hostile bytes: valid messages, changed in the ways that have broken proxies before, and in random ones."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Mutate = Callable[[DrawFn, bytes], bytes]

TRANSFER_ENCODINGS = [
    b"chunked",
    b"Chunked",
    b"xchunked",
    b"chunked, identity",
    b"identity",
    b"gzip, chunked",
    b"chunked,chunked",
    b"\tchunked",
    b"chunked\x0b",
    b"chunked\x00",
    b'"chunked"',
    b"chunked;q=1",
    b",chunked",
    b"",
    b"\xa0chunked",
]
CONTENT_LENGTHS = [
    b"0",
    b"1",
    b"5",
    b"+5",
    b"-1",
    b"0x5",
    b"5, 5",
    b"5,6",
    b"5 5",
    b"5;",
    b"",
    b"00000000000000000005",
    b"5\x00",
    b"99999999999999999999999",
    b"18446744073709551621",
    b"1e1",
    b"\xd9\xa5",
    b"5\t",
    b"5\x0b",
]
CHUNK_SIZES = [
    b"0",
    b"5",
    b"05",
    b"+5",
    b"-5",
    b"0x5",
    b"5 ",
    b" 5",
    b"5;a=b",
    b'5;a="b\r\n"',
    b"5\n",
    b"G",
    b"",
    b"5\x00",
    b"FFFFFFFFFFFFFFFFF",
    b"100000000000000005",
    b"80000000",
    b"5;" + b"e" * 20_000,
]
FIELDS = [
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"Content-Length: 5",
    b"Content-Length : 5",
    b"content-length:5",
    b"Connection: close",
    b"Connection: authorization, host, content-length",
    b"Connection: x-tag",
    b"Host: other",
    b"Host : other",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"HTTP2-Settings: AAMAAABk",
    b"Trailer: host",
    b"TE: trailers",
    b"Cookie: a=b",
    b"Proxy-Connection: keep-alive",
    b"X-Forwarded-For: 1.2.3.4",
    b"X-HTTP-Method-Override: DELETE",
    b"Authorization: Basic eA==",
    b"x-api-key: sk-other",
    b": empty",
    b"novalue",
    b"a b: c",
    b"\x00: x",
    b"x:\x00",
    b"x: \x7f\x01",
    b"\xc3\xa9: x",
    b"Content-Encoding: gzip",
    b"Content-Type: text/html",
    b"Range: bytes=0-1",
    b"Accept-Encoding: gzip, br",
    b"Content-Length: 5\r\nContent-Length: 6",
]
START_LINES = [
    b"GET http://other/v1/models HTTP/1.1",
    b"GET //v1/models HTTP/1.1",
    b"GET /v1/models HTTP/1.0",
    b"GET /v1/models HTTP/2.0",
    b"GET /v1/models HTTP/0.9",
    b"GET /v1/models",
    b"GET  /v1/models HTTP/1.1",
    b"GET /v1/models HTTP/1.1 ",
    b"GET\t/v1/models\tHTTP/1.1",
    b"get /v1/models HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"CONNECT other:443 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"TRACE /v1/models HTTP/1.1",
    b"PATCH /v1/models HTTP/1.1",
    b"GET /v1/models#x HTTP/1.1",
    b"GET /v1/../v1/models HTTP/1.1",
    b"GET /v1/models/..%2f..%2fetc HTTP/1.1",
    b"GET /v1/models/a%0d%0ax HTTP/1.1",
    b"GET /v1/files/%2e%2e/models HTTP/1.1",
    b"GET /v1/models\x00 HTTP/1.1",
    b"GET /v1/mod\xc3\xa9ls HTTP/1.1",
    b"GET /v1/models?a=\xff HTTP/1.1",
    b"GET /v1/models/" + b"a" * 9000 + b" HTTP/1.1",
    b"POST /v1/chat/completions HTTP/1.1",
    b"DELETE /v1/files/f HTTP/1.1",
    b"HEAD /v1/models HTTP/1.1",
    b"GET /_sim/ledger HTTP/1.1",
    b"GET /healthz HTTP/1.1",
    b"\r\nGET /v1/models HTTP/1.1",
    b"\x16\x03\x01\x02\x00",
]
STATUS_LINES = [
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 099 X",
    b"HTTP/1.1 600 X",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching",
    b"HTTP/1.1 103 Early",
    b"HTTP/1.1 199 X",
    b"HTTP/1.1 204 No",
    b"HTTP/1.1 205 Reset",
    b"HTTP/1.1 304 Not",
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200 OK",
    b"HTTP/1.1  200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 -200 OK",
    b"HTTP/1.1 +20 OK",
    b"HTTP/1.1 2 0 OK",
    b"HTTP/1.1 200 O\rK",
    b"HTTP/1.1 200 O\x00K",
    b"http/1.1 200 ok",
    b"HTTP/1.1 200 \xff\xfe",
    b"\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 302 Found",
    b"HTTP/1.1 407 Proxy",
    b"HTTP/1.1 200 " + b"r" * 70_000,
]
TOKENS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b";",
    b"\xff",
    b"\x0b",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
]


def _position(draw: DrawFn, data: bytes) -> int:
    return draw(st.integers(0, len(data)))


def _truncate(draw: DrawFn, data: bytes) -> bytes:
    return data[: _position(draw, data)]


def _insert(draw: DrawFn, data: bytes) -> bytes:
    at = _position(draw, data)
    return data[:at] + draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=8)) + data[at:]


def _delete(draw: DrawFn, data: bytes) -> bytes:
    at = _position(draw, data)
    return data[:at] + data[at + draw(st.integers(1, 30)) :]


def _flip(draw: DrawFn, data: bytes) -> bytes:
    if not data:
        return data
    at = draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


def _duplicate(draw: DrawFn, data: bytes) -> bytes:
    start = _position(draw, data)
    end = start + draw(st.integers(1, 80))
    return data[:end] + data[start:end] + data[end:]


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    head, blank, body = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), blank + body


def _add_field(draw: DrawFn, data: bytes) -> bytes:
    lines, rest = _lines(data)
    lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(FIELDS)))
    return b"\r\n".join(lines) + rest


def _repeat_field(draw: DrawFn, data: bytes) -> bytes:
    lines, rest = _lines(data)
    lines.insert(draw(st.integers(1, len(lines))), draw(st.sampled_from(lines)))
    return b"\r\n".join(lines) + rest


def _drop_field(draw: DrawFn, data: bytes) -> bytes:
    lines, rest = _lines(data)
    if len(lines) > 1:
        del lines[draw(st.integers(1, len(lines) - 1))]
    return b"\r\n".join(lines) + rest


def _change_framing(draw: DrawFn, data: bytes) -> bytes:
    """Another length or transfer coding in place of, or besides, the right one."""
    name, values = draw(
        st.sampled_from([(b"Content-Length", CONTENT_LENGTHS), (b"Transfer-Encoding", TRANSFER_ENCODINGS)])
    )
    field = name + b": " + draw(st.sampled_from(values))
    lines, rest = _lines(data)
    if draw(st.booleans()):
        lines = [
            line for line in lines if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))
        ]
    lines.insert(draw(st.integers(1, len(lines))), field)
    return b"\r\n".join(lines) + rest


def _change_chunk(draw: DrawFn, data: bytes) -> bytes:
    """Another size line in place of a random line of the body."""
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = body.split(b"\r\n")
    lines[draw(st.integers(0, len(lines) - 1))] = draw(st.sampled_from(CHUNK_SIZES))
    return head + blank + b"\r\n".join(lines)


def _replace_start(choices: list[bytes]) -> Mutate:
    def mutate(draw: DrawFn, data: bytes) -> bytes:
        _, end, rest = data.partition(b"\r\n")
        return draw(st.sampled_from(choices)) + end + rest

    return mutate


_ANYWHERE: list[Mutate] = [_truncate, _insert, _delete, _flip, _duplicate]
_IN_HEAD: list[Mutate] = [
    _add_field,
    _add_field,
    _repeat_field,
    _drop_field,
    _change_framing,
    _change_framing,
]
REQUEST_MUTATIONS = [*_ANYWHERE, *_IN_HEAD, _change_chunk, _replace_start(START_LINES)]
ANSWER_MUTATIONS = [*_ANYWHERE, *_IN_HEAD, _change_chunk, _replace_start(STATUS_LINES)]


@st.composite
def mutated(draw: DrawFn, messages: SearchStrategy[bytes], mutations: list[Mutate]) -> bytes:
    """One of `messages` after one to three mutations."""
    data = draw(messages)
    for mutate in draw(st.lists(st.sampled_from(mutations), min_size=1, max_size=3)):
        data = mutate(draw, data)
    return data


@st.composite
def pieces(draw: DrawFn, whole: SearchStrategy[bytes]) -> list[bytes]:
    """The same bytes, cut at up to four places; an empty list for no bytes."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [part for part in parts if part]
