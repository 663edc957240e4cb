"""Bytes from a provider: an honest answer however it is cut, and trust withdrawn at the first anomaly."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.response_reader import (
    HEAD_BYTES_MAX,
    HEADER_COUNT_MAX,
    INTERIM_MAX,
    ResponseReader,
    UpstreamBroken,
)
from tests.gateway.pieces import READ_BYTES, cut

Facts = tuple[int, bytes, tuple[tuple[bytes, bytes], ...], bytes, bool, bool, bool, bool, bool]


def facts(reader: ResponseReader, body: bytes) -> Facts:
    return (
        reader.status,
        reader.reason,
        tuple(reader.headers),
        body,
        reader.head_done,
        reader.done,
        reader.surplus,
        reader.until_close,
        reader.reusable,
    )


def read(*pieces: bytes, head_only: bool = False, closed: bool = False) -> Facts:
    reader = ResponseReader()
    reader.begin(head_only=head_only)
    body = b""
    for piece in pieces:
        reader.feed(piece)
        body += b"".join(reader.take())
    if closed:
        reader.end()
    return facts(reader, body)


def broken(*pieces: bytes, head_only: bool = False) -> str:
    reader = ResponseReader()
    reader.begin(head_only=head_only)
    with pytest.raises(UpstreamBroken) as caught:
        for piece in pieces:
            reader.feed(piece)
            reader.take()
    return str(caught.value)


OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
TRAILERS = CHUNKED[:-2] + b"X-Trailer: 1\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
SILENT_REASON = b"HTTP/1.1 529\r\nContent-Length: 0\r\n\r\n"
UNTIL_CLOSE = OK + b"Content-Type: text/plain\r\n\r\nsome, until the end"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_an_answer() -> None:
    headers = ((b"Content-Type", b"application/json"), (b"Content-Length", b"5"))
    assert read(PLAIN) == (200, b"OK", headers, b"hello", True, True, False, False, True)


@pytest.mark.parametrize(
    ("answer", "body", "reusable"),
    [
        (PLAIN, b"hello", True),
        (CHUNKED, b"hello world", True),
        (TRAILERS, b"hello world", True),
        (EMPTY, b"", True),
        (INTERIM, b"hello", True),
        (SILENT_REASON, b"", True),
        (OLD, b"hi", False),
        (PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"hello", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", b"", True),
    ],
)
def test_answers_and_every_cut_of_them_in_two(answer: bytes, body: bytes, reusable: bool) -> None:
    whole = read(answer)
    assert whole[3] == body
    assert whole[4:] == (True, True, False, False, reusable)
    for at in range(1, len(answer)):
        assert read(answer[:at], answer[at:]) == whole, at
    assert read(*cut(answer, 1)) == whole


@given(st.binary(min_size=1, max_size=2000), st.lists(st.integers(1, 300), min_size=1, max_size=8), st.data())
@settings(max_examples=100, deadline=None)
def test_any_body_in_any_chunks_cut_anywhere(body: bytes, sizes: list[int], data: st.DataObject) -> None:
    framed, at = b"", 0
    while at < len(body):
        piece = body[at : at + sizes[at % len(sizes)]]
        framed += b"%X\r\n%s\r\n" % (len(piece), piece)
        at += len(piece)
    answer = OK + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    edges = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [answer[a:b] for a, b in zip([0, *edges], [*edges, len(answer)], strict=True)]
    assert read(*[piece for piece in pieces if piece])[3:] == (body, True, True, False, False, True)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_break_or_wait(data: bytes, after_a_start: bool) -> None:
    reader = ResponseReader()
    try:
        reader.feed((OK if after_a_start else b"") + data)
    except UpstreamBroken:
        return
    assert reader.done or not reader.surplus


NOISE = [b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\xff", b"\r\n", b"\r\n\r\n", b"0", PLAIN]


@given(
    st.sampled_from([PLAIN, CHUNKED, TRAILERS, EMPTY, INTERIM, SILENT_REASON, UNTIL_CLOSE, OLD]),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2), st.sampled_from(NOISE)), max_size=3),
)
@example(PLAIN, [(0, 0, b"\n")])
@example(PLAIN, [(0, 0, b"\r\n")])
@example(PLAIN, [(len(PLAIN), 0, b"\r\n")])
@settings(max_examples=500, deadline=None)
def test_a_damaged_answer_is_the_same_in_one_read_and_in_many(
    answer: bytes, damages: list[tuple[int, int, bytes]]
) -> None:
    damaged = bytearray(answer)
    for at, size, noise in damages:
        damaged[at : at + size] = noise
    found: list[Facts | None] = []
    for pieces in ([bytes(damaged)], cut(bytes(damaged), 1)):
        try:
            found.append(read(*pieces))
        except UpstreamBroken:
            found.append(None)
    whole, piecewise = found
    assert whole == piecewise
    if whole is not None:
        assert not {0, 10, 13} & set(b"".join(name + value for name, value in whole[2]))


def test_one_reader_serves_answer_after_answer() -> None:
    reader = ResponseReader()
    for answer, head_only, body in [
        (INTERIM, False, b"hello"),
        (EMPTY, False, b""),
        (CHUNKED, False, b"hello world"),
        (PLAIN, False, b"hello"),
        (OK + b"Content-Length: 5\r\n\r\n", True, b""),
    ]:
        reader.begin(head_only=head_only)
        assert not reader.done
        reader.feed(answer)
        assert b"".join(reader.take()) == body
        assert reader.done
        assert reader.reusable is not head_only


def test_take_gives_each_piece_once() -> None:
    reader = ResponseReader()
    reader.feed(PLAIN[:-2])
    assert reader.take() == [b"hel"]
    assert reader.take() == []
    reader.feed(b"lo")
    assert reader.take() == [b"lo"]


# How an answer ends.


def test_an_answer_without_length_ends_with_the_connection() -> None:
    assert read(UNTIL_CLOSE)[5:] == (False, False, True, False)
    assert read(UNTIL_CLOSE, closed=True)[3:] == (b"some, until the end", True, True, False, True, False)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, TRAILERS, EMPTY, INTERIM])
def test_an_answer_cut_short_is_never_done(answer: bytes) -> None:
    for at in range(len(answer)):
        reader = ResponseReader()
        reader.begin(head_only=False)
        reader.feed(answer[:at])
        with pytest.raises(UpstreamBroken):
            reader.end()
        assert not reader.reusable


def test_the_answer_to_head_has_no_body() -> None:
    head = OK + b"Content-Length: 500\r\n\r\n"
    assert read(head, head_only=True)[3:] == (b"", True, True, False, False, False)
    assert read(*cut(head, 1), head_only=True) == read(head, head_only=True)
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read(chunked, head_only=True)[5]


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: until close"])
def test_a_body_sent_for_head_is_nobodys(framing: bytes) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in framing else b"hello"
    found = read(OK + framing + b"\r\n\r\n" + body, head_only=True)
    assert found[3] == b""
    assert found[6], "surplus"


def test_a_204_has_no_framing_whatever_it_says() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
    assert (reader.done, reader.content_length, reader.chunked) == (True, None, False)
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (reader.done, reader.content_length, reader.chunked) == (True, None, False)


@pytest.mark.parametrize(
    "surplus",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2",
        b"garbage",
        b"\0",
        b"0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, EMPTY, OLD])
def test_bytes_after_the_end_are_surplus_and_end_the_reuse(answer: bytes, surplus: bytes) -> None:
    for pieces in ([answer + surplus], [answer, surplus], cut(answer + surplus, 1)):
        found = read(*pieces)
        assert found[:4] == read(answer)[:4], "the answer itself is untouched"
        assert found[5:] == (True, True, False, False)


def test_chunk_open_tells_where_something_may_be_said() -> None:
    reader = ResponseReader()
    reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    assert not reader.chunk_open
    reader.feed(b"5\r\nhel")
    assert reader.chunk_open
    reader.feed(b"lo\r\n")
    assert not reader.chunk_open


# What is no answer.


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", id="CL, TE"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", id="TE, CL"),
        pytest.param(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", id="CL twice"),
        pytest.param(OK + b"Content-Length: 5, 5\r\n\r\n", id="CL list"),
        pytest.param(OK + b"Content-Length: -5\r\n\r\n", id="CL negative"),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\n\r\n", id="TE gzip"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="TE gzip, chunked"),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", id="TE, TE"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked twice"
        ),
        pytest.param(OK + b"Transfer-Encoding: identity\r\n\r\n", id="TE identity"),
        pytest.param(OK + b"A: b\r\n folded\r\n\r\n", id="obs-fold"),
        pytest.param(OK + b"A: b\n\r\n", id="bare LF"),
        pytest.param(OK + b"A: b\rC: d\r\n\r\n", id="bare CR"),
        pytest.param(OK + b"A: b\0\r\n\r\n", id="NUL"),
        pytest.param(OK[:-2] + b"\n\r\n", id="bare LF after the status"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="upgrade"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="upgrade to nothing"),
        pytest.param(b"HTTP/1.1 000 None\r\n\r\n", id="status 0"),
        pytest.param(b"HTTP/1.1 99 None\r\n\r\n", id="status 99"),
        pytest.param(b"HTTP/1.1 600 None\r\n\r\n", id="status 600"),
        pytest.param(b"HTTP/1.1 20x None\r\n\r\n", id="status no number"),
        pytest.param(b"HTTP/3 200 OK\r\n\r\n", id="version"),
        pytest.param(b"ICY 200 OK\r\n\r\n", id="another protocol"),
        pytest.param(b"<html>", id="no head at all"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk size"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n3\nabc", id="chunk line end"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", id="chunk longer than said"),
        pytest.param(b"HTTP/1.1 100 C\r\nContent-Length: 3\r\n\r\nabc" + PLAIN, id="interim with a body"),
    ],
)
def test_what_is_no_answer_breaks(answer: bytes) -> None:
    assert broken(answer)
    assert broken(*cut(answer, 1))


def test_what_was_wrong_is_told() -> None:
    """In words of our own where a callback had some."""
    assert broken(OK + b"Transfer-Encoding: identity\r\n\r\n") == (
        "it used a transfer coding other than chunked"
    )
    assert broken(b"HTTP/1.1 600 None\r\n\r\n") == "its status is not one of HTTP's"
    assert broken(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n") == (
        "it switched protocols unasked"
    )
    assert "Content-Length" in broken(OK + b"Content-Length: -5\r\n\r\n"), "the parser's words"
    with pytest.raises(UpstreamBroken, match=r"^it closed the connection before the answer was complete$"):
        read(PLAIN[:-1], closed=True)


@pytest.mark.parametrize("size", [READ_BYTES, 1000])
@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(OK + b"X: " + b"v" * 10**6, id="field"),
        pytest.param(OK + b"X: y\r\n" * 10**5, id="fields"),
        pytest.param(b"HTTP/1.1 200 " + b"O" * 10**6, id="reason"),
        pytest.param(b"HTTP/1.1 103 Early\r\n\r\n" * 1000, id="interim answers"),
        pytest.param(CHUNKED[:-2] + b"X: " + b"v" * 10**6, id="trailer"),
        pytest.param(CHUNKED[:-2] + b"X: y\r\n" * 10**5, id="trailers"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"v" * 10**6, id="chunk extension"),
    ],
)
def test_what_is_not_body_is_bounded(endless: bytes, size: int) -> None:
    assert "too long" in broken(*cut(endless, size))


@pytest.mark.parametrize("size", [READ_BYTES, 1000])
def test_each_bound_is_where_it_is_said_to_be(size: int) -> None:
    end = b"Content-Length: 5\r\n\r\n"
    most = OK + b"X: y\r\n" * (HEADER_COUNT_MAX - 1) + end + b"hello"
    assert len(read(*cut(most, size))[2]) == HEADER_COUNT_MAX
    assert broken(*cut(most.replace(end, b"X: y\r\n" + end), size)) == "its head is too long"
    assert broken(*cut(b"HTTP/1.1 103 Early\r\n\r\n" * (INTERIM_MAX + 1), size)) == "its head is too long"
    longest = OK + b"X: ".ljust(HEAD_BYTES_MAX - len(OK) - 2 - len(end), b"v") + b"\r\n" + end
    assert len(longest) == HEAD_BYTES_MAX
    assert read(*cut(longest, size), b"hello")[3] == b"hello"
    longer = longest.replace(b"vv", b"vvv", 1)
    assert broken(*cut(longer, size), b"hello") == "its head or its framing is too long"


def test_what_frames_a_piece_of_body_is_bounded_anew_after_each() -> None:
    chunk = (b"5;" + b"x" * (HEAD_BYTES_MAX // 2) + b"\r\n", b"hello\r\n")
    found = read(OK + b"Transfer-Encoding: chunked\r\n\r\n", *chunk * 4, b"0\r\n\r\n")
    assert found[3:6] == (b"hello" * 4, True, True)


def test_bounds_leave_room_for_what_is_usual() -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 250) for number in range(HEADER_COUNT_MAX - 1))
    assert len(fields) < HEAD_BYTES_MAX
    answer = b"HTTP/1.1 103 Early\r\n\r\n" * INTERIM_MAX + OK + fields + b"Content-Length: 5\r\n\r\nhello"
    assert len(read(*cut(answer, 1000))[2]) == HEADER_COUNT_MAX


def test_a_body_may_be_of_any_length() -> None:
    reader = ResponseReader()
    reader.feed(OK + b"Content-Length: 20000000\r\n\r\n")
    piece = b"b" * READ_BYTES
    received = 0
    while not reader.done:
        reader.feed(piece[: 20_000_000 - received])
        received += sum(map(len, reader.take()))
    assert received == 20_000_000
    assert reader.reusable
