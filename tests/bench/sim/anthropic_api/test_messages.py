"""Messages through the official SDK: whole, streamed, thinking, tools, usage, faults."""

import json
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam

from tests.bench.sim.process import SimProcess

ASK: list[MessageParam] = [{"role": "user", "content": "Say something."}]
TOOL: Any = {
    "name": "weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_a_whole_message(claude: anthropic.AsyncAnthropic, sim: SimProcess) -> None:
    raw = await claude.messages.with_raw_response.create(
        model="claude-opus-4-5", max_tokens=100, messages=ASK
    )
    message = await raw.parse()
    assert message.content[0].type == "text"
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 12)
    assert message.usage.cache_creation is not None
    entry = await sim.entry(raw.headers["request-id"])
    assert (entry["dialect"], entry["model"], entry["status"]) == ("anthropic", "claude-opus-4-5", 200)
    assert (entry["credential"], entry["credential_header"]) == ("sk-ant-test", "authorization")
    assert entry["completed"]
    assert entry["usage"]["output_tokens"] == 12
    assert entry["tokens"]["output_tokens"] == 12


async def test_equal_requests_get_equal_answers(claude: anthropic.AsyncAnthropic) -> None:
    first = await claude.messages.create(model="m", max_tokens=100, messages=ASK)
    second = await claude.messages.create(model="m", max_tokens=100, messages=ASK)
    other = await claude.messages.create(model="sim:seed=9", max_tokens=100, messages=ASK)
    assert first == second
    assert first.content != other.content


async def test_a_stream_adds_up_to_the_whole(claude: anthropic.AsyncAnthropic) -> None:
    asked: dict[str, Any] = {
        "model": "sim:tokens=40,thinking=5,web_searches=1",
        "max_tokens": 100,
        "messages": ASK,
    }
    whole = await claude.messages.create(**asked)
    async with claude.messages.stream(**asked) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [block.type for block in final.content] == [
        "thinking",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]
    assert [block.model_dump() for block in final.content if block.type != "text"] == [
        block.model_dump() for block in whole.content if block.type != "text"
    ]
    assert final.usage.output_tokens == whole.usage.output_tokens == 45


async def test_event_order_ping_and_padding(http: httpx.AsyncClient) -> None:
    body = {"model": "sim:tokens=3", "max_tokens": 9, "messages": ASK, "stream": True}
    reply = await http.post("/v1/messages", json=body)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = [line[7:] for line in reply.text.split("\n") if line.startswith("event: ")]
    middle = ["content_block_delta"] * 3
    assert names == [
        *("message_start", "content_block_start", "ping", *middle, "content_block_stop", "message_delta"),
        "message_stop",
    ]
    lines = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    assert any(line != line.rstrip() or " }" in line for line in lines)
    assert [json.loads(line)["type"] for line in lines] == names


async def test_message_delta_raises_input_tokens(claude: anthropic.AsyncAnthropic) -> None:
    model = "sim:input_tokens=2234,raise_input=7047,cache_read=5,cache_write_5m=10,cache_write_1h=3"
    seen: list[int | None] = []
    async with claude.messages.stream(model=model, max_tokens=9, messages=ASK) as stream:
        async for event in stream:
            if event.type == "message_start":
                seen.append(event.message.usage.input_tokens)
            elif event.type == "message_delta":
                seen.append(event.usage.input_tokens)
        final = await stream.get_final_message()
    assert seen == [2234, 9281]
    assert final.usage.cache_creation is not None
    assert final.usage.cache_creation.ephemeral_1h_input_tokens == 3
    assert final.usage.cache_creation_input_tokens == 13


