"""One record for each request, whatever its end: what it says for each of them."""

from __future__ import annotations

from tests.gateway.conftest import Stage, Tenant
from tests.support.scripted_provider import Line, answering

BODY = b'{"model":"claude-test","max_tokens":10,"messages":[]}'
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-answered",'
    b'"usage":{"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
END = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def request(tenant: Tenant, path: str = "/v1/messages") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: karta\r\nx-api-key: {tenant.token}\r\n"
        "anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


async def test_a_completed_stream_has_the_providers_final_figures(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in (START, DELTA, DELTA, END):
            await line.send_chunk(event)
        await line.end_stream()
        await line.wait_closed()

    async with stage(provider) as (gateway, _):
        await gateway.exchange(request(tenant))
        row = await gateway.only_row()
    assert (row["outcome"], row["status"], row["streamed"], row["usage_complete"]) == (
        "completed",
        200,
        True,
        True,
    )
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (25, 5, 9)
    assert (row["model_asked"], row["model_answered"]) == ("claude-test", "claude-answered")
    assert (row["endpoint"], row["provider"], row["credential_kind"]) == (
        "/v1/messages",
        "anthropic",
        "platform",
    )
    assert (row["request_bytes"], row["key_id"]) == (len(BODY), tenant.key_id)


async def test_a_stream_that_breaks_off_has_what_was_seen_and_says_so(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in (START, DELTA, DELTA, DELTA):
            await line.send_chunk(event)

    async with stage(provider) as (gateway, _):
        await gateway.exchange(request(tenant))
        row = await gateway.only_row()
    assert (row["outcome"], row["status"], row["usage_complete"]) == ("upstream_failed", 200, False)
    assert row["input_tokens"] == 25
    assert row["output_tokens"] >= 3


async def test_a_provider_that_cannot_be_reached_costs_nothing(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()

    async with stage(provider) as (gateway, _):
        answer = await gateway.exchange(request(tenant))
        row = await gateway.only_row()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert (row["outcome"], row["status"], row["usage_complete"]) == ("upstream_failed", 502, True)
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


async def test_a_provider_that_never_answers_is_timed_out(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.wait_closed()

    async with stage(provider, first_byte_seconds=0.3) as (gateway, _):
        answer = await gateway.exchange(request(tenant))
        row = await gateway.only_row()
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert (row["outcome"], row["status"]) == ("timed_out", 504)


async def test_the_providers_own_refusal_is_a_completed_request_that_used_nothing(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(
            b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', status="529 Overloaded"
        )
        await line.wait_closed()

    async with stage(provider) as (gateway, _):
        await gateway.exchange(request(tenant))
        row = await gateway.only_row()
    assert (row["outcome"], row["status"], row["usage_complete"], row["output_tokens"]) == (
        "completed",
        529,
        True,
        0,
    )


async def test_free_operations_are_recorded_and_use_nothing(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(b'{"input_tokens":12}')) as (gateway, _):
        await gateway.exchange(request(tenant, "/v1/messages/count_tokens"))
        row = await gateway.only_row()
    assert (row["endpoint"], row["usage_complete"]) == ("/v1/messages/count_tokens", True)
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)
