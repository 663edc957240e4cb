"""Wrong bytes are wrong in the way that was asked for."""

import pytest

from bench.sim.malformed import body_bytes, spoil_head, spoil_payload

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\ntransfer-encoding: chunked\r\ndate: d\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("head", b"not HTTP"),
        ("version", b"HTTP/9.9"),
        ("status", b" 2x0 "),
        ("header", b"\r\nno colon in this line\r\n"),
        ("nul", b"\x00"),
        ("length", b"content-length: -5\r\n"),
        ("lengths", b"content-length: 5\r\ncontent-length: 7\r\n"),
        ("both", b"content-length: 5\r\ntransfer-encoding: chunked\r\n"),
    ],
)
def test_heads(kind: str, mark: bytes) -> None:
    spoilt = spoil_head(kind, HEAD)
    assert mark in spoilt
    assert spoilt.endswith(b"\r\n\r\n")
    assert spoilt.count(b"transfer-encoding") == (0 if kind in ("head", "length", "lengths") else 1)


def test_other_kinds_leave_the_head_alone() -> None:
    assert spoil_head("chunk", HEAD) == HEAD
    assert spoil_head(None, HEAD) == HEAD


def test_bodies_and_payloads() -> None:
    assert body_bytes("chunk") == b"zz\r\nnot a chunk\r\n"
    assert body_bytes("json") is None
    assert spoil_payload("json", b'{"a":1}') == b'{"a#":1}'
    with pytest.raises(UnicodeDecodeError):
        spoil_payload("utf8", b"abcd").decode()
    assert spoil_payload(None, b"abcd") == b"abcd"
