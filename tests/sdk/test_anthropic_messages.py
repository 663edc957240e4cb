"""Messages: whole, streamed, tools, thinking, counting, by both generations, synchronous and not."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.sdk.clients import CURRENT, EARLIER, Generation, claude, with_async_claude
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import iterated, iterated_async, plain

SAID: Any = [{"role": "user", "content": "Say something: ünïcödé, 日本, 🦊."}]
TOOL: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

generations = pytest.mark.parametrize("generation", [CURRENT, EARLIER])


def ask(model: str = "sim:tokens=9", **more: Any) -> Any:
    return {"model": model, "max_tokens": 256, "messages": SAID, **more}


@generations
def test_a_whole_message(sides: Sides, generation: Generation) -> None:
    seen = sides.same(lambda side: claude(side, generation).messages.create(**ask()))
    assert seen.result[0] == "Message"
    (entry,) = seen.entries
    assert entry["credential_header"] == ("authorization" if generation is CURRENT else "x-api-key")
    assert entry["credential"] == "sk-direct-0123456789abcdef"


@generations
@pytest.mark.parametrize("model", ["claude-haiku-4-5", "any model: at/all%20", "sim:cloudflare", "sim:close"])
def test_any_model_name(sides: Sides, generation: Generation, model: str) -> None:
    assert (
        sides.same(lambda side: claude(side, generation).messages.create(**ask(model))).answers[0].status
        == 200
    )


@pytest.mark.parametrize(
    "more",
    [
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"stop_sequences": ["\n\n"], "metadata": {"user_id": "u-1"}},
        {
            "extra_body": {"unknown": {"deep": [1, 1.0, 1e30, None, "ü"]}},
            "extra_query": {"a[]": ["b", "c/d"]},
        },
        {
            "extra_headers": {
                "anthropic-beta": "one-2025-01-01,two-2025-02-02",
                "X-Mine": "kept",
                "Idempotency-Key": "k-1",
            }
        },
        {"model": "sim:cache_read=9,cache_write_5m=3,cache_write_1h=2,service_tier=priority"},
        {"model": "sim:web_searches=2"},
        {"model": "sim:refusal"},
        {"model": "sim:stop=pause_turn"},
        {"model": "sim:bytes=300000"},
        {"model": "sim:interim=103"},
        {"model": "sim:framing=chunked"},
        {"model": "sim:framing=close"},
        {"model": "sim:split=7"},
    ],
    ids=lambda more: next(iter(more.values())) if "model" in more else "+".join(more),
)
def test_features_travel_untouched(sides: Sides, more: dict[str, Any]) -> None:
    asked = ask() | more
    seen = sides.same(lambda side: claude(side).messages.create(**asked))
    assert seen.answers[0].status == 200


def read_stream(side: Side, generation: Generation, asked: dict[str, Any]) -> Any:
    return claude(side, generation).messages.create(stream=True, **asked)


STREAMS: list[dict[str, Any]] = [
    {},
    {"tools": [TOOL], "tool_choice": {"type": "any"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"model": "sim:tokens=30,pings=3,comments,future_event"},
    {"model": "sim:tokens=6,newline=crlf"},
    {"model": "sim:tokens=6,newline=cr"},
    {"model": "sim:tokens=6,no_blank_end"},
    {"model": "sim:tokens=6,pad=0"},
    {"model": "sim:tokens=6,raise_input=7000,web_searches=1"},
    {"model": "sim:tokens=6,usage=twice,cache_read=4"},
    {"model": "sim:tokens=6,usage=none"},
    {"model": "sim:tokens=6,refusal"},
    {"model": "sim:tokens=20,split=5"},
    {"model": "sim:tokens=20,flush"},
    {"model": "sim:tokens=6,framing=close"},
    {"model": "sim:tokens=6,framing=length"},
    {"model": "sim:event_bytes=3000000"},
    {"model": "sim:tokens=6,error_after=4,error=529"},
    {"model": "sim:tokens=6,error_after=0,error=500"},
]
streams = pytest.mark.parametrize(
    "more", STREAMS, ids=lambda more: more.get("model") or "+".join(more) or "plain"
)


@streams
@generations
def test_a_stream_of_events(sides: Sides, generation: Generation, more: dict[str, Any]) -> None:
    seen = sides.same(lambda side: read_stream(side, generation, ask() | more))
    assert seen.result[1:]
    assert seen.entries[0]["streamed"]


@streams
def test_a_stream_by_the_asynchronous_client(sides: Sides, more: dict[str, Any]) -> None:
    async def use(client: anthropic.AsyncAnthropic) -> Any:
        return await iterated_async(await client.messages.create(stream=True, **(ask() | more)))

    assert sides.same(lambda side: with_async_claude(side, use)).result


@generations
@pytest.mark.parametrize(
    "more", [{}, {"tools": [TOOL], "tool_choice": {"type": "any"}}, {"model": "sim:error=400"}]
)
def test_the_stream_helper_and_its_final_message(
    sides: Sides, generation: Generation, more: dict[str, Any]
) -> None:
    def use(side: Side) -> Any:
        with claude(side, generation).messages.stream(**(ask() | more)) as stream:
            return [iterated(iter(stream)), plain(stream.get_final_message())]

    sides.same(use)


def test_a_client_that_stops_reading_in_the_middle_may_go_on(sides: Sides) -> None:
    def use(side: Side) -> Any:
        with claude(side).messages.create(stream=True, **ask("sim:tokens=40")) as stream:
            first = plain(next(stream))
        return [first, plain(claude(side).messages.create(**ask()))]

    # How much was sent before the provider noticed is a matter of timing, so only the result is compared.
    direct, karta = (sides.observe(side, use) for side in (sides.direct, sides.karta))
    assert direct.result == karta.result


@generations
def test_counting_tokens(sides: Sides, generation: Generation) -> None:
    seen = sides.same(
        lambda side: claude(side, generation).messages.count_tokens(model="claude-haiku-4-5", messages=SAID)
    )
    assert seen.result[2]["input_tokens"] > 0


@generations
def test_beta_resources(sides: Sides, generation: Generation) -> None:
    def create(side: Side, **more: Any) -> Any:
        return claude(side, generation).beta.messages.create(betas=["files-api-2025-04-14"], **ask(), **more)

    assert sides.same(create).result[0] == "BetaMessage"
    assert len(sides.same(lambda side: create(side, stream=True)).result) > 5


@generations
def test_the_asynchronous_client(sides: Sides, generation: Generation) -> None:
    async def use(client: anthropic.AsyncAnthropic) -> Any:
        counted = await client.messages.count_tokens(model="m", messages=SAID)
        return [plain(await client.messages.create(**ask())), plain(counted)]

    sides.same(lambda side: with_async_claude(side, use, generation), requests=2)


@generations
def test_raw_and_streaming_responses(sides: Sides, generation: Generation) -> None:
    def raw(side: Side) -> Any:
        response = claude(side, generation).messages.with_raw_response.create(**ask())
        return [response.status_code, response.http_version, plain(response.parse())]

    def streaming(side: Side) -> Any:
        with claude(side, generation).messages.with_streaming_response.create(
            stream=True, **ask()
        ) as response:
            return [response.status_code, list(response.iter_lines())]

    def streaming_bytes(side: Side) -> Any:
        with claude(side, generation).messages.with_streaming_response.create(**ask()) as response:
            return [response.headers["content-type"], b"".join(response.iter_bytes())]

    assert sides.same(raw).entries[0]["status"] == 200
    assert len(sides.same(streaming).result[1]) > 10
    # The id inside the answer is the same on both sides, because it follows from the request.
    assert len(sides.same(streaming_bytes).result[1]) > 100
