"""Response heads."""

from bench.sim.answer import Answer
from bench.sim.behaviour import Behaviour
from bench.sim.response_headers import date_line, head


def test_a_head_in_each_dialect() -> None:
    lines = head(Answer(), "anthropic", "req_1", b"content-length: 0\r\n")
    assert lines.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n")
    assert b"\r\nrequest-id: req_1\r\n" in lines
    assert b"\r\nanthropic-ratelimit-output-tokens-reset: 20" in lines
    assert lines.endswith(b" GMT\r\n\r\n")
    assert b"\r\nx-request-id: req_2\r\n" in head(Answer(), "openai", "req_2", b"")


def test_no_edge_headers_unless_asked() -> None:
    plain = head(Answer(), "openai", "r", b"")
    assert b"set-cookie" not in plain
    assert b"server:" not in plain
    edge = head(
        Answer(behaviour=Behaviour(cloudflare=True, header_count=2, header_bytes=9)), "openai", "r", b""
    )
    assert edge.count(b"set-cookie: ") == 2
    assert b"alt-svc: h3" in edge
    assert b"x-sim-1: v" in edge
    assert b"x-sim-filler: fffffffff\r\n" in edge


def test_a_status_of_ones_own() -> None:
    assert head(Answer(behaviour=Behaviour(status=201)), "openai", "r", b"").startswith(
        b"HTTP/1.1 201 Created"
    )
    assert head(Answer(status=529), "anthropic", "r", b"").startswith(b"HTTP/1.1 529 Overloaded")
    assert head(Answer(status=599), "anthropic", "r", b"").startswith(b"HTTP/1.1 599 Unknown")


def test_the_date_is_formatted_once_a_second() -> None:
    assert date_line.at(0.9) == b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    assert date_line.at(1_795_000_000) == b"date: Wed, 18 Nov 2026 11:06:40 GMT\r\n"
