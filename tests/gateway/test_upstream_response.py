"""Where an answer's head ends and its body begins, and what is let go of once it is under way."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.response_reader import ResponseReader, UpstreamBroken
from gateway.upstream_response import NothingReceived, UpstreamResponse

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\nx-a: b\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


class Request:
    forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1


class Grant:
    provider = None
    hides_account = False

    def __init__(self) -> None:
        self.request = Request()


class Upstream:
    def __init__(self) -> None:
        self.reader = ResponseReader()
        self.reader.begin(head_only=False)


def response_of(*reads: bytes) -> UpstreamResponse:
    upstream = Upstream()
    for data in reads:
        upstream.reader.feed(data)
    return UpstreamResponse(cast(Any, Grant()), cast(Any, upstream), b"".join(reads))


@pytest.mark.parametrize("interim", [(), INTERIM[:1], INTERIM[1:], INTERIM])
@pytest.mark.parametrize("body", [b"", b"1", b"1234"])
def test_the_body_begins_after_the_last_head(interim: tuple[bytes, ...], body: bytes) -> None:
    assert response_of(*interim, HEAD + body).start == body
    assert response_of(b"".join(interim) + HEAD + body).start == body
    assert response_of(b"".join(interim) + HEAD[:20], HEAD[20:] + body).start == body


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("interim", [b"", INTERIM[0]])
def test_lines_before_a_head_are_no_part_of_an_answer(before: bytes, interim: bytes) -> None:
    with pytest.raises(UpstreamBroken, match="status line"):
        response_of(interim + before + HEAD)


def test_what_an_open_stream_has_no_more_use_for_is_let_go() -> None:
    response = response_of(HEAD + b"12")
    request = cast(Any, response.grant.request)
    response.release()
    assert (response.start, response.head.lines, response.upstream.reader.lines) == (b"", [], [])
    assert request.forgotten == 1


def test_nothing_received_is_a_broken_answer() -> None:
    assert isinstance(NothingReceived(), UpstreamBroken)
