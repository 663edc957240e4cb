"""The bounds of the request reader: each holds in one read, in reads of full size, and byte by byte."""

from __future__ import annotations

import pytest

from gateway.refusal import Kind, Refusal
from gateway.request_reader import (
    FRAMING_PER_BODY_BYTE_MAX,
    HEAD_BYTES_MAX,
    HEADER_COUNT_MAX,
    TARGET_BYTES_MAX,
    TRAILER_COUNT_MAX,
    RequestReader,
)
from tests.gateway.pieces import READ_BYTES, cut
from tests.gateway.test_request_reader import PLAIN, facts, read, refused


@pytest.mark.parametrize("size", [10**6, READ_BYTES, 1000])
def test_a_target_is_bounded(size: int) -> None:
    longest = b"/" + b"a" * (TARGET_BYTES_MAX - 1)
    assert read(*cut(b"GET " + longest + b" HTTP/1.1\r\n\r\n", size))[0][1] == longest
    assert refused(*cut(b"GET " + longest + b"a HTTP/1.1\r\n\r\n", size)).kind is Kind.TARGET_TOO_LONG
    assert refused(*cut(b"GET /" + b"a" * 10**6, size)).kind is Kind.TARGET_TOO_LONG


@pytest.mark.parametrize("size", [READ_BYTES, 1000, 1])
def test_a_head_is_bounded(size: int) -> None:
    room = HEAD_BYTES_MAX - len(b"GET / HTTP/1.1\r\nX: \r\n\r\n")
    assert len(read(*cut(b"GET / HTTP/1.1\r\nX: " + b"v" * room + b"\r\n\r\n", size))) == 1
    too_long = b"GET / HTTP/1.1\r\nX: " + b"v" * (room + 1) + b"\r\n\r\n"
    assert refused(*cut(too_long, size)).kind is Kind.HEADERS_TOO_LARGE
    endless = b"GET / HTTP/1.1\r\nX: " + b"v" * 3 * READ_BYTES
    assert refused(*cut(endless, size)).kind is Kind.HEADERS_TOO_LARGE
    endless_name = b"GET / HTTP/1.1\r\n" + b"v" * 3 * READ_BYTES
    assert refused(*cut(endless_name, size)).kind is Kind.HEADERS_TOO_LARGE


def test_a_large_body_in_the_same_read_does_not_count_as_head() -> None:
    body = b"b" * 60_000
    (found,) = read(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert found[4] == body


def test_a_head_that_begins_behind_a_large_body_is_not_charged_for_it() -> None:
    body = b"b" * 60_000
    first = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert len(read(first + PLAIN[:30], PLAIN[30:])) == 2


@pytest.mark.parametrize("size", [READ_BYTES, 100])
def test_fields_are_counted(size: int) -> None:
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(HEADER_COUNT_MAX))
    assert len(read(*cut(b"GET / HTTP/1.1\r\n" + fields + b"\r\n", size))[0][3]) == HEADER_COUNT_MAX
    many = b"GET / HTTP/1.1\r\nX: y\r\n" + fields + b"\r\n"
    assert refused(*cut(many, size)).kind is Kind.HEADERS_TOO_LARGE


@pytest.mark.parametrize("size", [READ_BYTES, 100])
@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
def test_an_upgrade_beyond_a_bound_is_refused_as_any_request(upgrade: bytes, size: int) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % upgrade
    many = b"".join(b"X-%d: y\r\n" % number for number in range(HEADER_COUNT_MAX))
    start = b"GET / HTTP/1.1\r\n" + offer
    assert refused(*cut(start + many + b"\r\n", size)).kind is Kind.HEADERS_TOO_LARGE
    target = b"/" + b"a" * TARGET_BYTES_MAX
    too_long = b"GET " + target + b" HTTP/1.1\r\n" + offer + b"\r\n"
    assert refused(*cut(too_long, size)).kind is Kind.TARGET_TOO_LONG
    tunnel = b"CONNECT " + b"a" * TARGET_BYTES_MAX + b":443 HTTP/1.1\r\n\r\n"
    assert refused(*cut(tunnel, size)).kind is Kind.TARGET_TOO_LONG


def test_the_request_before_an_upgrade_that_is_refused_is_left_as_it_was() -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(HEADER_COUNT_MAX))
    reader = RequestReader()
    with pytest.raises(Refusal):
        reader.feed(
            PLAIN + b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + many + b"\r\nrest"
        )
    (before,) = reader.ready
    assert facts(before) == read(PLAIN)[0]


@pytest.mark.parametrize("size", [READ_BYTES, 100])
def test_trailers_are_counted(size: int) -> None:
    start = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    fits = start + b"X: y\r\n" * TRAILER_COUNT_MAX + b"\r\n"
    assert read(*cut(fits, size))[0][7]
    too_many = start + b"X: y\r\n" * (HEADER_COUNT_MAX + TRAILER_COUNT_MAX + 1) + b"\r\n"
    assert refused(*cut(too_many, size)).kind is Kind.HEADERS_TOO_LARGE


@pytest.mark.parametrize("size", [READ_BYTES, 1000])
@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"5\r\nhello\r\n0\r\nX: " + b"v" * 10**6, id="trailer"),
        pytest.param(b"5;" + b"v" * 10**6, id="chunk extension"),
        pytest.param(b"1;%s\r\nx\r\n" % (b"v" * 500) * 1000, id="a byte, an extension, a byte ..."),
    ],
)
def test_what_is_not_body_cannot_go_on_for_ever(endless: bytes, size: int) -> None:
    start = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert refused(*cut(start + endless, size)).kind is Kind.MALFORMED


@pytest.mark.parametrize("size", [READ_BYTES, 1000, 7])
def test_chunks_of_one_byte_are_a_body(size: int) -> None:
    body = b"1\r\nx\r\n" * 20_000
    assert len(body) / 20_000 < FRAMING_PER_BODY_BYTE_MAX
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    ((*_, body_read, _, _, complete),) = read(*cut(data, size))
    assert (len(body_read), complete) == (20_000, True)


def test_a_body_in_small_chunks_is_kept_by_the_read() -> None:
    """A piece of two bytes takes more than forty in memory, and a body may have millions."""
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nxy\r\n" * 50_000
    reads = cut(data, READ_BYTES)
    reader = RequestReader()
    for number, piece in enumerate(reads, 1):
        reader.feed(piece)
        (inbound,) = reader.ready
        assert len(inbound.body) <= number
    assert inbound.body_bytes == 100_000
    assert inbound.take_body() == b"xy" * 50_000
    reader.feed(b"2\r\nz1\r\n1\r\n!\r\n0\r\n\r\n" + PLAIN[:-1])
    reader.feed(PLAIN[-1:])
    assert (inbound.take_body(), inbound.complete) == (b"z1!", True)
    assert facts(reader.ready[1]) == read(PLAIN)[0]
