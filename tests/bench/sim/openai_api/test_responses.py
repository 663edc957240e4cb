"""Responses through the official SDK: created, streamed, resumed, in the background, cancelled, deleted."""

from typing import Any

import httpx
import openai
import pytest

from tests.bench.sim.process import SimProcess

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


async def test_a_whole_response(gpt: openai.AsyncOpenAI, sim: SimProcess) -> None:
    made = await gpt.responses.create(model="gpt-5", input="hello")
    assert made.status == "completed"
    assert made.output_text
    assert made.usage is not None
    assert made.usage.output_tokens == 12
    assert made._request_id is not None
    assert (await sim.entry(made._request_id))["usage"]["output_tokens"] == 12
    assert (await gpt.responses.retrieve(made.id)).output_text == made.output_text
    items = [item async for item in await gpt.responses.input_items.list(made.id)]
    assert len(items) == 1
    await gpt.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await gpt.responses.retrieve(made.id)
    assert (await gpt.responses.create(model="gpt-5", input="hello")).id == made.id
    assert (await gpt.responses.retrieve(made.id)).id == made.id


async def test_a_stream_is_numbered_and_ends_once(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.responses.create(model="sim:tokens=3,thinking=2", input="hello", stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds.count("response.reasoning_summary_text.delta") == 2
    assert kinds.count("response.output_text.delta") == 3
    assert [
        kind for kind in kinds if kind in ("response.completed", "response.failed", "response.incomplete")
    ] == [kinds[-1]]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 5
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == last.response.output_text


@pytest.mark.parametrize(
    ("model", "limit", "kind"),
    [
        ("sim:tokens=30", 5, "response.incomplete"),
        ("sim:stop=failed", None, "response.failed"),
        ("m", None, "response.completed"),
    ],
)
async def test_terminal_events(gpt: openai.AsyncOpenAI, model: str, limit: int | None, kind: str) -> None:
    stream = await gpt.responses.create(
        model=model, input="hello", stream=True, max_output_tokens=limit or openai.omit
    )
    assert [event.type async for event in stream][-1] == kind


async def test_tools_and_refusals(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.responses.create(
        model="sim:tool_calls=2", input="hello", tools=[TOOL], tool_choice="required", stream=True
    )
    done = [event async for event in stream if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == ['{"city":"value"}'] * 2
    refused = await gpt.responses.create(model="sim:refusal", input="hello", stream=True)
    assert "response.refusal.done" in [event.type async for event in refused]


async def test_a_background_response_is_billed_later(gpt: openai.AsyncOpenAI) -> None:
    headers = {"x-sim-behaviour": "polls=1"}
    made = await gpt.responses.create(model="m", input="later", background=True, extra_headers=headers)
    assert (made.status, made.usage) == ("queued", None)
    assert (await gpt.responses.retrieve(made.id)).status == "in_progress"
    ended = await gpt.responses.retrieve(made.id)
    assert ended.status == "completed"
    assert ended.usage is not None
    assert (await gpt.responses.cancel(made.id)).status == "completed"


async def test_a_background_response_is_cancelled_or_resumed(gpt: openai.AsyncOpenAI) -> None:
    made = await gpt.responses.create(model="m", input="stop me", background=True)
    assert (await gpt.responses.cancel(made.id)).status == "cancelled"
    other = await gpt.responses.create(model="m", input="resume me", background=True)
    stream = await gpt.responses.retrieve(other.id, stream=True, starting_after=4)
    events = [event async for event in stream]
    assert events[0].sequence_number == 5
    assert events[-1].type == "response.completed"


async def test_an_error_event_is_flat(http: httpx.AsyncClient) -> None:
    reply = await http.post(
        "/v1/responses", json={"model": "sim:error_after=2", "input": "x", "stream": True}
    )
    last = reply.text.split("\n\n")[-2]
    assert last.startswith("event: error\n")
    assert '"sequence_number":2' in last


async def test_counting_compacting_and_odd_ids(gpt: openai.AsyncOpenAI) -> None:
    assert (await gpt.responses.input_tokens.count(model="m", input="hello")).input_tokens > 1
    assert (await gpt.responses.compact(model="m", input="hello")).object == "response.compaction"
    assert (await gpt.responses.retrieve("resp_unknown")).status == "completed"
    with pytest.raises(openai.BadRequestError):
        await gpt.responses.create(input="x")
