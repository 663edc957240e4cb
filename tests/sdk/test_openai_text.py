"""OpenAI's text endpoints by SDK: chat completions, responses, completions, embeddings, moderations, models;
whole and streamed, synchronous and not."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest

from tests.sdk.clients import gpt, with_async_gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import iterated, plain, plain_async

SAID: Any = [{"role": "user", "content": "Say something: ünïcödé, 日本, 🦊."}]
FUNCTION: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOL: Any = {"type": "function", "function": FUNCTION}
FLAT_TOOL: Any = {"type": "function", **FUNCTION}


class City(pydantic.BaseModel):
    """A structured output."""

    city: str
    days: int


def chat(model: str = "sim:tokens=7", **more: Any) -> Any:
    return lambda client: client.chat.completions.create(**({"model": model, "messages": SAID} | more))


def respond(model: str = "sim:tokens=7", **more: Any) -> Any:
    return lambda client: client.responses.create(**({"model": model, "input": "Say something."} | more))


def complete(**more: Any) -> Any:
    return lambda client: client.completions.create(**({"model": "sim:tokens=5", "prompt": "Once"} | more))


STREAM: Any = {"stream": True}
USAGE: Any = {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}

CALLS: dict[str, Any] = {
    "chat": chat(),
    "chat, any model": chat("gpt-5/any model:é"),
    "chat, unknown fields": chat(
        extra_body={"deep": [1, 1.0, 1e30, None, "ü"]}, extra_query={"a[]": ["b", "c"]}
    ),
    "chat, headers": chat(
        extra_headers={"OpenAI-Organization": "org-1", "Idempotency-Key": "k", "X-Mine": "1"}
    ),
    "chat, tools": chat(tools=[TOOL], tool_choice="required"),
    "chat, n": chat(n=3),
    "chat, legacy functions": chat(functions=[FUNCTION], function_call={"name": "weather"}),
    "chat, refusal": chat("sim:refusal"),
    "chat, cached": chat("sim:cache_read=9,thinking=5,service_tier=flex"),
    "chat, large": chat("sim:bytes=400000"),
    "chat, in chunks": chat("sim:framing=chunked"),
    "chat, until close": chat("sim:framing=close"),
    "chat, split": chat("sim:split=9"),
    "chat, cloudflare": chat("sim:cloudflare,interim=103"),
    "chat, many headers": chat("sim:header_count=90,header_bytes=12000"),
    "chat stream": chat(**STREAM),
    "chat stream with usage": chat(**USAGE),
    "chat stream with tools": chat(**USAGE, tools=[TOOL], tool_choice="required"),
    "chat stream, n": chat(**STREAM, n=2),
    "chat stream, split": chat("sim:tokens=20,split=6", **USAGE),
    "chat stream, crlf and comments": chat("sim:tokens=9,newline=crlf,comments,pings=2", **USAGE),
    "chat stream, cr": chat("sim:tokens=9,newline=cr", **USAGE),
    "chat stream, large event": chat("sim:event_bytes=2000000", **USAGE),
    "chat stream, until close": chat("sim:tokens=9,framing=close", **USAGE),
    "chat stream, error in it": chat("sim:tokens=9,error_after=4,error=500", **USAGE),
    "responses": respond(),
    "responses, tools": respond(tools=[FLAT_TOOL], tool_choice="required"),
    "responses, background": respond(background=True),
    "responses, incomplete": respond("sim:tokens=9,stop=incomplete"),
    "responses stream": respond(**STREAM),
    "responses stream, tools": respond(**STREAM, tools=[FLAT_TOOL], tool_choice="required"),
    "responses stream, thinking": respond("sim:tokens=5,thinking=4", **STREAM),
    "responses stream, failed": respond("sim:tokens=5,stop=failed", **STREAM),
    "responses stream, error in it": respond("sim:tokens=5,error_after=5,error=429", **STREAM),
    "completions": complete(),
    "completions stream": complete(**USAGE),
    "embeddings": lambda client: client.embeddings.create(model="text-embedding-3-small", input=["a", "ü"]),
    "embeddings, floats": lambda client: client.embeddings.create(
        model="m", input="a", encoding_format="float", dimensions=5
    ),
    "moderations": lambda client: client.moderations.create(input=["fine", "not fine"]),
    "models": lambda client: client.models.list(),
    "a model with a slash": lambda client: client.models.retrieve("ft:gpt-5/acme:x"),
    "deleting a model": lambda client: client.models.delete("ft:gpt-5:acme"),
}

calls = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


@calls
def test_a_call(sides: Sides, call: Any) -> None:
    assert sides.same(lambda side: call(gpt(side))).answers[0].status == 200


@calls
def test_a_call_of_the_asynchronous_client(sides: Sides, call: Any) -> None:
    async def use(client: openai.AsyncOpenAI) -> Any:
        return await plain_async(await call(client))

    sides.same(lambda side: with_async_gpt(side, use))


@calls
def test_its_raw_response(sides: Sides, call: Any) -> None:
    def use(side: Side) -> Any:
        response = call(RawProxy(gpt(side)))
        return [response.status_code, response.http_version, plain(response.parse())]

    sides.same(use)


class RawProxy:
    """Makes `client.a.b.create(…)` call `client.a.b.with_raw_response.create(…)`."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        return getattr(self._resource.with_raw_response, name) if callable(found) else RawProxy(found)


