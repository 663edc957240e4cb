"""One record for each request that was admitted, whatever its end, and none for those that were not."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import trio

from gateway.refusal import Dialect
from gateway.tally import Tally
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import Line, answering
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"".join(map(chunk, ANTHROPIC)) + b"0\r\n\r\n"


async def read_all(client: RawClient) -> None:
    await client.read_to_end()


async def leave_at_once(client: RawClient) -> None:
    """Leave when the provider has been asked."""


async def leave_at_a_byte(client: RawClient) -> None:
    await client.read_until(b"\r\n\r\n")


class End(NamedTuple):
    """A way for a request to end: what the provider says, what the client does, what is recorded."""

    said: bytes | None
    """None: nothing, and it stays."""
    dies: bool
    client: Callable[[RawClient], Awaitable[None]]
    outcome: str
    status: int
    complete: bool
    tokens: tuple[int, int]


UNARY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
# Of a request cut before its figures were told the input is estimated from the size of its body; also when
# nothing was said at all, since the provider may have worked on it.
ESTIMATE = len(STREAM_BODY) // 4
ENDS = {
    "an answer": End(UNARY, False, read_all, "completed", 200, True, (3, 4)),
    "a stream": End(STREAM + WHOLE, False, read_all, "completed", 200, True, (7, 5)),
    "a stream without figures": End(
        STREAM + chunk(ANTHROPIC[1]) + chunk(ANTHROPIC[2]) + b"0\r\n\r\n",
        False,
        read_all,
        "completed",
        200,
        False,
        (ESTIMATE, 2),
    ),
    "an error": End(
        b"HTTP/1.1 529 Overloaded\r\ncontent-length: 2\r\n\r\n{}",
        False,
        read_all,
        "completed",
        529,
        True,
        (0, 0),
    ),
    "client gone, nothing said": End(None, False, leave_at_once, "client_gone", 0, False, (ESTIMATE, 0)),
    "client gone in a stream": End(
        STREAM + b"".join(map(chunk, ANTHROPIC[:3])),
        False,
        leave_at_a_byte,
        "client_gone",
        200,
        False,
        (7, 3),
    ),
    "provider died, nothing said": End(b"", True, read_all, "upstream_failed", 502, True, (0, 0)),
    "provider died in its head": End(b"HTTP/1.1 200", True, read_all, "upstream_failed", 502, True, (0, 0)),
    "provider died in a stream": End(
        STREAM + b"".join(map(chunk, ANTHROPIC[:2])), True, read_all, "upstream_failed", 200, False, (7, 2)
    ),
    "provider died in an answer": End(
        UNARY[:-1], True, read_all, "upstream_failed", 200, False, (ESTIMATE, 0)
    ),
    "nothing in time": End(None, False, read_all, "timed_out", 504, False, (ESTIMATE, 0)),
    "nothing more in time": End(
        STREAM + chunk(ANTHROPIC[0]), False, read_all, "timed_out", 200, False, (7, 1)
    ),
    "a redirect to elsewhere": End(
        b"HTTP/1.1 302 Found\r\nlocation: https://e.example/\r\ncontent-length: 0\r\n\r\n",
        False,
        read_all,
        "upstream_failed",
        502,
        True,
        (0, 0),
    ),
}


@pytest.mark.parametrize("name", ENDS)
async def test_each_end_leaves_one_record(name: str, stage: Stage, tenant: Tenant) -> None:
    end = ENDS[name]
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        asked.set()
        if end.said:
            await line.send(end.said)
        if not end.dies:
            await line.wait_closed()

    # Small only where it is what ends the request.
    seconds = 0.05 if end.outcome == "timed_out" else 60
    bounds = {"first_byte_seconds": seconds, "between_bytes_seconds": seconds, "retries_max": 0}
    async with stage(provider, **bounds) as (gateway, _):
        async with gateway.client() as client:
            await client.send(post(tenant.token, STREAM_BODY, close=True))
            await asked.wait()
            await end.client(client)
        row = await gateway.only_row()
    found = (
        row["outcome"],
        row["status"],
        row["usage_complete"],
        (row["input_tokens"], row["output_tokens"]),
    )
    assert found == (end.outcome, end.status, end.complete, end.tokens)
    assert (row["model_asked"], row["endpoint"], row["provider"]) == (
        "claude-test",
        "/v1/messages",
        "anthropic",
    )


async def test_a_record_says_what_was_asked_and_how_long_it_took(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(ANSWER, headers="request-id: req_9\r\n")

    async with stage(provider, cold=True) as (gateway, _):
        answer = await gateway.ask(post(tenant.token))
        row = await gateway.only_row()
    assert row["request_id"] == UUID(answer.headers["x-karta-request-id"])
    assert (row["key_id"], row["org_id"]) == (tenant.key_id, tenant.org_id)
    assert (row["credential_kind"], row["credential_id"]) == ("platform", None)
    assert (row["model_answered"], row["provider_request_id"]) == ("claude-test", "req_9")
    assert (row["request_bytes"], row["response_bytes"]) == (53, len(ANSWER))
    # Each part within the whole: bcrypt's share is the largest of a first request.
    assert 0 < row["verify_us"] < row["first_byte_us"] <= row["total_us"]


async def test_what_was_never_admitted_leaves_none(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider):
        for request, status in (
            (post("kt_live_no"), 401),
            (post(tenant.token, b"{"), 400),
            (get(tenant.token, "/v1/nothing"), 404),
            (get(tenant.token, "/v1/messages"), 405),
            (b"nonsense\r\n\r\n", 400),
        ):
            assert (await gateway.ask(request)).status == status
        assert await gateway.settled(0) == []
        assert provider.lines == []


async def test_what_costs_nothing_is_recorded_too(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(b'{"input_tokens":12}')) as (gateway, _):
        await gateway.ask(get(tenant.token, "/v1/models?limit=5"))
        await gateway.ask(post(tenant.token, path="/v1/messages/count_tokens"))
        rows = await gateway.settled(2)
    assert [row["endpoint"] for row in rows] == ["/v1/models", "/v1/messages/count_tokens"]
    for row in rows:
        assert row["usage_complete"]
        assert row["input_tokens"] == row["output_tokens"] == 0


async def test_looking_an_answer_up_again_counts_nothing(stage: Stage, tenant: Tenant) -> None:
    stored = b'{"model":"m","usage":{"prompt_tokens":100,"completion_tokens":200}}'
    async with stage(answering(stored)) as (gateway, _):
        await gateway.ask(get(tenant.token, "/v1/chat/completions/chatcmpl_1"))
        (row,) = await gateway.settled(1)
    assert row["usage_complete"]
    assert row["input_tokens"] == row["output_tokens"] == 0


async def test_the_classes_of_tokens_are_told_apart(stage: Stage, tenant: Tenant) -> None:
    answer = (
        b'{"model":"claude-answered","usage":{"input_tokens":25,"output_tokens":9,"cache_read_input_tokens":5,'
        b'"cache_creation_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":4,'
        b'"ephemeral_1h_input_tokens":3}}}'
    )
    async with stage(answering(answer)) as (gateway, _):
        await gateway.ask(post(tenant.token))
        row = await gateway.only_row()
    assert (row["model_asked"], row["model_answered"]) == ("claude-test", "claude-answered")
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (25, 9, 5)
    assert (row["cache_write_5m_tokens"], row["cache_write_1h_tokens"]) == (4, 3)


# What it costs.

UNKNOWN_RATE = 100_000_000
KNOWN_MODEL = b"claude-sonnet-4-5"
# 3 dollars a million tokens of input and 15 of output, in picodollars a token.
KNOWN_COST = 3 * 3_000_000 + 4 * 15_000_000


def answer_of(model: bytes) -> bytes:
    return b'{"model":"%s","usage":{"input_tokens":3,"output_tokens":4}}' % model


async def test_a_known_price_is_exact(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(answer_of(KNOWN_MODEL))) as (gateway, _):
        await gateway.ask(post(tenant.token))
        row = await gateway.only_row()
        assert (
            row["price_version"]
            == gateway.worker.prices.cost(
                Tally(Dialect.ANTHROPIC, streamed=False),
                provider="anthropic",
                model_asked=KNOWN_MODEL.decode(),
                org_id=tenant.org_id,
                at=row["started_at"].timestamp(),
            )[1]
        )
    assert row["price_version"]
    assert (row["cost_picodollars"], row["charged_picodollars"]) == (KNOWN_COST, KNOWN_COST)


async def test_an_unknown_price_is_not_nothing(stage: Stage, tenant: Tenant) -> None:
    """The cost is not known, and money limits are charged the configured rate for every token."""
    async with stage(answering(answer_of(b"made-up"))) as (gateway, _):
        # However large the question was, since the provider told its tokens.
        for words in (b"", b"x" * 40_000):
            await gateway.ask(post(tenant.token, b'{"model":"made-up","messages":"%s"}' % words))
        rows = await gateway.settled(2)
    for row in rows:
        assert row["cost_picodollars"] is None
        assert row["price_version"] is None
        assert row["charged_picodollars"] == (3 + 4) * UNKNOWN_RATE


async def test_an_answer_without_figures_is_not_free(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(b'{"model":"%s"}' % KNOWN_MODEL)) as (gateway, _):
        await gateway.ask(post(tenant.token, b"{}"))
        row = await gateway.only_row()
    assert not row["usage_complete"]
    assert row["input_tokens"] == row["output_tokens"] == 0
    assert row["cost_picodollars"] is None


async def test_sound_that_nobody_counted_is_not_free(stage: Stage, tenant: Tenant) -> None:
    """What was read out can be estimated, and is the least of it."""
    body = b'{"model":"gpt-4o-mini-tts","voice":"alloy","input":"%s"}' % (b"word " * 100)
    async with stage(answering(bytes(range(256)) * 8)) as (gateway, _):
        assert (await gateway.ask(chat(tenant.token, body, path="/v1/audio/speech"))).status == 200
        row = await gateway.only_row()
    assert (row["outcome"], row["usage_complete"]) == ("completed", False)
    assert (row["input_tokens"], row["output_tokens"]) == (len(body) // 4, 0)
    assert row["cost_picodollars"] is row["price_version"] is None
    assert row["charged_picodollars"] == len(body) // 4 * UNKNOWN_RATE


async def test_embeddings_that_are_counted_cost_what_was_read(stage: Stage, tenant: Tenant) -> None:
    body = b'{"model":"text-embedding-3-small","input":"%s"}' % (b"word " * 100)
    told = (
        b'{"object":"list","model":"text-embedding-3-small","usage":{"prompt_tokens":100,"total_tokens":100}}'
    )
    async with stage(answering(told)) as (gateway, _):
        await gateway.ask(chat(tenant.token, body, path="/v1/embeddings"))
        row = await gateway.only_row()
    assert row["usage_complete"]
    assert row["cost_picodollars"] == row["charged_picodollars"] == 100 * 20_000


@pytest.mark.parametrize("status", [400, 429, 529])
async def test_an_error_costs_nothing(status: int, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(answer_of(KNOWN_MODEL), status=f"{status} No")

    async with stage(provider) as (gateway, _):
        await gateway.ask(post(tenant.token))
        row = await gateway.only_row()
    assert (row["cost_picodollars"], row["charged_picodollars"], row["price_version"]) == (0, 0, None)


async def test_what_may_have_been_worked_on_is_charged_as_estimated(stage: Stage, tenant: Tenant) -> None:
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        asked.set()
        await line.wait_closed()

    body = b'{"model":"%s","messages":"%s"}' % (KNOWN_MODEL, b"x" * 1000)
    async with stage(provider) as (gateway, _):
        async with gateway.client() as client:
            await client.send(post(tenant.token, body))
            await asked.wait()
        row = await gateway.only_row()
    assert not row["usage_complete"]
    assert row["input_tokens"] == len(body) // 4
    assert row["cost_picodollars"] == row["charged_picodollars"] == len(body) // 4 * 3_000_000


HOSTILE = {
    "a NUL": (rb'"claude\u0000test"', "claude\ufffdtest"),
    "very long": (b'"' + b"x" * 100_000 + b'"', re.compile("x{200}")),
    "not ASCII": ('"claude-é-模型"'.encode(), "claude-é-模型"),
    "not a text": (b"17", None),
    "empty": (b'""', ""),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_a_stranger_chose_finds_a_place(name: str, stage: Stage, tenant: Tenant) -> None:
    model, kept = HOSTILE[name]
    answer = b'{"model":' + model + b',"usage":{"input_tokens":3,"output_tokens":4}}'
    async with stage(answering(answer)) as (gateway, _):
        assert (await gateway.ask(post(tenant.token, b'{"model":' + model + b"}"))).status == 200
        row = await gateway.only_row()
    _check_name(row["model_asked"], kept)


def _check_name(found: Any, kept: Any) -> None:
    if isinstance(kept, re.Pattern):
        assert kept.fullmatch(found)
    else:
        assert found == kept


async def test_a_completed_answer_is_on_file_before_its_end_is_sent(stage: Stage, tenant: Tenant) -> None:
    """So that whoever saw the end of an answer has a record, even if the worker dies at that moment."""
    go_on = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in ANTHROPIC:
            await line.send_chunk(event)
        await go_on.wait()
        await line.end_stream()
        await line.wait_closed()

    async with stage(provider) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, STREAM_BODY))
        await client.read_until(ANTHROPIC[-1])
        assert gateway.worker.meter.spool.appended == 0
        seen = _record_sizes(gateway)
        go_on.set()
        await client.read_until(b"0\r\n\r\n")
        assert seen[-1:] == [1]


def _record_sizes(gateway: RunningGateway) -> list[int]:
    """How many records there were at each send to the client from now on."""
    seen: list[int] = []
    (watched,) = gateway.worker.watchdog.watched
    transport = watched.transport  # type: ignore[attr-defined]

    class Watching:
        sock = transport.sock

        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

        def send_now(self, data: bytes) -> int:
            seen.append(gateway.worker.meter.spool.appended)
            return int(transport.send_now(data))

    watched.transport = Watching()  # type: ignore[attr-defined]
    return seen
