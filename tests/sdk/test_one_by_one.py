"""Each event reaches the SDK before the next one is written: proved by a provider that writes the next only
when the client says it has the last, so that nothing here depends on time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import trio

from tests.sdk.servers import Tenant
from tests.support.gateway import running_gateway
from tests.support.scripted_provider import Line, scripted_provider

# The SDK leaves its own inner generators at `[DONE]`; trio would have them closed in order.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx2|httpcore2):ResourceWarning")

EVENTS = 20
PATIENCE_SECONDS = 20.0


def chat_events() -> list[bytes]:
    chunks = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}]}
        for number in range(EVENTS)
    ]  # fmt: skip
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]


def message_events() -> list[bytes]:
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"{number} "}}
        for number in range(EVENTS)
    ]
    return [b"event: content_block_delta\ndata: " + json.dumps(delta).encode() + b" \n\n" for delta in deltas]


class Lockstep:
    """A provider that writes one event each time the client has taken one."""

    def __init__(self, events: list[bytes], last: bytes) -> None:
        self._events = events
        self._last = last
        self._send, self._receive = trio.open_memory_channel[None](0)

    async def taken(self) -> None:
        """The client has the event that was written last."""
        await self._send.send(None)

    async def serve(self, line: Line) -> None:
        if not await line.read_head():
            return
        await line.begin_stream()
        for event in self._events:
            await line.send_chunk(event)
            await self._receive.receive()
        await line.send_chunk(self._last)
        await line.send(b"0\r\n\r\n")
        await line.wait_closed()


async def test_events_of_chat_completions(tenant_database: tuple[str, Tenant], tmp_path: Path) -> None:
    provider = Lockstep(chat_events(), b"data: [DONE]\n\n")

    async def use(url: str, token: str) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0) as client:
            seen = []
            stream = await client.chat.completions.create(model="m", messages=[], stream=True)
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content)
                await provider.taken()
            return seen

    assert await through(tenant_database, tmp_path, provider, use) == [f"{n} " for n in range(EVENTS)]


async def test_events_of_messages(tenant_database: tuple[str, Tenant], tmp_path: Path) -> None:
    provider = Lockstep(message_events(), b'event: message_stop\ndata: {"type":"message_stop"}\n\n')

    async def use(url: str, token: str) -> list[Any]:
        async with anthropic.AsyncAnthropic(base_url=url, api_key=token, max_retries=0) as client:
            seen = []
            stream = await client.messages.create(model="m", max_tokens=9, messages=[], stream=True)
            async for event in stream:
                if event.type == "content_block_delta":
                    seen.append(getattr(event.delta, "text", None))
                    await provider.taken()
            return seen

    assert await through(tenant_database, tmp_path, provider, use) == [f"{n} " for n in range(EVENTS)]


async def through(
    tenant_database: tuple[str, Tenant], spool_dir: Path, provider: Lockstep, use: Any
) -> list[Any]:
    """What `use` gives with the gateway and `provider` in this very run."""
    database_url, tenant = tenant_database
    with trio.fail_after(PATIENCE_SECONDS):
        async with (
            scripted_provider(provider.serve) as upstream,
            running_gateway(
                database_url, spool_dir, provider_url=upstream.base_url, master_keys=tenant.master_keys
            ) as gateway,
        ):
            seen: list[Any] = await use(gateway.url, tenant.token)
            return seen
