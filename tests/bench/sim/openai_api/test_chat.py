"""Chat completions through the official SDK: whole, streamed, choices, tools, usage, errors."""

import json
from typing import Any

import httpx
import openai
import pydantic
import pytest

from tests.bench.sim.process import SimProcess

ASK: Any = [{"role": "user", "content": "Say something."}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"enum": ["now"]}},
        },
    },
}

# The SDK leaves its own inner generator at `[DONE]`; trio would have it closed in order.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning")


class Answer(pydantic.BaseModel):
    """A structured output."""

    city: str
    days: int


async def test_a_whole_completion(gpt: openai.AsyncOpenAI, sim: SimProcess) -> None:
    completion = await gpt.chat.completions.create(model="gpt-5", messages=ASK)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 12
    assert completion._request_id is not None
    entry = await sim.entry(completion._request_id)
    assert (entry["dialect"], entry["credential_header"]) == ("openai", "authorization")
    assert entry["usage"]["total_tokens"] == completion.usage.total_tokens


async def test_a_stream_without_usage_has_none(http: httpx.AsyncClient) -> None:
    body = {"model": "sim:tokens=3", "messages": ASK, "stream": True}
    reply = await http.post("/v1/chat/completions", json=body)
    lines = reply.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line[6:]) for line in lines[:-2]]
    assert len(chunks) == 5
    assert all("usage" not in chunk and chunk["choices"] and chunk["obfuscation"] for chunk in chunks)


async def test_a_stream_with_usage_has_it_last(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.chat.completions.create(
        model="sim:tokens=3,thinking=4,cache_read=6,input_tokens=10",
        messages=ASK,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.obfuscation is None for chunk in chunks[:-1])
    usage = chunks[-1].usage
    assert chunks[-1].choices == []
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (16, 6)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (7, 4)


async def test_choices_are_interleaved_and_add_up(gpt: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "sim:tokens=4", "messages": ASK, "n": 3}
    whole = await gpt.chat.completions.create(**asked)
    said = ["", "", ""]
    order = []
    async for chunk in await gpt.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            order.append(choice.index)
            said[choice.index] += choice.delta.content or ""
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    assert said == [choice.message.content for choice in whole.choices]
    assert len(set(said)) == 3


async def test_tools_whole_and_streamed(gpt: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "sim:tool_calls=2", "messages": ASK, "tools": [TOOL], "tool_choice": "required"}
    whole = await gpt.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "tool_calls"
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    async with gpt.chat.completions.stream(**asked) as stream:
        final = await stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    assert streamed is not None
    for call, same in zip(calls, streamed, strict=True):
        assert call.type == same.type == "function"
        assert call.id == same.id
        assert json.loads(call.function.arguments) == {"city": "value", "day": "now"}
        assert call.function.arguments == same.function.arguments


async def test_structured_output(gpt: openai.AsyncOpenAI) -> None:
    completion = await gpt.chat.completions.parse(model="m", messages=ASK, response_format=Answer)
    assert completion.choices[0].message.parsed == Answer(city="value", days=7)


async def test_limits_and_refusals(gpt: openai.AsyncOpenAI) -> None:
    cut = await gpt.chat.completions.create(model="sim:tokens=50", messages=ASK, max_completion_tokens=5)
    assert cut.choices[0].finish_reason == "length"
    refused = await gpt.chat.completions.create(model="sim:refusal", messages=ASK)
    assert refused.choices[0].message.refusal


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_errors_raise_the_sdks_classes(
    gpt: openai.AsyncOpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as raised:
        await gpt.chat.completions.create(model=f"sim:error={status}", messages=ASK)
    assert raised.value.status_code == status
    assert raised.value.request_id


async def test_an_error_in_the_middle_of_a_stream(gpt: openai.AsyncOpenAI) -> None:
    stream = await gpt.chat.completions.create(model="sim:error_after=3", messages=ASK, stream=True)
    seen = []

    async def read() -> None:
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401 - what came before the error is wanted

    with pytest.raises(openai.APIError, match="server had an error"):
        await read()
    assert len(seen) == 3


async def test_a_retry_succeeds_after_so_many_times(sim: SimProcess) -> None:
    headers = {"x-sim-behaviour": "error=500,times=2,retry_after_ms=1,seed=4242"}
    async with openai.AsyncOpenAI(base_url=f"{sim.base_url}/v1", api_key="sk-test", max_retries=2) as client:
        completion = await client.chat.completions.create(model="m", messages=ASK, extra_headers=headers)
    assert completion.choices[0].message.content


@pytest.mark.parametrize("body", [{}, {"model": "m"}, {"messages": []}, {"model": 5, "messages": []}])
async def test_what_the_real_one_refuses(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    reply = await http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True])
async def test_bulk(http: httpx.AsyncClient, stream: bool) -> None:
    body = {"model": "sim:bytes=200000", "messages": ASK, "stream": stream}
    reply = await http.post("/v1/chat/completions", json=body)
    if stream:
        chunks = [json.loads(line[6:]) for line in reply.text.split("\n\n")[:-2]]
        said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    else:
        said = reply.json()["choices"][0]["message"]["content"]
    assert len(said) == 200_000
