"""Multipart bodies, whole and longer than what is kept."""

import httpx
import pytest

from bench.sim.multipart import parse
from bench.sim.request import UPLOAD_KEPT_BYTES_MAX, Request


def received(content: bytes, fields: dict[str, str]) -> Request:
    built = httpx.Request("POST", "http://x/", data=fields, files={"file": ("a\tb.bin", content, "x/y")})
    request = Request(b"/v1/files")
    request.headers = [(b"content-type", built.headers["content-type"].encode())]
    request.headers_complete()
    request.receive(built.read())
    return request


def test_fields_and_file() -> None:
    request = received(b"\r\nbytes\r\n\r\n\x00", {"purpose": "batch", "model": "sim:tokens=1"})
    form = parse(request, request.header(b"content-type"))
    assert form.fields == {"purpose": "batch", "model": "sim:tokens=1"}
    file = form.files[0]
    assert (file.field, file.content_type, file.size_bytes) == ("file", "x/y", 12)
    assert file.content == b"\r\nbytes\r\n\r\n\x00"


def test_a_long_file_keeps_its_size_but_not_its_bytes() -> None:
    size = UPLOAD_KEPT_BYTES_MAX + 12_345
    request = received(b"z" * size, {"purpose": "batch"})
    file = parse(request, request.header(b"content-type")).files[0]
    assert file.content is None
    assert file.size_bytes == size


def test_a_boundary_is_needed() -> None:
    with pytest.raises(TypeError, match="boundary"):
        parse(Request(b"/"), "multipart/form-data")
