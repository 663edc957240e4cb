"""Answers are told right from wrong, however their bytes are cut."""

from zlib import crc32

import pytest
from httptools import HttpParserError

from bench.load.answer import AnswerReader, Failure
from bench.load.plan import Dialect, Expectation
from tests.bench.scripted_server import chunk, events, stream_head, unary


def read(reader: AnswerReader, data: bytes, size: int = 10**9) -> int:
    """Feed an answer in pieces of `size`; the number of events."""
    reader.expect()
    return sum(reader.feed(data[start : start + size]) for start in range(0, len(data), size))


def stream_of(*pieces: bytes) -> bytes:
    return stream_head() + b"".join(chunk(piece) for piece in (*pieces, b""))


def verdict(
    data: bytes, expectation: Expectation, *, stream: bool = True, dialect: Dialect = "anthropic"
) -> object:
    reader = AnswerReader(expectation, dialect, stream=stream)
    read(reader, data)
    assert reader.complete
    return reader.failure(span_seconds=1.0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**9])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_events_are_counted_however_they_are_cut(size: int, newline: bytes) -> None:
    body = b"".join(events(20)).replace(b"\n", newline)
    reader = AnswerReader(
        Expectation(events=20, body_bytes=len(body), body_crc32=crc32(body)), "anthropic", stream=True
    )
    for data in (stream_of(body), stream_of(*(body[at : at + 5] for at in range(0, len(body), 5)))):
        assert read(reader, data, size) == 20
        assert reader.complete
        assert reader.keeps_alive
        assert reader.failure() is None
    assert reader.as_expectation() == Expectation(events=20, body_bytes=len(body), body_crc32=crc32(body))


def test_every_way_to_be_wrong_has_its_name() -> None:
    whole = events(5)
    right = Expectation(events=5, body_bytes=len(b"".join(whole)), body_crc32=crc32(b"".join(whole)))
    changed = [whole[0].replace(b"content", b"CONTENT"), *whole[1:]]
    assert verdict(stream_of(*whole), right) is None
    assert verdict(stream_of(*whole[1:]), right) is Failure.EVENTS
    assert verdict(stream_of(*whole[:4]), right) is Failure.TERMINAL
    assert verdict(stream_of(*changed), right) is Failure.BODY
    assert verdict(stream_of(*whole), Expectation(span_seconds_min=2.0)) is Failure.BUFFERED
    assert verdict(unary(b"{}", status="503 Busy"), right) is Failure.STATUS
    assert verdict(unary(b"{}"), Expectation(body_bytes=3), stream=False) is Failure.BODY
    assert verdict(unary(b"{}"), Expectation(body_crc32=3), stream=False) is Failure.BODY
    assert verdict(unary(b"{}"), Expectation(body_crc32=crc32(b"{}")), stream=False) is None


def test_an_expected_refusal_is_no_failure() -> None:
    assert verdict(unary(b"no", status="401 Unauthorized"), Expectation(status=401)) is None


def test_openai_streams_end_with_done() -> None:
    assert (
        verdict(stream_of(b"data: {}\n\n", b"data: [DONE]\n\n"), Expectation(events=2), dialect="openai")
        is None
    )
    assert verdict(stream_of(b"data: {}\n\n"), Expectation(), dialect="openai") is Failure.TERMINAL


def test_an_interim_answer_is_not_the_answer() -> None:
    reader = AnswerReader(Expectation(), "anthropic", stream=False)
    read(reader, b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert not reader.complete
    reader.feed(unary(b"{}"))
    assert reader.complete
    assert reader.failure() is None


def test_a_truncated_answer_never_completes() -> None:
    reader = AnswerReader(Expectation(), "anthropic", stream=True)
    assert read(reader, stream_of(*events(3))[:-5]) == 3
    assert not reader.complete


def test_connection_close_is_seen() -> None:
    reader = AnswerReader(Expectation(), "anthropic", stream=False)
    read(reader, unary(b"{}", headers="connection: close\r\n"))
    assert reader.complete
    assert not reader.keeps_alive


def test_what_is_not_http_is_an_error_and_a_new_connection_forgets_it() -> None:
    reader = AnswerReader(Expectation(), "anthropic", stream=False)
    with pytest.raises(HttpParserError):
        read(reader, b"SSH-2.0-server\r\n")
    reader.renew()
    read(reader, unary(b"{}"))
    assert reader.failure() is None


def test_an_answer_before_its_time_was_made_up() -> None:
    reader = AnswerReader(Expectation(seconds_min=0.5), "anthropic", stream=False)
    read(reader, unary(b"{}"))
    assert reader.failure(seconds=0.4) is Failure.EARLY
    assert reader.failure(seconds=0.6) is None
    assert reader.failure() is None


def test_an_answer_in_other_words_is_told_by_its_text() -> None:
    said = unary(b'{"content":[{"type":"text","text":"yes"}],"id":"1"}')
    trusted = AnswerReader(Expectation(), "anthropic", stream=False, keep=True)
    read(trusted, said)
    expectation = Expectation(text_crc32=trusted.as_expectation().text_crc32)
    assert expectation.text_crc32 is not None
    bodies = (b'{ "id": "2", "content": [ {"text": "yes"} ] }', b'{"content":[{"text":"no"}]}', b"<html>")
    found = []
    for body in bodies:
        reader = AnswerReader(expectation, "anthropic", stream=False)
        read(reader, unary(body))
        found.append(reader.failure())
    assert found == [None, Failure.TEXT, Failure.TEXT]


def test_an_answer_without_text_teaches_no_text() -> None:
    reader = AnswerReader(Expectation(), "anthropic", stream=False, keep=True)
    read(reader, unary(b"{}"))
    assert (reader.as_expectation().text_crc32, reader.as_expectation().deltas) == (None, None)