async def test_cache_control_in_the_prompt_writes_to_the_cache(claude: anthropic.AsyncAnthropic) -> None:
    marked: Any = {"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    message = await claude.messages.create(model="m", max_tokens=9, messages=ASK, system=[marked])
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens > 50
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 0


async def test_thinking_has_a_signature(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(
        model="m", max_tokens=2000, messages=ASK, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    block = message.content[0]
    assert block.type == "thinking"
    assert block.signature.startswith("ErUB")
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 6


async def test_tools_are_called_when_demanded(claude: anthropic.AsyncAnthropic) -> None:
    asked: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": ASK, "tools": [TOOL]}
    said = await claude.messages.create(**asked)
    assert said.stop_reason == "end_turn"
    async with claude.messages.stream(**asked, tool_choice={"type": "any"}) as stream:
        final = await stream.get_final_message()
    assert final.stop_reason == "tool_use"
    block = final.content[0]
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"city": "value"})
    twice = await claude.messages.create(**{**asked, "model": "sim:tool,tool_calls=2"})
    assert [block.type for block in twice.content] == ["tool_use", "tool_use"]


async def test_limits_refusals_and_stops(claude: anthropic.AsyncAnthropic) -> None:
    cut = await claude.messages.create(model="sim:tokens=50", max_tokens=5, messages=ASK)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 5)
    refused = await claude.messages.create(model="sim:refusal", max_tokens=5, messages=ASK)
    assert (refused.stop_reason, refused.content, refused.usage.output_tokens) == ("refusal", [], 0)
    paused = await claude.messages.create(model="sim:stop=pause_turn", max_tokens=50, messages=ASK)
    assert paused.stop_reason == "pause_turn"


async def test_count_tokens(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(model="m", messages=ASK)
    assert counted.input_tokens > 5
    assert (await claude.messages.count_tokens(model="sim:input_tokens=77", messages=ASK)).input_tokens == 77


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (503, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
async def test_errors_raise_the_sdks_classes(
    claude: anthropic.AsyncAnthropic, status: int, kind: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(kind) as raised:
        await claude.messages.create(model=f"sim:error={status},retry_after=2", max_tokens=5, messages=ASK)
    assert raised.value.status_code == status
    assert raised.value.request_id
    assert raised.value.response.headers["retry-after"] == "2"


async def test_an_error_in_the_middle_of_a_stream(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(model="sim:error_after=4", max_tokens=50, messages=ASK) as stream:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await stream.until_done()
    assert raised.value.status_code == 200
    assert "overloaded_error" in str(raised.value)


async def test_the_older_style_of_key(http: httpx.AsyncClient, sim: SimProcess) -> None:
    headers = {"x-api-key": "sk-ant-old", "anthropic-version": "2023-06-01", "authorization": ""}
    body = {"model": "m", "max_tokens": 9, "messages": ASK}
    reply = await http.post("/v1/messages?beta=true", json=body, headers=headers)
    entry = await sim.entry(reply.headers["request-id"])
    assert (entry["credential"], entry["credential_header"]) == ("sk-ant-old", "x-api-key")
    assert entry["path"] == "/v1/messages?beta=true"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "m", "messages": []},
        {"model": "m", "max_tokens": 0, "messages": []},
        {"model": "m", "max_tokens": True, "messages": []},
        {"model": "m", "max_tokens": 5},
        {"max_tokens": 5, "messages": []},
    ],
)
async def test_what_the_real_one_refuses(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    reply = await http.post("/v1/messages", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_usage_none_and_twice(http: httpx.AsyncClient, sim: SimProcess) -> None:
    body = {"model": "sim:usage=none", "max_tokens": 9, "messages": ASK}
    whole = await http.post("/v1/messages", json=body)
    assert "usage" not in whole.json()
    streamed = await http.post("/v1/messages", json={**body, "stream": True})
    assert '"usage"' not in streamed.text
    assert (await sim.entry(streamed.headers["request-id"]))["usage"] is None
    twice = await http.post("/v1/messages", json={**body, "model": "sim:usage=twice", "stream": True})
    assert twice.text.count("event: message_delta") == 2
    assert (await sim.entry(twice.headers["request-id"]))["usage"]["output_tokens"] == 9


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [{"bytes": 300_000}, {"event_bytes": 300_000}])
async def test_bulk(http: httpx.AsyncClient, stream: bool, size: dict[str, int]) -> None:
    model = "sim:" + ",".join(f"{key}={value}" for key, value in size.items())
    body = {"model": model, "max_tokens": 9, "messages": ASK, "stream": stream}
    reply = await http.post("/v1/messages", json=body)
    if stream:
        lines = [json.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: ")]
        said = [line["delta"]["text"] for line in lines if line["type"] == "content_block_delta"]
        assert len(said) == (1 if "event_bytes" in size else 74)
        assert sum(map(len, said)) == 300_000
    else:
        assert len(reply.json()["content"][0]["text"]) == 300_000
        assert reply.json()["usage"]["output_tokens"] == 75_000
