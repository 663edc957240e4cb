"""Messages end where they end, however they are cut."""

import pytest

from bench.relay.framing import RequestFraming, ResponseFraming, with_host

HOST_LINE = b"\r\nhost: 127.0.0.1:9"


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "message",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_a_request_is_complete_with_its_last_byte(message: bytes, size: int) -> None:
    framing = RequestFraming()
    for _ in range(2):
        framing.complete = False
        for start in range(0, len(message), size):
            assert not framing.complete
            framing.parser.feed_data(message[start : start + size])
        assert framing.complete
        assert framing.keeps_alive


def test_connection_close_is_remembered_after_the_message() -> None:
    framing = RequestFraming()
    framing.parser.feed_data(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert framing.complete
    assert not framing.keeps_alive


def test_an_interim_answer_completes_nothing() -> None:
    framing = ResponseFraming()
    framing.parser.feed_data(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert not framing.complete
    framing.parser.feed_data(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert framing.complete
    assert framing.keeps_alive


def test_an_answer_that_ends_with_its_connection_never_completes() -> None:
    framing = ResponseFraming()
    framing.parser.feed_data(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert not framing.complete


def test_the_host_line_is_replaced_in_the_head_only() -> None:
    request = b"POST / HTTP/1.1\r\nHost: old.example\r\na: b\r\n\r\nbody\r\nhost: stays"
    assert with_host(request, request.index(b"\r\n\r\n"), HOST_LINE) == (
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1:9\r\na: b\r\n\r\nbody\r\nhost: stays"
    )


def test_a_missing_host_line_is_added() -> None:
    request = b"GET / HTTP/1.0\r\n\r\nhost: body"
    assert with_host(request, request.index(b"\r\n\r\n"), HOST_LINE) == (
        b"GET / HTTP/1.0\r\nhost: 127.0.0.1:9\r\n\r\nhost: body"
    )
