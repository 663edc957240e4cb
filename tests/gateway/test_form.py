"""The model of a form is found where every parser would find it, and nowhere else."""

from __future__ import annotations

import secrets
import time

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.form import PARTS_MAX, boundary_of, model_of

MODEL = b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1'
FILE = (
    'Content-Disposition: form-data; name="file"; filename="bild ä.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n'
).encode() + bytes(range(256))


def form(*parts: bytes, boundary: bytes = b"b1") -> bytes:
    return b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary


def field(name: str, value: bytes = b"gpt-dear", more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b1", "b1"),
        ("Multipart/Form-Data;boundary=----formdata-undici-01", "----formdata-undici-01"),
        ('multipart/form-data; boundary="a=b"', "a=b"),
        ("multipart/form-data", ""),
        ("multipart/form-data; boundary=", ""),
        ('multipart/form-data; boundary=""', ""),
        ("multipart/form-data; boundary=" + "b" * 71, ""),
        # Another parser may take the first, or as much of it as is a token.
        ("multipart/form-data; boundary=a; boundary=b", ""),
        ("multipart/form-data; boundary=a=b", ""),
        ("multipart/form-data; charset=utf-16; boundary=a", ""),
        ("multipart/mixed; boundary=b1", ""),
        ("application/json", ""),
        ("", ""),
    ],
)
def test_the_boundary_is_what_the_content_type_says(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type.encode(), [b"user-agent: x"]).decode() == boundary
    assert boundary_of(content_type.encode(), [b"Content-Encoding: br"]) == b""


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, FILE),
        form(FILE, MODEL, field("timestamp_granularities[]", b"word"))[:-2],
        form(FILE, b"content-disposition:form-data;name=model\r\n\r\nwhisper-1"),
        form(b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n" + MODEL, field("remodel")),
        form(
            MODEL,
            field("image[]", b'{"model":"x","model":"y"}', "; filename=\"a.png\"; filename*=utf-8''a.png"),
        ),
        form(
            MODEL,
            field("prompt", b'\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-dear\r\n--'),
        ),
        form(MODEL, field("prompt", b"")),
    ],
)
def test_a_form_names_one_model(body: bytes) -> None:
    assert model_of(body, b"b1") == "whisper-1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        form(),
        form(FILE),
        # Named twice, or so that some would think so.
        form(MODEL, FILE, MODEL),
        form(MODEL, field("model")),
        form(MODEL, field("Model")),
        form(MODEL, field("model[]")),
        form(MODEL, field("model[0]")),
        form(MODEL, field("model.name")),
        form(MODEL, field("model", more='; filename="x"')),
        form(MODEL, field("mod%65l")),
        form(MODEL, field(" model")),
        form(MODEL, field('file"; name="model')),
        form(MODEL, field("file", more='; filename="a\\"; name=\\"model"')),
        form(MODEL, field("file", more='; filename="a;name=model;"')),
        form(MODEL, field("file", more="; name*=utf-8''model")),
        form(MODEL, field("file", more="; name=model")),
        form(MODEL, b'Content-Disposition: form-data; name="x"\r\n' + field("model")),
        form(MODEL, b"Content-Disposition: form-data;\r\n name=model\r\n\r\ngpt-dear"),
        form(MODEL, b"X: y\n" + field("model")),
        form(MODEL, b"X: y\rz\r\n\r\n"),
        form(MODEL, b"\r\n" + field("model")),
        form(MODEL, b"Content-Type: multipart/mixed; boundary=c\r\n" + field("x")),
        form(MODEL, b"Content-Length: 1\r\n" + field("x")),
        form(MODEL, field("_charset_", b"utf-16")),
        # Not as it stands there.
        form(b"Content-Transfer-Encoding: base64\r\n" + MODEL),
        form(b"Content-Type: text/plain; charset=utf-16\r\n" + MODEL),
        form(field("model", more='; filename="x"')),
        form(field("model", b"")),
        form(field("model", b"a b")),
        form(field("model", b"gpt\r\n")),
        form(field("model", "größer".encode())),
        form(field("model", b"m" * 201)),
        # Where parts end.
        form(MODEL)[:-6],
        form(MODEL) + b"\r\n--b1\r\n" + MODEL,
        form(MODEL) + b"x",
        b"preamble\r\n" + form(MODEL),
        b"\r\n" + form(MODEL),
        form(MODEL, field("x", b"y\n--b1\n" + field("model"))),
        form(MODEL, field("x", b"y\r\n--b1 \r\n" + field("model"))),
        form(MODEL, field("x", b"y\r\n--b12\r\n" + field("model"))),
        form(MODEL, field("x", b"y\r\n--b1--\r\n")),
        form(MODEL, field("x", b"b1")),
        form(MODEL, b'Content-Disposition: form-data; name="x"\r\n'),
        form(MODEL, b"X: " + b"y" * 3000 + b"\r\n" + field("x")),
        form(*[field("x")] * PARTS_MAX, MODEL),
    ],
)
def test_of_any_other_form_nobody_says_what_its_model_is(body: bytes) -> None:
    assert model_of(body, b"b1") is None


def test_as_many_parts_as_are_allowed() -> None:
    assert model_of(form(*[field("x")] * (PARTS_MAX - 1), MODEL), b"b1") == "whisper-1"


@given(st.binary(max_size=200), st.text(max_size=40), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_a_client_writes_is_read(content: bytes, text: str, twice: bool) -> None:
    data = {"model": ["whisper-1"] * (2 if twice else 1), "prompt": text, "include[]": ["a", "b"]}
    sent = httpx2.Request("POST", "http://x", data=data, files={"file": ("a.mp3", content)})
    boundary = boundary_of(sent.headers["content-type"].encode(), [])
    assert boundary
    assert model_of(sent.read(), boundary) == (None if twice else "whisper-1")


@given(
    st.lists(st.sampled_from([b"--", b"b1", b"\r\n", MODEL, FILE, b"\r\n--b1\r\n", b"--b1--"]), max_size=12)
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_there_is_an_answer(pieces: list[bytes]) -> None:
    assert model_of(b"".join(pieces), b"b1") in (None, "whisper-1")


@pytest.mark.parametrize("piece", [b"\r\n--b", b"--b1\r\n", b"-", b"\r\n\r\n", b"b1", b"a:" * 8])
def test_no_large_form_takes_long(piece: bytes) -> None:
    content = piece * (16 * 1024 * 1024 // len(piece))
    began = time.process_time()
    for body in (form(MODEL, field("x", content)), form(content, MODEL), form(MODEL, FILE + content)):
        model_of(body, b"b1")
        model_of(body, b"-" * 70)
        model_of(body, secrets.token_hex(16).encode())
    assert time.process_time() - began < 2
