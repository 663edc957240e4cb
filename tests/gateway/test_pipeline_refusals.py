"""What is refused, in the words of the API that was called, and without a byte to any provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.gateway.conftest import Stage, Tenant
from tests.support.raw_client import Answer
from tests.support.requests import BODY, CHAT_BODY, chat, get, post
from tests.support.scripted_provider import silent
from tests.support.tokens import unknown


class Said(NamedTuple):
    """An error as its SDK reads it."""

    status: int
    kind: str
    code: str | None
    retry: str | None


def read(answer: Answer) -> Said:
    """Check what all errors have, and return the rest."""
    body = json.loads(answer.body)
    request_id = answer.headers["x-karta-request-id"]
    assert answer.headers["content-type"] == "application/json"
    assert len(request_id) == 32
    error = body["error"]
    assert error["message"]
    retry = answer.headers.get("x-should-retry")
    if body.get("type") == "error":
        assert body["request_id"] == answer.headers["request-id"] == request_id
        assert "x-request-id" not in answer.headers
        return Said(answer.status, error["type"], None, retry)
    assert answer.headers["x-request-id"] == request_id
    assert "request-id" not in answer.headers
    assert error["param"] is None
    return Said(answer.status, error["type"], error["code"], retry)


INVALID = "invalid_request_error"
Ask = Callable[[str], bytes]
# A request, in both dialects, and how its refusal reads.
REFUSALS: dict[str, tuple[Ask, Said, Ask, Said]] = {
    "no key": (
        lambda _: post("").replace(b"x-api-key: \r\n", b""),
        Said(401, "authentication_error", None, "false"),
        lambda _: chat("").replace(b"authorization: Bearer \r\n", b""),
        Said(401, INVALID, "invalid_api_key", "false"),
    ),
    "unknown key": (
        lambda _: post(unknown()),
        Said(401, "authentication_error", None, "false"),
        lambda _: chat(unknown()),
        Said(401, INVALID, "invalid_api_key", "false"),
    ),
    "not JSON": (
        lambda token: post(token, b"{"),
        Said(400, INVALID, None, "false"),
        lambda token: chat(token, b"{"),
        Said(400, INVALID, None, "false"),
    ),
    "nested": (
        lambda token: post(token, b'{"a":' * 100_000),
        Said(400, INVALID, None, "false"),
        lambda token: chat(token, b'{"a":' * 100_000),
        Said(400, INVALID, None, "false"),
    ),
    "unknown path": (
        lambda token: post(token, path="/anthropic/v1/nothing"),
        Said(404, "not_found_error", None, "false"),
        lambda token: chat(token, path="/v1/nothing"),
        Said(404, INVALID, "unknown_url", "false"),
    ),
    "another API's path": (
        lambda token: post(token, path="/anthropic/v1/chat/completions"),
        Said(404, "not_found_error", None, "false"),
        lambda token: chat(token, path="/openai/v1/messages"),
        Said(404, INVALID, "unknown_url", "false"),
    ),
    "wrong method": (
        lambda token: get(token, "/v1/messages", method="PUT"),
        Said(405, INVALID, None, "false"),
        lambda token: chat(token).replace(b"POST", b"PATCH", 1),
        Said(405, INVALID, "method_not_allowed", "false"),
    ),
    "too large": (
        lambda token: post(token, b"x" * 3000),
        Said(413, "request_too_large", None, "false"),
        lambda token: chat(token, b"x" * 3000),
        Said(413, INVALID, "request_too_large", "false"),
    ),
    "two hosts": (
        lambda token: post(token, headers="host: other\r\n"),
        Said(400, INVALID, None, "false"),
        lambda token: chat(token).replace(b"\r\n\r\n", b"\r\nhost: other\r\n\r\n"),
        Said(400, INVALID, None, "false"),
    ),
    "a web socket": (
        lambda token: get(token).replace(
            b"\r\n\r\n", b"\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        ),
        Said(501, "api_error", None, "false"),
        lambda token: chat(token, b"").replace(
            b"\r\n\r\n", b"\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        ),
        Said(501, "server_error", "not_supported", "false"),
    ),
}


async def test_a_refusal_speaks_the_language_it_was_asked_in(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, limits={"body_bytes_max": 2000}) as (gateway, provider):
        for name, (in_anthropic, anthropic, in_openai, openai) in REFUSALS.items():
            if name == "nested":
                continue
            assert read(await gateway.ask(in_anthropic(tenant.token))) == anthropic, name
            assert read(await gateway.ask(in_openai(tenant.token))) == openai, name
        assert provider.lines == []
        assert await gateway.settled(0) == []


async def test_a_body_nested_without_end_is_refused(stage: Stage, tenant: Tenant) -> None:
    in_anthropic, anthropic, in_openai, openai = REFUSALS["nested"]
    async with stage(silent) as (gateway, provider):
        assert read(await gateway.ask(in_anthropic(tenant.token))) == anthropic
        assert read(await gateway.ask(in_openai(tenant.token))) == openai
        assert provider.lines == []


TARGETS = [
    b"/",
    b"/v1",
    b"/v1/",
    b"/v1/messages/",
    b"//v1/messages",
    b"/v1//messages",
    b"/v1/messages/../files",
    b"/v1/files/%2e%2e/messages",
    b"/v1/files/..%2fmessages",
    b"/v1/files/..%5cmessages",
    b"/v1/messages%00",
    b"/V1/messages",
    b"/v1/messages;a=b",
    b"/v1/messages#fragment",
    b"/anthropic/messages",
    b"/anthropic/v1",
    b"http://127.0.0.1/v1/messages",
    b"https://api.anthropic.com/v1/messages",
    b"*",
]


@pytest.mark.parametrize("token", ["live", "none"])
async def test_an_unknown_path_reaches_no_provider(token: str, stage: Stage, tenant: Tenant) -> None:
    key = tenant.token if token == "live" else "none"
    async with stage(silent) as (gateway, provider):
        for target in TARGETS:
            for method in (b"POST", b"GET"):
                request = post(key).replace(b"POST /v1/messages", method + b" " + target)
                answer = await gateway.ask(request)
                assert answer.status in (400, 404), target
        for wrong in ("OPTIONS", "TRACE", "DELETE", "PUT", "PATCH", "PROPFIND"):
            answer = await gateway.ask(get(key, "/v1/messages", method=wrong))
            assert answer.status == 405, wrong
        assert (await gateway.exchange(get(key, "api.anthropic.com:443", method="CONNECT")))[9:12] in (
            b"400",
            b"501",
        )
        assert provider.lines == []
        assert await gateway.settled(0) == []


async def test_a_refusal_to_head_has_no_body(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, _), gateway.client() as client:
        for target, status in (("/v1/nothing", 404), ("/v1/messages", 405)):
            await client.send(get(tenant.token, target, method="HEAD"))
            answer = await client.read_answer(bodiless=True)
            assert (answer.status, int(answer.headers["content-length"]) > 0) == (status, True)
        await client.send(get("kt_live_no", method="HEAD"))
        assert (await client.read_answer(bodiless=True)).status == 401


async def test_a_refused_request_does_not_cost_its_connection(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, _), gateway.client() as client:
        for request, status in (
            (post("kt_live_no"), 401),
            (post(tenant.token, b"{"), 400),
            (get(tenant.token, "/v1/nothing"), 404),
            (get(tenant.token, "/v1/messages"), 405),
            (chat("kt_live_no"), 401),
        ):
            await client.send(request)
            assert (await client.read_answer()).status == status


async def test_what_is_no_request_is_told_in_both_dialects(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, provider):
        for raw in (
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            post(tenant.token).replace(b"content-length: 53", b"content-length: 53\r\ncontent-length: 54"),
            post(tenant.token).replace(b"content-length", b"transfer-encoding: chunked\r\ncontent-length"),
        ):
            async with gateway.client() as client:
                await client.send(raw)
                answer = await client.read_answer()
                assert answer.status in (400, 505), raw
                body = json.loads(answer.body)
                assert body["type"] == "error"
                assert set(body["error"]) == {"message", "type", "param", "code"}
                assert answer.headers["request-id"] == answer.headers["x-request-id"] == body["request_id"]
                assert answer.headers["connection"] == "close"
                assert await client.read_to_end() == b""
        assert provider.lines == []


def test_the_bodies_are_what_their_tests_say() -> None:
    assert len(BODY) == 53
    assert json.loads(CHAT_BODY)["stream"] is True
