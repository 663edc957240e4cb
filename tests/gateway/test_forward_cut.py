"""What the client sees when the rest of an answer does not come: never what looks like an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.gateway.conftest import Stage, Tenant
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import Handler, Line, silent
from tests.support.streams import ANTHROPIC, CHAT, RESPONSES, STREAM_BODY, chunk, dechunk


class Api(NamedTuple):
    """One streaming operation: how it is asked, what it says, and the error event of its dialect."""

    ask: Callable[[str], bytes]
    events: tuple[bytes, ...]
    error: Callable[[bytes], dict[str, object]]


def anthropic_error(event: bytes) -> dict[str, object]:
    name, data, *rest = event.split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    body = json.loads(data.removeprefix(b"data: "))
    assert body["type"] == "error"
    assert body["request_id"]
    error: dict[str, object] = body["error"]
    return error


def chat_error(event: bytes) -> dict[str, object]:
    data, *rest = event.split(b"\n")
    assert rest == [b"", b""]
    error: dict[str, object] = json.loads(data.removeprefix(b"data: "))["error"]
    return error


def responses_error(event: bytes) -> dict[str, object]:
    name, data, *rest = event.split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    body: dict[str, object] = json.loads(data.removeprefix(b"data: "))
    assert body["type"] == "error"
    return body


APIS = {
    "anthropic": Api(lambda token: post(token, STREAM_BODY), ANTHROPIC, anthropic_error),
    "chat": Api(chat, CHAT, chat_error),
    "responses": Api(lambda token: chat(token, path="/v1/responses"), RESPONSES, responses_error),
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def dying(said: bytes, *, reset: bool = False) -> Handler:
    """A provider that says this much and dies, by an end or by a reset."""

    async def handler(line: Line) -> None:
        await line.read_request()
        await line.send(said)
        if reset:
            await line.reset()

    return handler


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("name", APIS)
async def test_a_stream_that_breaks_between_events_says_so_in_its_dialect(
    name: str, reset: bool, stage: Stage, tenant: Tenant
) -> None:
    api = APIS[name]
    said = b"".join(chunk(event) for event in api.events[:-1])
    async with (
        stage(dying(CHUNKED + said, reset=reset)) as (gateway, _),
        gateway.client() as client,
    ):
        await client.send(api.ask(tenant.token))
        await client.read_head()
        body, ended_well = dechunk(await client.read_to_end())
        assert not ended_well
        assert body.startswith(b"".join(api.events[:-1]))
        error = api.error(body.removeprefix(b"".join(api.events[:-1])))
        assert "not complete" in str(error["message"])
        row = await gateway.only_row()
    assert (row["outcome"], row["status"]) == ("upstream_failed", 200)
    assert row["input_tokens"] + row["output_tokens"] > 0


# Where a provider may break off so that nothing can be said any more without being taken for something else.
HALF_SAID = {
    "in an event": chunk(ANTHROPIC[0]) + chunk(ANTHROPIC[1][:-1]),
    "in a chunk": chunk(ANTHROPIC[0]) + chunk(ANTHROPIC[1])[:-10],
    "before a chunk's line end": chunk(ANTHROPIC[0]) + chunk(ANTHROPIC[1])[:-2],
    "in a chunk's line end": chunk(ANTHROPIC[0]) + chunk(ANTHROPIC[1])[:-1],
    "in a chunk's size": chunk(ANTHROPIC[0]) + b"5",
    "after a chunk's size": chunk(ANTHROPIC[0]) + b"5\r\n",
    "in a chunk's extension": chunk(ANTHROPIC[0]) + b"5;a",
    "in the terminator": chunk(ANTHROPIC[0]) + b"0",
    "in the terminator's line end": chunk(ANTHROPIC[0]) + b"0\r",
    "before the trailers": chunk(ANTHROPIC[0]) + b"0\r\n",
    "in the trailers": chunk(ANTHROPIC[0]) + b"0\r\nx-sum: 1\r\n",
    "in the last line end": chunk(ANTHROPIC[0]) + b"0\r\n\r",
}


@pytest.mark.parametrize("where", HALF_SAID)
async def test_a_stream_that_breaks_elsewhere_just_breaks(where: str, stage: Stage, tenant: Tenant) -> None:
    said = HALF_SAID[where]
    async with stage(dying(CHUNKED + said)) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_head()
        received = await client.read_to_end()
        assert not dechunk(received)[1]
        assert received == said
        assert (await gateway.only_row())["outcome"] == "upstream_failed"


async def test_a_stream_until_the_end_that_is_reset_has_no_end(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(dying(HEAD + b"\r\n" + ANTHROPIC[0], reset=True)) as (gateway, _),
        gateway.client() as client,
    ):
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_head()
        received = await client.read_to_end()
        assert received.startswith(ANTHROPIC[0])
        assert anthropic_error(received.removeprefix(ANTHROPIC[0]))["type"] == "api_error"
        assert client.was_reset


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_an_answer_short_of_its_length_is_cut(reset: bool, stage: Stage, tenant: Tenant) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    async with (
        stage(dying(head + b'{"usage"', reset=reset)) as (gateway, _),
        gateway.client() as client,
    ):
        await client.send(post(tenant.token))
        assert (await client.read_head()).headers["content-length"] == "100"
        assert await client.read_to_end() == b'{"usage"'
        assert (await gateway.only_row())["outcome"] == "upstream_failed"


async def test_an_http_1_0_client_sees_a_reset(stage: Stage, tenant: Tenant) -> None:
    async with stage(dying(CHUNKED + chunk(CHAT[0]))) as (gateway, _), gateway.client() as client:
        await client.send(get(tenant.token, version="1.0"))
        await client.read_head()
        assert await client.read_to_end() == CHAT[0]
        assert client.was_reset


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["nothing", "half a head", "interim"],
)
async def test_no_answer_at_all_is_a_502(said: bytes, stage: Stage, tenant: Tenant) -> None:
    async with stage(dying(said), retries_max=0) as (gateway, provider), gateway.client() as client:
        await client.send(post(tenant.token))
        answer = await client.read_answer()
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        row = await gateway.only_row()
        assert (row["outcome"], row["status"]) == ("upstream_failed", 502)
        # A new connection cannot be stale, so nothing was tried twice; and the client's is as good as ever.
        assert len(provider.lines) == 1
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 502


UNUSABLE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "two framings": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}!",
    "compressed framing": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "endless interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 100_000,
    "leading lines": b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_what_is_no_answer_is_a_502(what: str, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(UNUSABLE[what])
        await line.wait_closed()

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        await client.send(post(tenant.token))
        answer = await client.read_answer()
        assert answer.status == 502
        assert (await gateway.only_row())["outcome"] == "upstream_failed"
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 502
        assert len(provider_.lines) == 2


SURPLUS = {
    "after a length": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "after chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "after no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "after a head": b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n",
}
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"


@pytest.mark.parametrize("poison", [POISON, b"poison", b"\r\n"], ids=["answer", "garbage", "line"])
@pytest.mark.parametrize("where", SURPLUS)
async def test_bytes_after_an_answer_reach_nobody(
    where: str, poison: bytes, stage: Stage, tenant: Tenant
) -> None:
    """In the same read as the answer's end: told from the answer, and the connection given up."""
    method = "HEAD" if where == "after a head" else "GET"

    async def provider(line: Line) -> None:
        await line.read_request()
        if len(provider_.lines) == 1:
            await line.send(SURPLUS[where] + poison)
            await line.wait_closed()
        else:
            await line.answer(ANSWER)

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        await client.send(get(tenant.token, method=method, close=True))
        assert b"poison" not in await client.read_to_end()
        assert (await gateway.ask(get(tenant.token))).body == ANSWER
        assert len(provider_.lines) == 2


