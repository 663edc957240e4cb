"""The one error Karta makes, as each SDK reads it."""

from __future__ import annotations

import json

import anthropic
import httpx2
import openai
import pytest

from gateway.refusal import Dialect, Kind, Refusal, Source, error_body, error_event, render

REQUEST_ID = "0189-request"
KINDS = list(Kind)


def split(response: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    return status_line, dict(line.split(": ", 1) for line in lines), body


def as_response(refusal: Refusal, dialect: Dialect) -> httpx2.Response:
    status_line, headers, body = split(render(refusal, dialect, REQUEST_ID))
    request = httpx2.Request("POST", "http://karta/v1/x")
    return httpx2.Response(int(status_line.split()[1]), headers=headers, content=body, request=request)


def test_no_kind_is_another_under_a_second_name() -> None:
    assert len({id(kind.value) for kind in KINDS}) == len(Kind.__members__)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("kind", KINDS)
def test_the_response_is_whole(kind: Kind, dialect: Dialect) -> None:
    refusal = Refusal(kind, "What to do.", retry_after=7, close=True)
    status_line, headers, body = split(render(refusal, dialect, REQUEST_ID))
    assert status_line.startswith(f"HTTP/1.1 {kind.value.status} ")
    assert status_line.split(" ", 2)[2]
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["retry-after"] == "7"
    assert headers["x-karta-request-id"] == REQUEST_ID
    assert headers.get("request-id") == (None if dialect is Dialect.OPENAI else REQUEST_ID)
    assert headers.get("x-request-id") == (None if dialect is Dialect.ANTHROPIC else REQUEST_ID)
    assert headers.get("x-should-retry") == {True: "true", False: "false", None: None}[kind.value.retryable]
    found = json.loads(body)
    assert found["error"]["message"] == "What to do."
    if dialect is not Dialect.ANTHROPIC:
        assert set(found["error"]) == {"message", "type", "param", "code"}
    if dialect is not Dialect.OPENAI:
        assert (found["type"], found["request_id"]) == ("error", REQUEST_ID)
        assert isinstance(found["error"]["type"], str)


def test_head_gets_the_head_alone() -> None:
    refusal = Refusal(Kind.NOT_FOUND, "No.")
    whole = render(refusal, Dialect.OPENAI, REQUEST_ID)
    head = render(refusal, Dialect.OPENAI, REQUEST_ID, head_only=True)
    assert head.endswith(b"\r\n\r\n")
    assert whole == head + error_body(Kind.NOT_FOUND, "No.", Dialect.OPENAI, REQUEST_ID)


def test_optional_headers_are_left_out() -> None:
    _, headers, _ = split(render(Refusal(Kind.INTERNAL, "x"), Dialect.OPENAI, REQUEST_ID))
    assert {"connection", "retry-after", "x-should-retry"}.isdisjoint(headers)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sdk_raises_its_own_class(kind: Kind) -> None:
    refusal = Refusal(kind, "What to do.")
    theirs = anthropic.Anthropic(api_key="k")._make_status_error_from_response(
        as_response(refusal, Dialect.ANTHROPIC)
    )
    ours = openai.OpenAI(api_key="k")._make_status_error_from_response(as_response(refusal, Dialect.OPENAI))
    assert (theirs.status_code, theirs.request_id) == (kind.value.status, REQUEST_ID)
    assert (ours.status_code, ours.request_id) == (kind.value.status, REQUEST_ID)
    assert (ours.code, ours.type) == (kind.value.openai_code, kind.value.openai_type)
    assert "What to do." in theirs.message
    assert "What to do." in ours.message


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        (Kind.MALFORMED, anthropic.BadRequestError, openai.BadRequestError),
        (Kind.UNAUTHENTICATED, anthropic.AuthenticationError, openai.AuthenticationError),
        (Kind.FORBIDDEN, anthropic.PermissionDeniedError, openai.PermissionDeniedError),
        (Kind.NOT_FOUND, anthropic.NotFoundError, openai.NotFoundError),
        (Kind.RATE_LIMITED, anthropic.RateLimitError, openai.RateLimitError),
        (Kind.UNAVAILABLE, anthropic.InternalServerError, openai.InternalServerError),
    ],
)
def test_the_usual_classes(
    kind: Kind, theirs: type[anthropic.APIStatusError], ours: type[openai.APIStatusError]
) -> None:
    refusal = Refusal(kind, "x")
    client = anthropic.Anthropic(api_key="k")
    assert isinstance(
        client._make_status_error_from_response(as_response(refusal, Dialect.ANTHROPIC)), theirs
    )
    other = openai.OpenAI(api_key="k")
    assert isinstance(other._make_status_error_from_response(as_response(refusal, Dialect.OPENAI)), ours)


def test_an_error_that_no_stage_understood_is_read_by_both() -> None:
    refusal = Refusal(Kind.MALFORMED, "Not HTTP.")
    response = as_response(refusal, Dialect.UNKNOWN)
    theirs = anthropic.Anthropic(api_key="k")._make_status_error_from_response(response)
    ours = openai.OpenAI(api_key="k")._make_status_error_from_response(response)
    assert theirs.request_id == ours.request_id == REQUEST_ID
    assert "Not HTTP." in theirs.message
    assert "Not HTTP." in ours.message


def test_whose_fault_it_is() -> None:
    for kind in KINDS:
        refusal = Refusal(kind, "x")
        if refusal.source is Source.CLIENT:
            assert 400 <= refusal.status < 500 or kind is Kind.VERSION_UNSUPPORTED
        else:
            assert refusal.status >= 500
        if refusal.source is Source.UPSTREAM:
            assert kind.value.retryable is False, "Karta has spent its own retries: three tries are not nine"


MESSAGE = 'It "broke"\noff.'


@pytest.mark.parametrize(
    ("dialect", "endpoint", "expected"),
    [
        (
            Dialect.ANTHROPIC,
            "/v1/messages",
            {
                "type": "error",
                "error": {"type": "api_error", "message": MESSAGE},
                "request_id": REQUEST_ID,
            },
        ),
        (
            Dialect.OPENAI,
            "/v1/responses",
            {"type": "error", "code": "upstream_broken", "message": MESSAGE, "param": None},
        ),
        (
            Dialect.OPENAI,
            "/v1/chat/completions",
            {
                "error": {
                    "message": MESSAGE,
                    "type": "server_error",
                    "param": None,
                    "code": "upstream_broken",
                }
            },
        ),
    ],
)
def test_the_event_is_one_event_of_the_dialect(
    dialect: Dialect, endpoint: str, expected: dict[str, object]
) -> None:
    event = error_event(Kind.UPSTREAM_BROKEN, MESSAGE, dialect, endpoint, REQUEST_ID)
    *first, data, last, empty = event.split(b"\n")
    assert first == ([] if "error" in expected and "type" not in expected else [b"event: error"])
    assert json.loads(data.removeprefix(b"data: ")) == expected
    assert (last, empty) == (b"", b"")
