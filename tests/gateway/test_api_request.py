"""What is asked, of which API, with which key: by table, with nothing forwarded that is not understood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api_request import APIRequest, guess_dialect, read_fields, recognise
from gateway.limits import Limits
from gateway.provider import AuthStyle, make_provider
from gateway.refusal import Dialect, Kind, Refusal
from tests.gateway.inbounds import OPERATIONS, inbound, request

ANTHROPIC, OPENAI = Dialect.ANTHROPIC, Dialect.OPENAI
VERSION = "anthropic-version: 2023-06-01"
JSON = "content-type: application/json"
KEY = "kt_live_abcdefghijkl_0123456789012345678901234567abcdef"
CHAT = "/v1/chat/completions"


def refusal(*arguments: str, **keywords: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        request(*arguments, **keywords)  # type: ignore[arg-type]
    return caught.value


# Which operation of which API.


@pytest.mark.parametrize(
    ("method", "target", "lines", "dialect", "path", "upstream"),
    [
        ("POST", "/v1/messages", [], ANTHROPIC, "/v1/messages", "/v1/messages"),
        ("POST", "/v1/messages?beta=true", [], ANTHROPIC, "/v1/messages", "/v1/messages?beta=true"),
        ("POST", CHAT, [], OPENAI, CHAT, CHAT),
        ("POST", CHAT, [VERSION], OPENAI, CHAT, CHAT),
        ("GET", "/v1/models", [], OPENAI, "/v1/models", "/v1/models"),
        ("GET", "/v1/models", [VERSION], ANTHROPIC, "/v1/models", "/v1/models"),
        ("GET", "/v1/models", ["ANTHROPIC-VERSION: x"], ANTHROPIC, "/v1/models", "/v1/models"),
        ("GET", "/v1/models", [f"x-api-key: {KEY}"], OPENAI, "/v1/models", "/v1/models"),
        ("GET", "/anthropic/v1/models", [], ANTHROPIC, "/v1/models", "/v1/models"),
        ("GET", "/openai/v1/models", [VERSION], OPENAI, "/v1/models", "/v1/models"),
        ("GET", "/openai/v1/models?a=b", [], OPENAI, "/v1/models", "/v1/models?a=b"),
        ("HEAD", "/v1/models/gpt-4.1", [], OPENAI, "/v1/models/{model}", "/v1/models/gpt-4.1"),
        ("GET", "/v1/models/a%2Fb", [], OPENAI, "/v1/models/{model}", "/v1/models/a%2Fb"),
        ("GET", "/v1/files?key[]=a&key[]=%20b", [], OPENAI, "/v1/files", "/v1/files?key[]=a&key[]=%20b"),
        ("GET", "/v1/models/x??../..%00#".rstrip("#"), [], OPENAI, "/v1/models/{model}", None),
    ],
)
def test_recognised(
    method: str, target: str, lines: list[str], dialect: Dialect, path: str, upstream: str | None
) -> None:
    found = request(method, target, *lines)
    assert (found.dialect, found.operation.path) == (dialect, path)
    assert found.target.decode() == (target if upstream is None else upstream), "byte for byte"


@pytest.mark.parametrize(
    ("method", "target", "lines", "kind"),
    [
        ("GET", "/v1/unknown", [], Kind.NOT_FOUND),
        ("GET", "/", [], Kind.NOT_FOUND),
        ("GET", "/v1/messages/", [], Kind.NOT_FOUND),
        ("GET", "/v1/models/%2e%2e", [], Kind.NOT_FOUND),
        ("POST", "/openai/v1/messages", [], Kind.NOT_FOUND),
        ("POST", "/anthropic/v1/chat/completions", [], Kind.NOT_FOUND),
        ("POST", "/anthropic/openai/v1/chat/completions", [], Kind.NOT_FOUND),
        ("POST", "/Anthropic/v1/messages", [], Kind.NOT_FOUND),
        ("GET", "/v1/messages", [], Kind.METHOD_NOT_ALLOWED),
        ("HEAD", "/v1/messages", [], Kind.METHOD_NOT_ALLOWED),
        ("OPTIONS", "/v1/messages", [], Kind.METHOD_NOT_ALLOWED),
        ("TRACE", CHAT, [], Kind.METHOD_NOT_ALLOWED),
        ("PUT", CHAT, [], Kind.METHOD_NOT_ALLOWED),
        ("OPTIONS", "*", [], Kind.MALFORMED),
        ("GET", "http://api.openai.com/v1/models", [], Kind.MALFORMED),
        ("GET", "/v1/models#", [], Kind.MALFORMED),
        ("GET", "/v1/models#/../files", [], Kind.MALFORMED),
        ("GET", "/v1/models?x=#y", [], Kind.MALFORMED),
        ("GET", "/v1/models", ["Host: a", "Host: a"], Kind.MALFORMED),
        ("GET", "/v1/models", ["Host: a", "host: b"], Kind.MALFORMED),
        ("POST", CHAT, [JSON, "Content-Type: text/plain"], Kind.MALFORMED),
        ("POST", CHAT, ["Transfer-Encoding: gzip, chunked"], Kind.NOT_SUPPORTED),
        ("POST", CHAT, ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], Kind.NOT_SUPPORTED),
        ("POST", CHAT, ["Expect: 200-ok"], Kind.EXPECTATION_FAILED),
        ("GET", "/v1/realtime", ["Upgrade: websocket", "Connection: upgrade"], Kind.NOT_SUPPORTED),
    ],
)
def test_refused(method: str, target: str, lines: list[str], kind: Kind) -> None:
    found = refusal(method, target, *lines)
    assert found.kind is kind
    assert target not in found.message, "what a stranger wrote is not repeated"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert refusal("PUT", "/v1/files/file_1").message == "This path takes DELETE, GET, HEAD."


def test_http_1_1_needs_a_host_and_http_1_0_does_not() -> None:
    found = inbound("GET", "/v1/models")
    found.lines = []
    with pytest.raises(Refusal) as caught:
        recognise(found, OPERATIONS, Limits())
    assert caught.value.kind is Kind.MALFORMED
    found.version = "1.0"
    assert recognise(found, OPERATIONS, Limits()).operation.path == "/v1/models"


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_other_versions_are_not_spoken(version: str) -> None:
    assert refusal("GET", "/v1/models", version=version).kind is Kind.VERSION_UNSUPPORTED


def test_http_1_0_knows_no_chunks() -> None:
    found = refusal("POST", CHAT, "Transfer-Encoding: chunked", version="1.0")
    assert (found.kind, found.close) == (Kind.MALFORMED, True)


@pytest.mark.parametrize(
    ("target", "lines", "dialect"),
    [
        ("/anthropic/v1/nothing", [], ANTHROPIC),
        ("/openai/v1/nothing", [VERSION], OPENAI),
        ("/v1/nothing", [], OPENAI),
        ("/v1/nothing", [VERSION], ANTHROPIC),
    ],
)
def test_the_dialect_of_an_error_about_nothing_known(target: str, lines: list[str], dialect: Dialect) -> None:
    assert guess_dialect(inbound("GET", target, *lines)) is dialect


# With which key.

OTHER = KEY.replace("abc", "xyz")
PROVIDERS = "sk-ant-api03-0000"


@pytest.mark.parametrize(
    ("lines", "token", "bearer"),
    [
        ([], "", False),
        ([f"x-api-key: {KEY}"], KEY, False),
        ([f"x-api-key:\t{KEY} \t"], KEY, False),
        ([f"Authorization: Bearer {KEY}"], KEY, True),
        ([f"authorization: bearer {KEY}"], KEY, True),
        ([f"Authorization: BEARER   {KEY}  "], KEY, True),
        ([f"Authorization: Basic {KEY}"], "", False),
        (["Authorization: Bearer"], "", True),
        ([f"x-api-key: {KEY}", f"Authorization: Bearer {KEY}"], KEY, True),
        ([f"x-api-key: {KEY}", f"Authorization: Bearer {PROVIDERS}"], KEY, False),
        ([f"x-api-key: {PROVIDERS}", f"Authorization: Bearer {KEY}"], KEY, True),
        ([f"Authorization: Bearer {PROVIDERS}", f"x-api-key: {KEY}"], KEY, False),
        ([f"X-API-KEY: {PROVIDERS}"], PROVIDERS, False),
    ],
)
def test_the_token(lines: list[str], token: str, bearer: bool) -> None:
    found = request("POST", "/v1/messages", *lines)
    assert (found.token.decode(), found.bearer) == (token, bearer)


@pytest.mark.parametrize(
    "lines",
    [
        [f"x-api-key: {KEY}", f"Authorization: Bearer {OTHER}"],
        [f"x-api-key: {KEY}", f"x-api-key: {OTHER}"],
        [f"Authorization: Bearer {KEY}", f"Authorization: Bearer {OTHER}"],
    ],
)
def test_two_karta_keys_are_one_too_many(lines: list[str]) -> None:
    found = refusal("POST", "/v1/messages", *lines)
    assert found.kind is Kind.MALFORMED
    assert "kt_" not in found.message


def test_no_key_is_in_any_line_that_goes_up_nor_in_repr() -> None:
    found = request("POST", "/v1/messages", f"x-api-key: {KEY}", f"Authorization: Bearer {KEY}", "x-a: b")
    assert found.lines == [b"x-a: b"]
    assert KEY not in repr(found)
    assert repr(found) == "APIRequest(POST /v1/messages)"


# Which headers go up.


def test_lines_go_up_as_they_came_and_in_order() -> None:
    found = request(
        "POST",
        "/v1/messages",
        VERSION,
        "Anthropic-Beta: a, b",
        "anthropic-beta: c",
        "Cookie: dropped",
        "Content-Type:  application/json ",
        "X-Stainless-Lang: python",
        "Accept-Encoding: gzip",
        "User-Agent: Anthropic/Python 2.12.0",
        "X-Empty:",
        "X-Latin: \xe9",
        body=b"{}",
    )
    assert found.lines == [
        VERSION.encode(),
        b"Anthropic-Beta: a, b",
        b"anthropic-beta: c",
        b"Content-Type:  application/json ",
        b"X-Stainless-Lang: python",
        b"User-Agent: Anthropic/Python 2.12.0",
        b"X-Empty:",
        b"X-Latin: \xe9",
    ]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        ("keep-alive", [b"X-One: 1", b"x-two: 2"]),
        ("close", [b"X-One: 1", b"x-two: 2"]),
        ("x-one", [b"x-two: 2"]),
        ("keep-alive, X-TWO ,\tx-one", []),
        (",,", [b"X-One: 1", b"x-two: 2"]),
    ],
)
def test_what_connection_names_stays_here(connection: str, left: list[bytes]) -> None:
    found = request("POST", CHAT, "X-One: 1", f"Connection: {connection}", "x-two: 2")
    assert found.lines == left


def test_connection_cannot_take_the_key_away() -> None:
    assert request("POST", CHAT, f"x-api-key: {KEY}", "Connection: x-api-key").token == KEY.encode()


# The body.

SMALL = Limits(body_bytes_max=1000, upload_bytes_max=2000)


@pytest.mark.parametrize(
    ("target", "lines", "buffered"),
    [
        (CHAT, [JSON], True),
        (CHAT, [], True),
        (CHAT, ["content-type: application/vnd.x+JSON"], True),
        (CHAT, ["content-type: text/plain"], False),
        ("/v1/files", ["content-type: multipart/form-data; boundary=x"], False),
        ("/v1/audio/transcriptions", ["content-type: multipart/form-data; boundary=x"], True),
        ("/v1/audio/transcriptions", ["content-type: multipart/form-data"], False),
        ("/v1/vector_stores", [JSON], False),
    ],
)
def test_a_body_that_is_on_its_way_is_read_whole_only_if_its_fields_matter(
    target: str, lines: list[str], buffered: bool
) -> None:
    found = request("POST", target, *lines, "Content-Length: 500")
    assert found.buffered is buffered
    assert found.content_length == 500
    assert request("POST", target, *lines, "Transfer-Encoding: Chunked").content_length == -1


@pytest.mark.parametrize(
    ("target", "lines", "bytes_max"),
    [(CHAT, [JSON], 1000), ("/v1/files", ["content-type: multipart/form-data"], 2000)],
)
def test_a_body_too_large_is_refused_by_its_length(target: str, lines: list[str], bytes_max: int) -> None:
    for length, fits in [(bytes_max, True), (bytes_max + 1, False), (2**64 - 1, False)]:
        arguments = ("POST", target, *lines, f"Content-Length: {length}")
        if fits:
            assert request(*arguments, limits=SMALL).content_length == length
        else:
            found = refusal(*arguments, limits=SMALL)
            assert (found.kind, found.close) == (Kind.TOO_LARGE, True)


def test_a_body_too_large_is_refused_by_what_has_come_of_it() -> None:
    found = inbound("POST", CHAT, "Transfer-Encoding: chunked")
    found.body_bytes = 1001
    with pytest.raises(Refusal) as caught:
        recognise(found, OPERATIONS, SMALL)
    assert caught.value.kind is Kind.TOO_LARGE


@pytest.mark.parametrize(("version", "expects"), [("1.1", True), ("1.0", False)])
def test_expect(version: str, expects: bool) -> None:
    found = request("POST", CHAT, "Expect: 100-Continue", body=b"{}", version=version)
    assert found.expects_continue is expects


@pytest.mark.parametrize(
    ("body", "model", "streaming"),
    [
        (b"", None, False),
        (b"{}", None, False),
        (b'{"model":"m","stream":true}', "m", True),
        (b'\r\n {"stream" : false , "model" : "m/\xc3\xa9" }\n', "m/é", False),
        (b'{"model":7,"stream":"true"}', None, False),
        (b'{"model":null,"stream":1}', None, False),
        (b'{"model":{"a":[1]},"stream":[true]}', None, False),
        (b'{"model":"a","model":"b"}', "b", False),
        (b'{"\\u006dodel":"m"}', "m", False),
        (b'{"nested":{"model":"no","stream":true},"model":"m"}', "m", False),
        (b'{"model":"m","x":123456789012345678901234567890,"y":1e400}', "m", False),
        (b'{"model":"m","x":"\xff"}', "m", False),
        (b"[]", None, False),
        (b"null", None, False),
        (b'"model"', None, False),
    ],
)
def test_what_is_read_of_a_body(body: bytes, model: str | None, streaming: bool) -> None:
    found = request("POST", CHAT, JSON, body=body)
    assert (found.model, found.streaming) == (model, streaming)
    assert found.body == body, "never changed"
    assert not found.by_reference


@pytest.mark.parametrize(
    "body",
    [
        b'{"previous_response_id":"r"}',
        b'{"conversation":{"id":"c"}}',
        b'{"container":"c"}',
        b'{"container":{}}',
        b'{"thread":{"type":"continue","previous_message_id":"m"}}',
    ],
)
def test_what_is_kept_at_the_provider_is_told(body: bytes) -> None:
    assert request("POST", CHAT, JSON, body=body).by_reference
    assert not request("POST", CHAT, JSON, body=b'{"conversation":null}').by_reference


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model":"m"',
        b'{"model":"m"}x',
        b"{'model':'m'}",
        b'{"model":"m",}',
        b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"x":NaN}',
        b'{"x":"\n"}',
        b"model=m",
        b'{"x":' * 200_000,
        b'{"model":' * 3000,
        b'{"max_tokens":1e400,"model":"m"}',
        b' {"model":"m","max_tokens":' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_cannot_be_read_is_refused_not_sent_on(body: bytes) -> None:
    assert refusal("POST", CHAT, JSON, body=body).kind is Kind.MALFORMED


def test_a_body_that_is_not_json_by_its_type_is_the_provider_s_business() -> None:
    body = b"--x\r\ncontent-disposition: form-data\r\n\r\nmodel\r\n--x--"
    found = request("POST", "/v1/audio/transcriptions", "content-type: multipart/form-data", body=body)
    assert (found.body, found.model) == (body, None)


def test_a_form_says_for_which_model_it_is() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    target, form = "/v1/audio/transcriptions", "content-type: multipart/form-data; boundary=b"
    found = request("POST", target, form, body=part + b"--b--")
    assert (found.model, found.json, found.body) == ("m", False, part + b"--b--")
    # Another with the same head.
    assert read_fields(found.without_body(), part * 2 + b"--b--").model is None
    assert read_fields(found.again(b"", found.fields), part + b"--b--").model == "m"
    for lines, body in (
        ([form], part * 2 + b"--b--"),
        ([form], b'{"model":"m"}'),
        ([form, "content-encoding: br"], part + b"--b--"),
        ([form[:-11]], part + b"--b--"),
    ):
        assert request("POST", target, *lines, body=body).model is None
    assert request("POST", "/v1/files", form, body=part + b"--b--").model is None


@pytest.mark.parametrize(
    ("framing", "buffered"),
    [
        ("Content-Length: 1000", True),
        ("Content-Length: 1001", False),
        ("Content-Length: 2000", False),
        ("Transfer-Encoding: chunked", False),
    ],
)
def test_a_form_that_is_larger_than_what_is_read_whole_streams(framing: str, buffered: bool) -> None:
    lines = ("content-type: multipart/form-data; boundary=b", framing)
    assert request("POST", "/v1/images/edits", *lines, limits=SMALL).buffered is buffered


@pytest.mark.parametrize("target", ["/v1/files", "/v1/vector_stores"])
def test_the_body_of_a_free_operation_is_not_looked_into(target: str) -> None:
    assert request("POST", target, JSON, body=b"{not json").body == b"{not json"


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(documents, documents, documents)
@settings(max_examples=200, deadline=None)
def test_any_document_is_read_or_refused(model: object, stream: object, other: object) -> None:
    body = json.dumps({"a": other, "model": model, "stream": stream, "max_tokens": other}).encode()
    try:
        found = request("POST", CHAT, JSON, body=body)
    except Refusal:
        return
    assert found.body == body
    assert found.model == (model if isinstance(model, str) else None)
    assert found.streaming is (stream is True)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("/v1/messages?key=kt_live_x", "x-a: b"),
        ("/v1/messages", "x-custom: kt_live_x"),
        ("/v1/messages", "user-agent: a/kt_live_x"),
    ],
)
def test_a_key_where_it_would_go_up_is_refused(target: str, line: str) -> None:
    with pytest.raises(Refusal) as caught:
        request("POST", target, "x-api-key: kt_live_x", line, body=b"{}")
    assert caught.value.kind is Kind.MALFORMED
    assert "kt_live_x" not in caught.value.message
    # What is no key of Karta's is judged as a key, not as a word.
    assert request("POST", "/v1/messages?b=1", "x-api-key: b", "x-a: b", body=b"{}").lines == [b"x-a: b"]


def test_a_wrong_method_is_told_the_right_ones_in_a_header() -> None:
    with pytest.raises(Refusal) as caught:
        request("GET", "/v1/messages", "anthropic-version: 2023-06-01")
    assert caught.value.fields == ("allow: POST",)


# What is said again.

TOKEN_LINES = ("x-api-key: kt_live_a", "Authorization: Bearer kt_live_a")
AGAIN = [
    request("POST", "/v1/messages?beta=true", *lines, "anthropic-version: 1", "x-a: b", body=b'{"model":"m"}')
    for lines in (TOKEN_LINES[:1], TOKEN_LINES[1:], TOKEN_LINES)
]


@pytest.mark.parametrize("first", AGAIN)
def test_without_its_body_a_request_keeps_what_its_head_says_and_no_key(first: APIRequest) -> None:
    kept = first.without_body()
    for name in ("operation", "dialect", "target", "lines", "host", "bearer", "json", "content_length"):
        assert getattr(kept, name) == getattr(first, name), name
    assert (kept.token, kept.body, kept.model) == (b"", b"", None)
    assert (kept.inbound.method, kept.inbound.complete) == (b"POST", True)
    assert (kept.inbound.raw, kept.inbound.lines, kept.inbound.body) == (b"", [], [])


@pytest.mark.parametrize("first", AGAIN)
def test_again_is_the_same_with_another_body(first: APIRequest) -> None:
    kept = first.without_body()
    body = b'{"model":"other","stream":true}'
    again = kept.again(body, read_fields(kept, body))
    assert (again.body, again.model, again.streaming) == (body, "other", True)
    assert (again.operation, again.target, again.lines) == (first.operation, first.target, first.lines)
    # What one lets go of, the next has all the same.
    again.forget()
    assert (again.body, again.lines) == (b"", [])
    assert kept.again(body, read_fields(kept, body)).lines == first.lines
    assert kept.upstream_prefix(PROVIDER, hide_account=False) == first.upstream_prefix(
        PROVIDER, hide_account=False
    )


PROVIDER = make_provider(
    "x",
    Dialect.ANTHROPIC,
    AuthStyle.CLIENT,
    "https://provider.test:8443/base",
    api_key=None,
    ca_file=None,
    development=False,
)


@pytest.mark.parametrize("first", AGAIN)
def test_the_head_that_goes_up(first: APIRequest) -> None:
    assert first.upstream_prefix(PROVIDER, hide_account=False) == (
        b"POST /base/v1/messages?beta=true HTTP/1.1\r\nhost: provider.test:8443\r\nanthropic-version: 1\r\n"
        b"x-a: b\r\naccept-encoding: identity\r\n"
    )


@pytest.mark.parametrize(
    ("target", "body", "model"),
    [
        ("/v1/messages", b'{"model":"m"}', "m"),
        ("/v1/messages", b"", None),
        ("/v1/messages", b"[1]", None),
        ("/v1/messages/count_tokens", b'{"model":"m"}', "m"),
        ("/v1/skills", b"not looked at", None),
    ],
)
def test_fields_are_read_as_the_first_time(target: str, body: bytes, model: str | None) -> None:
    first = request("POST", target, body=body)
    kept = first.without_body()
    assert read_fields(kept, body) == first.fields
    assert kept.again(body, read_fields(kept, body)).model == first.model == model


@pytest.mark.parametrize("body", [b"{", b'{"model":1e999}', b'{"x":' * 100_000])
def test_a_body_that_is_refused_is_refused_again(body: bytes) -> None:
    kept = request("POST", "/v1/messages", body=b"{}").without_body()
    with pytest.raises(Refusal) as caught:
        read_fields(kept, body)
    assert caught.value.kind is Kind.MALFORMED