async def test_the_first_byte_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, first_byte_seconds=0.05) as (gateway, provider), gateway.client() as client:
        await client.send(post(tenant.token))
        answer = await client.read_answer()
        assert answer.status == 504
        assert json.loads(answer.body)["error"]["type"] == "timeout_error"
        row = await gateway.only_row()
        assert (row["outcome"], row["status"], row["output_tokens"]) == ("timed_out", 504, 0)
        await provider.lines[0].closed.wait()
        # The client's own connection is not to blame.
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 504


@pytest.mark.parametrize("name", APIS)
async def test_silence_in_a_stream_has_a_limit(name: str, stage: Stage, tenant: Tenant) -> None:
    api = APIS[name]

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(CHUNKED + chunk(api.events[0]))
        await line.wait_closed()

    async with stage(provider, between_bytes_seconds=0.05) as (gateway, _), gateway.client() as client:
        await client.send(api.ask(tenant.token))
        await client.read_head()
        body, ended_well = dechunk(await client.read_to_end())
        assert not ended_well
        api.error(body.removeprefix(api.events[0]))
        assert (await gateway.only_row())["outcome"] == "timed_out"


async def test_silence_in_an_answer_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await line.wait_closed()

    async with stage(provider, between_bytes_seconds=0.05) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token))
        await client.read_head()
        assert await client.read_to_end() == b"{"
        assert (await gateway.only_row())["outcome"] == "timed_out"
