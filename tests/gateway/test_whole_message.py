"""What counts as one whole message, and that the parser in between holds nothing over."""

from __future__ import annotations

import httptools
import pytest

from gateway.whole_message import WholeMessage, field_of

REQUEST = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
ANSWER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


def test_a_whole_request_is_read() -> None:
    whole = WholeMessage(httptools.HttpRequestParser)
    assert whole.read(REQUEST)
    assert (b"".join(whole.body), whole.keep_alive) == (b"hi", True)


def test_a_whole_answer_is_read() -> None:
    whole = WholeMessage(httptools.HttpResponseParser)
    assert whole.read(ANSWER)
    assert (b"".join(whole.body), whole.keep_alive) == (b"hi", True)


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:-1],
        REQUEST[:20],
        REQUEST + REQUEST,
        REQUEST + b"GET",
        REQUEST.replace(b"2", b"two"),
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_anything_else_is_left_alone_and_leaves_nothing_behind(data: bytes) -> None:
    whole = WholeMessage(httptools.HttpRequestParser)
    assert not whole.read(data)
    assert whole.read(REQUEST)
    assert whole.body == [b"hi"]


def test_an_interim_answer_before_the_answer_is_not_one_message() -> None:
    whole = WholeMessage(httptools.HttpResponseParser)
    assert not whole.read(b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER)
    assert whole.read(ANSWER)


def test_keep_alive_is_the_messages_own() -> None:
    whole = WholeMessage(httptools.HttpRequestParser)
    assert whole.read(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert not whole.keep_alive
    assert whole.read(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert whole.keep_alive


@pytest.mark.parametrize(
    ("line", "field"),
    [(b"a: b", (b"a", b"b")), (b"a:b:c \t", (b"a", b"b:c")), (b"a:", (b"a", b""))],
)
def test_a_line_has_a_name_and_a_value(line: bytes, field: tuple[bytes, bytes]) -> None:
    assert field_of(line) == field
