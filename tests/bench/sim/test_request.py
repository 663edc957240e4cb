"""A request's body: counted and hashed whole, kept within bounds."""

import hashlib

import pytest

from bench.sim.request import UPLOAD_KEPT_BYTES_MAX, Request


def test_target_is_split_but_not_decoded() -> None:
    request = Request(b"/v1/models/a%2Fb?beta=true&key[]=1&limit=5&limit=6")
    assert request.path == "/v1/models/a%2Fb"
    assert request.query == "beta=true&key[]=1&limit=5&limit=6"
    assert request.asked("limit") == "6"
    assert request.asked("absent", "x") == "x"


def test_a_small_body_is_kept_and_hashed() -> None:
    request = Request(b"/")
    for piece in (b'{"a"', b":1", b"}"):
        request.receive(piece)
    assert request.body == b'{"a":1}'
    assert request.json() == {"a": 1}
    assert request.sha256() == hashlib.sha256(b'{"a":1}').hexdigest()


def test_a_long_upload_is_counted_and_hashed_beyond_what_is_kept() -> None:
    request = Request(b"/v1/files")
    request.headers.append((b"content-type", b"multipart/form-data; boundary=x"))
    request.headers_complete()
    hasher, piece = hashlib.sha256(), bytes(range(256)) * 4_096
    for _ in range(9):
        request.receive(piece)
        hasher.update(piece)
    assert request.size_bytes == 9 * len(piece)
    assert not request.kept_whole
    assert len(request.body) == UPLOAD_KEPT_BYTES_MAX
    assert request.sha256() == hasher.hexdigest()


def test_json_must_be_an_object() -> None:
    request = Request(b"/")
    assert request.json() == {}
    request.receive(b"[1]")
    with pytest.raises(TypeError):
        request.json()


def test_an_inner_request_has_a_body() -> None:
    request = Request.inner("/v1/messages", {"model": "m"})
    assert request.body == b'{"model":"m"}'
    assert request.method == "POST"
    request.forget_body()
    assert request.body == b""
