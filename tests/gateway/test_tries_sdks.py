"""What the official SDKs see of a provider's outage: nothing, where a route leads elsewhere; and how often is
asked in all, where none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
import trio

from tests.gateway.conftest import Stage, Tenant
from tests.gateway.routing import providers, route, to
from tests.support.scripted_provider import Handler, Line, silent
from tests.support.streams import CHAT

SAID: Any = [{"role": "user", "content": "hello"}]
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"real","content":'
    b'[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":7,"output_tokens":5}}'
)
EVENTS = (
    b'event: message_start\ndata: {"type":"message_start","message":'
    + MESSAGE.replace(b'[{"type":"text","text":"hi"}]', b"[]").replace(b'"end_turn"', b"null")
    + b"}\n\n",
    (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
    ),
    (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
    ),
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
        b'"stop_sequence":null},"usage":{"output_tokens":5}}\n\n'
    ),
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
COMPLETION = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"real","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'
)


class Call:
    """A call of an SDK with its own number of retries, and all answers it got."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.answers: list[Any] = []

    async def in_thread(self, sdk: str, *, stream: bool) -> str:
        """What it said. The SDK's patience is ten minutes; where the test has failed, nobody waits for it."""
        return await trio.to_thread.run_sync(lambda: CALLS[sdk](self, stream=stream), abandon_on_cancel=True)

    def anthropic(self, *, stream: bool) -> str:
        http = anthropic.DefaultHttpxClient(event_hooks={"response": [self.answers.append]})
        with anthropic.Anthropic(base_url=self.url, api_key=self.token, http_client=http) as client:
            asked: dict[str, Any] = {"model": "smart", "max_tokens": 10, "messages": SAID}
            if not stream:
                return str(client.messages.create(**asked).content[0].text)  # type: ignore[union-attr]
            with client.messages.stream(**asked) as events:
                return events.get_final_text()

    def openai(self, *, stream: bool) -> str:
        http = openai.DefaultHttpxClient(event_hooks={"response": [self.answers.append]})
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.token, http_client=http) as client:
            if not stream:
                made = client.chat.completions.create(model="smart", messages=SAID)
                return str(made.choices[0].message.content)
            events = client.chat.completions.create(model="smart", messages=SAID, stream=True)
            return "".join(one.choices[0].delta.content or "" for one in events if one.choices)


CALLS: dict[str, Callable[..., str]] = {"anthropic": Call.anthropic, "openai": Call.openai}
SDKS = pytest.mark.parametrize("sdk", list(CALLS))
FIRST = {"anthropic": "vllm_anthropic", "openai": "vllm"}


async def well(line: Line) -> None:
    """A provider of both APIs, streaming where that is asked."""
    while (request := await line.read_request())[0]:
        head, body = request
        chat = b"/chat/completions" in head
        if b'"stream":true' not in body:
            await line.answer(COMPLETION if chat else MESSAGE)
            continue
        await line.begin_stream()
        *events, last = CHAT if chat else EVENTS
        for event in events:
            await line.send_chunk(event)
        # With the end in one piece: a client that has read the last event may leave at once.
        await line.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))


async def refusing(line: Line) -> None:
    await line.read_request()
    await line.reset()


def limited(status: str) -> Handler:
    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(b"{}", status=status, headers="retry-after-ms: 1\r\n")

    return handler


FAULTS: dict[str, Handler | None] = {
    "dead": None,
    "refusing": refusing,
    "slow": silent,
    "429": limited("429 Too Many Requests"),
    "529": limited("529 Overloaded"),
}


@SDKS
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_an_outage_is_not_seen_behind_a_route(
    sdk: str, fault: str, stream: bool, stage: Stage, own_tenant: Tenant, nobody: str
) -> None:
    first = FIRST[sdk]
    handlers = {first: FAULTS[fault] or nobody, sdk: well}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        patience = 0.1 if fault == "slow" else None
        await route(
            gateway, own_tenant, "smart", to(first, "a", first_byte_seconds=patience), to(sdk, "real")
        )
        for number in range(3):
            call = Call(gateway.url, own_tenant.token)
            said = await call.in_thread(sdk, stream=stream)
            assert said
            (answer,) = call.answers
            assert answer.status_code == 200
            assert answer.headers["x-karta-route"] == f"{sdk}/real;attempts=2"
            assert answer.headers["x-karta-route-tried"].startswith(f"{first}/a;")
            assert found[sdk].received.count(b"POST ") == number + 1
            if first in found:
                assert found[first].received.count(b"POST ") == number + 1
        rows = await gateway.settled(6 if fault == "slow" else 3)
    answered = [row for row in rows if row["outcome"] == "completed"]
    assert len(answered) == 3
    for row in answered:
        assert (row["provider"], row["model_asked"]) == (sdk, "smart")
        assert row["usage_complete"]
    assert b'"model":"real"' in found[sdk].received.replace(b'"model": ', b'"model":')


@SDKS
async def test_a_dead_provider_costs_one_answer(
    sdk: str, stage: Stage, own_tenant: Tenant, nobody: str
) -> None:
    """Karta has tried again by itself, and says so: three tries do not become six."""
    async with providers(stage, {sdk: nobody}, of=own_tenant) as (gateway, _):
        call = Call(gateway.url, own_tenant.token)
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)) as caught:
            await call.in_thread(sdk, stream=False)
        assert caught.value.status_code == 502
        (answer,) = call.answers
        assert answer.headers["x-should-retry"] == "false"
        (pool,) = gateway.worker.pools.all()
        assert (pool.asked, pool.retried) == (2, 1)


@SDKS
@pytest.mark.parametrize(("status", "asked"), [("429 Too Many Requests", 3), ("503 Unavailable", 6)])
async def test_what_the_sdk_s_tries_and_karta_s_come_to(
    sdk: str, status: str, asked: int, stage: Stage, own_tenant: Tenant
) -> None:
    async with providers(stage, {sdk: limited(status)}, of=own_tenant) as (gateway, found):
        call = Call(gateway.url, own_tenant.token)
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)) as caught:
            await call.in_thread(sdk, stream=False)
        assert caught.value.status_code == int(status[:3])
        assert len(call.answers) == 3
        rows = await gateway.settled(3)
    assert found[sdk].received.count(b"POST ") == asked
    assert {(row["status"], row["charged_picodollars"]) for row in rows} == {(int(status[:3]), 0)}
