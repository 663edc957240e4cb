"""Bytes in, requests out: well-formed ones however they are cut, and none at all from anything ambiguous."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.refusal import Kind, Refusal
from gateway.request_reader import (
    Inbound,
    RequestReader,
)
from tests.gateway.pieces import READ_BYTES, cut

Facts = tuple[bytes, bytes, str, tuple[tuple[bytes, bytes], ...], bytes, bool, bool, bool]


def facts(inbound: Inbound) -> Facts:
    return (
        inbound.method,
        inbound.target,
        inbound.version,
        tuple(inbound.headers),
        inbound.take_body(),
        inbound.keep_alive,
        inbound.upgrade,
        inbound.complete,
    )


def read(*pieces: bytes) -> list[Facts]:
    reader = RequestReader()
    for piece in pieces:
        reader.feed(piece)
    return [facts(inbound) for inbound in reader.ready]


def refused(*pieces: bytes) -> Refusal:
    reader = RequestReader()
    with pytest.raises(Refusal) as caught:
        for piece in pieces:
            reader.feed(piece)
    assert caught.value.close, "what follows a malformed request cannot be trusted"
    return caught.value


def outcome(reader: RequestReader, *pieces: bytes) -> Refusal | None:
    try:
        for piece in pieces:
            reader.feed(piece)
    except Refusal as refusal:
        return refusal
    return None


PLAIN = b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;why=not\r\n world\r\n0\r\nX-Trailer: dropped\r\n\r\n"
)
BODILESS = b"DELETE /v1/files/file%2F1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n"
HEAD = b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nX-EMPTY:\r\nX-Latin: \xe9\r\n\r\n"
OLD = b"GET /v1/models HTTP/1.0\r\n\r\n"
LAST = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, close\r\n\r\n"


def test_a_request_is_handed_on_when_its_head_is_complete() -> None:
    reader = RequestReader()
    head, _, body = PLAIN.partition(b"\r\n\r\n")
    reader.feed(head + b"\r\n\r")
    assert not reader.ready
    reader.feed(b"\n")
    (inbound,) = reader.ready
    assert not inbound.complete
    reader.feed(body[:2])
    assert inbound.take_body() == b"he"
    assert inbound.take_body() == b""
    reader.feed(body[2:])
    assert inbound.complete
    assert inbound.take_body() == b"llo"
    assert inbound.body_bytes == 5


def test_what_is_read_of_a_head() -> None:
    assert read(PLAIN) == [
        (
            b"POST",
            b"/v1/messages?beta=true",
            "1.1",
            ((b"Host", b"x"), (b"Content-Length", b"5")),
            b"hello",
            True,
            False,
            True,
        )
    ]


def test_chunks_are_undone_and_trailers_dropped() -> None:
    ((_, _, _, headers, body, _, _, complete),) = read(CHUNKED)
    assert (body, complete) == (b"hello world", True)
    assert b"X-Trailer" not in dict(headers)


@pytest.mark.parametrize(("request_bytes", "keep_alive"), [(PLAIN, True), (OLD, False), (LAST, False)])
def test_keep_alive(request_bytes: bytes, keep_alive: bool) -> None:
    assert read(request_bytes)[0][5] is keep_alive


def test_line_ends_before_a_request_are_ignored() -> None:
    assert read(b"\r\n\r\n" + PLAIN) == read(PLAIN)


PIPELINE = PLAIN + CHUNKED + BODILESS + HEAD + LAST


def test_pipelined_requests_queue_up_in_order() -> None:
    assert [one[0] for one in read(PIPELINE)] == [b"POST", b"POST", b"DELETE", b"HEAD", b"GET"]


@pytest.mark.parametrize("request_bytes", [PLAIN, CHUNKED, BODILESS, HEAD, OLD, LAST, PIPELINE])
def test_every_cut_in_two_gives_the_same_requests(request_bytes: bytes) -> None:
    whole = read(request_bytes)
    for at in range(1, len(request_bytes)):
        assert read(request_bytes[:at], request_bytes[at:]) == whole, at
    assert read(*cut(request_bytes, 1)) == whole


bodies = st.binary(max_size=300)
targets = st.text("abcXYZ019-._~!$&'()*+,;=:@%/?", max_size=60).map(lambda text: b"/" + text.encode())
values = st.text("abc XYZ019\t\"'(),/:;<=>?@[]{}", max_size=40).map(lambda text: text.strip(" \t").encode())
names = st.text("abcdefXYZ-0123456789", min_size=1, max_size=20).map(lambda text: b"X-" + text.encode())


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    body = draw(bodies)
    lines = [draw(st.sampled_from([b"GET", b"POST", b"PUT"])) + b" " + draw(targets) + b" HTTP/1.1"]
    lines += [
        name + b":" + draw(st.sampled_from([b"", b" ", b"\t "])) + value
        for name, value in draw(st.lists(st.tuples(names, values), max_size=5))
    ]
    if draw(st.booleans()):
        size = draw(st.integers(1, 50))
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut(body, size)]
        framed = b"".join(chunks) + b"0\r\n\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    else:
        framed = body
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + framed


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 4000), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_requests_cut_anywhere_are_the_same(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    edges = [0, *sorted(at for at in cuts if at < len(data)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert read(*pieces) == [one for request in sent for one in read(request)]


@given(st.binary(max_size=400))
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
@settings(max_examples=300, deadline=None)
def test_random_bytes_end_in_a_refusal_or_in_waiting(data: bytes) -> None:
    for pieces in ([data], cut(data, 3)):
        refusal = outcome(RequestReader(), *pieces)
        assert refusal is None or refusal.kind is Kind.MALFORMED


NOISE = [
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"0",
    b"GET / HTTP/1.1\r\n\r\n",
]


@given(
    requests(),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(NOISE)), max_size=3),
)
@example(PLAIN, [(0, 0, b"\n")])
@example(PLAIN, [(0, 0, b"\r")])
@example(PLAIN, [(0, 0, b" ")])
@example(PLAIN, [(len(PLAIN), 0, b"\r\n")])
@settings(max_examples=500, deadline=None)
def test_a_damaged_request_is_the_same_in_one_read_and_in_many(
    request_bytes: bytes, damages: list[tuple[int, int, bytes]]
) -> None:
    damaged = bytearray(request_bytes)
    for at, size, noise in damages:
        damaged[at : at + size] = noise
    whole, piecewise = RequestReader(), RequestReader()
    refusal = outcome(whole, bytes(damaged))
    assert (refusal is None) is (outcome(piecewise, *cut(bytes(damaged), 1)) is None)
    assert refusal is None or refusal.close
    found = [facts(inbound) for inbound in whole.ready]
    if refusal is None:
        assert found == [facts(inbound) for inbound in piecewise.ready]
    for method, _, _, headers, *_ in found:
        assert method.isalpha()
        for name, value in headers:
            assert not {0, 10, 13} & set(name + value), "nothing may end a line when it is written again"


START = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(START + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", id="CL, TE"),
        pytest.param(START + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", id="TE, CL"),
        pytest.param(START + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", id="CL twice"),
        pytest.param(START + b"Content-Length: 3\r\ncontent-length: 4\r\n\r\n", id="two CLs"),
        pytest.param(START + b"Content-Length: 3, 3\r\n\r\n", id="CL list"),
        pytest.param(START + b"Content-Length: +3\r\n\r\n", id="CL signed"),
        pytest.param(START + b"Content-Length: -3\r\n\r\n", id="CL negative"),
        pytest.param(START + b"Content-Length: 0x3\r\n\r\n", id="CL hexadecimal"),
        pytest.param(START + b"Content-Length: 1_0\r\n\r\n", id="CL as Python writes it"),
        pytest.param(START + b"Content-Length: 3 3\r\n\r\n", id="CL spaced"),
        pytest.param(START + b"Content-Length:\r\n\r\n", id="CL empty"),
        pytest.param(START + b"Content-Length: 99999999999999999999\r\n\r\n", id="CL beyond 64 bits"),
        pytest.param(START + b"Content-Length : 3\r\n\r\n", id="space before colon"),
        pytest.param(START + b"Transfer-Encoding: gzip\r\n\r\n", id="TE not chunked"),
        pytest.param(START + b"Transfer-Encoding: identity\r\n\r\n", id="TE identity"),
        pytest.param(START + b"Transfer-Encoding: xchunked\r\n\r\n", id="TE xchunked"),
        pytest.param(START + b'Transfer-Encoding: "chunked"\r\n\r\n', id="TE quoted"),
        pytest.param(START + b"Transfer-Encoding: chunked, identity\r\n\r\n", id="TE not last"),
        pytest.param(
            START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", id="TE twice"
        ),
        pytest.param(
            START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", id="TE, TE identity"
        ),
        pytest.param(START + b"Transfer-Encoding:\x0bchunked\r\n\r\n", id="TE vertical tab"),
        pytest.param(START + b"Transfer-Encoding:\r\n\r\n", id="TE empty"),
        pytest.param(START + b" folded: yes\r\n\r\n", id="obs-fold"),
        pytest.param(START + b"X:\r\n\tfolded\r\n\r\n", id="obs-fold of an empty value"),
        pytest.param(b"POST / HTTP/1.1\r\n Host: x\r\n\r\n", id="space before first field"),
        pytest.param(b"POST / HTTP/1.1\nHost: x\r\n\r\n", id="bare LF after the start"),
        pytest.param(START + b"X: y\n\r\n", id="bare LF after a field"),
        pytest.param(START + b"\n", id="bare LF at the end of the head"),
        pytest.param(START + b"X: y\rZ: z\r\n\r\n", id="bare CR"),
        pytest.param(START + b"X: y\0\r\n\r\n", id="NUL in a value"),
        pytest.param(START + b"X\0: y\r\n\r\n", id="NUL in a name"),
        pytest.param(START + b"X\xc3: y\r\n\r\n", id="name not ASCII"),
        pytest.param(START + b": y\r\n\r\n", id="no name"),
        pytest.param(START + b"X\r\n\r\n", id="no colon"),
        pytest.param(b"POST /\0 HTTP/1.1\r\n\r\n", id="NUL in target"),
        pytest.param(b"POST /\xff HTTP/1.1\r\n\r\n", id="target not ASCII"),
        pytest.param(b"POST /a b HTTP/1.1\r\n\r\n", id="space in target"),
        pytest.param(b"POST / HTTP/1.1 \r\n\r\n", id="space after version"),
        pytest.param(b"POST / http/1.1\r\n\r\n", id="version in small letters"),
        pytest.param(b"POST / HTTP/1.2\r\n\r\n", id="unknown version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"FETCH / HTTP/1.1\r\n\r\n", id="unknown method"),
        pytest.param(b"post / HTTP/1.1\r\n\r\n", id="method in small letters"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"3\nabc\n0\n\n", id="chunk line ends in LF"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"3 \r\nabc\r\n", id="chunk size and space"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"0x3\r\nabc\r\n", id="chunk size 0x"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"-3\r\nabc\r\n", id="chunk size negative"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"3\r\nabcd\r\n", id="chunk longer than said"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"3;a\nb\r\nabc\r\n", id="LF in an extension"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"10000000000000003\r\n", id="chunk beyond 64 bits"),
        pytest.param(CHUNKED.partition(b"5\r\n")[0] + b"0\r\nContent-Length: 5\r\n\r\n", id="CL as trailer"),
        pytest.param(LAST + PLAIN, id="request after Connection: close"),
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(request_bytes: bytes) -> None:
    assert refused(request_bytes).kind is Kind.MALFORMED
    assert refused(*cut(request_bytes, 1)).kind is Kind.MALFORMED


def test_the_reason_is_told_and_nothing_of_the_request() -> None:
    message = refused(START + b"Authorization: Bearer kt_live_secret\0\r\n\r\n").message
    assert "header value" in message
    assert "kt_live" not in message


H2C = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


@pytest.mark.parametrize(
    ("with_offer", "without"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", (b"GET", "1.1", b"", True), id="no body"),
        pytest.param(
            b"POST / HTTP/1.1\r\n%sHost: x\r\nContent-Length: 5\r\n\r\nhello",
            (b"POST", "1.1", b"hello", True),
            id="body",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            (b"POST", "1.1", b"hello", True),
            id="chunks",
        ),
        pytest.param(b"GET / HTTP/1.0\r\n%s\r\n", (b"GET", "1.0", b"", False), id="HTTP/1.0"),
        pytest.param(
            b"GET / HTTP/1.1\r\nConnection: close\r\n%s\r\n", (b"GET", "1.1", b"", False), id="close"
        ),
    ],
)
def test_an_offer_of_h2c_is_ignored(with_offer: bytes, without: tuple[bytes, str, bytes, bool]) -> None:
    data = with_offer % H2C
    for pieces in [[data], cut(data, 1), *([data[:at], data[at:]] for at in range(1, len(data)))]:
        ((method, _, version, headers, body, keep_alive, upgrade, complete),) = read(*pieces)
        assert (method, version, body, keep_alive) == without
        assert complete
        assert not upgrade
        assert {name.lower() for name, _ in headers} <= {
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"connection",
        }


def test_a_train_of_h2c_offers_costs_no_stack() -> None:
    one = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    count = READ_BYTES // len(one)
    assert count > 1000, "more than Python's limit of recursion"
    assert len(read(one * count)) == count


def test_a_request_after_an_h2c_offer_with_a_body_is_the_next_request() -> None:
    data = b"POST /1 HTTP/1.1\r\n" + H2C + b"Content-Length: 25\r\n\r\nGET /smuggled HTTP/1.1\r\n\r" + PLAIN
    assert [one[1] for one in read(data)] == [b"/1", b"/v1/messages?beta=true"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/realtime HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT api.openai.com:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_other_upgrades_are_marked_and_end_the_connection(request_bytes: bytes) -> None:
    (found,) = read(request_bytes + b"\x81\x85frame, or another protocol altogether")
    assert found[5:] == (False, True, True)


def test_an_upgrade_that_connection_does_not_name_is_no_offer() -> None:
    (found,) = read(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
    assert found[5:] == (True, False, True)