@pytest.mark.parametrize("asked", [chat(**USAGE), respond(**STREAM), chat(), complete(**STREAM)])
def test_a_streaming_response(sides: Sides, asked: Any) -> None:
    class Streaming(RawProxy):
        def __getattr__(self, name: str) -> Any:
            found = getattr(self._resource, name)
            if callable(found):
                return getattr(self._resource.with_streaming_response, name)
            return Streaming(found)

    def use(side: Side) -> Any:
        with asked(Streaming(gpt(side))) as response:
            return [response.status_code, response.headers["content-type"], list(response.iter_lines())]

    assert sum(map(len, sides.same(use).result[2])) > 100


def test_the_stream_helpers(sides: Sides) -> None:
    def of_chat(side: Side) -> Any:
        with gpt(side).chat.completions.stream(
            model="sim:tokens=6", messages=SAID, response_format=City
        ) as stream:
            return [iterated(iter(stream)), plain(stream.get_final_completion())]

    def of_responses(side: Side) -> Any:
        with gpt(side).responses.stream(model="sim:tokens=6", input="x", text_format=City) as stream:
            return [iterated(iter(stream)), plain(stream.get_final_response())]

    assert len(sides.same(of_chat).result[0]) > 5
    assert len(sides.same(of_responses).result[0]) > 5


def test_parsing_structured_outputs(sides: Sides) -> None:
    def use(side: Side) -> Any:
        client = gpt(side)
        completion = client.chat.completions.parse(model="sim:tokens=6", messages=SAID, response_format=City)
        response = client.responses.parse(model="sim:tokens=6", input="x", text_format=City)
        return [plain(completion), plain(response), plain(response.output_parsed)]

    assert sides.same(use, requests=2).result[2][0] == "City"


def test_the_life_of_a_response(sides: Sides) -> None:
    """Created in the background, retrieved, resumed as a stream, listed, cancelled, deleted."""

    def use(side: Side) -> Any:
        responses = gpt(side).responses
        made = responses.create(model="sim:tokens=5,polls=2", input="x", background=True)
        seen = [plain(made), plain(responses.retrieve(made.id))]
        seen.append(plain(responses.retrieve(made.id, stream=True, starting_after=3)))
        seen.append(
            plain(responses.input_items.list(made.id, order="asc", include=["message.input_image.image_url"]))
        )
        seen.append(plain(responses.cancel(made.id)))
        responses.delete(made.id)
        try:
            responses.retrieve(made.id)
        except openai.NotFoundError as error:
            seen.append(plain(error))
        return seen

    assert sides.same(use, requests=7).result[-1]["class"] == "NotFoundError"


def test_the_life_of_a_stored_completion(sides: Sides) -> None:
    def use(side: Side) -> Any:
        completions = gpt(side).chat.completions
        made = completions.create(model="sim:tokens=5", messages=SAID, store=True, metadata={"a": "b"})
        return [
            plain(made),
            plain(completions.retrieve(made.id)),
            plain(completions.update(made.id, metadata={"c": "d"})),
            plain(completions.messages.list(made.id)),
            plain(completions.list(limit=1, metadata={"c": "d"})),
            plain(completions.delete(made.id)),
        ]

    sides.same(use, requests=None)
