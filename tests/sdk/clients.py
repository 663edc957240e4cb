"""The SDKs' clients for a side: without retries of their own, on HTTP clients that record every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai

from tests.sdk.compare import Side

TIMEOUT_SECONDS = 20.0


class EarlierAnthropic(anthropic.Anthropic):
    """The wire of the SDK before 2.0: the key in `x-api-key`, API version 2023-06-01."""

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"X-Api-Key": self.api_key or ""}

    @property
    def default_headers(self) -> dict[str, Any]:
        return {**super().default_headers, "anthropic-version": "2023-06-01"}


class EarlierAsyncAnthropic(anthropic.AsyncAnthropic):
    """The same, asynchronous."""

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"X-Api-Key": self.api_key or ""}

    @property
    def default_headers(self) -> dict[str, Any]:
        return {**super().default_headers, "anthropic-version": "2023-06-01"}


Generation = type[anthropic.Anthropic]
CURRENT: Generation = anthropic.Anthropic
EARLIER: Generation = EarlierAnthropic
_ASYNCHRONOUS: dict[Generation, type[anthropic.AsyncAnthropic]] = {
    CURRENT: anthropic.AsyncAnthropic,
    EARLIER: EarlierAsyncAnthropic,
}


def claude(side: Side, generation: Generation = CURRENT) -> anthropic.Anthropic:
    """The Anthropic SDK on `side`; the same client every time."""
    found: anthropic.Anthropic | None = side.clients.get(generation)
    if found is None:
        found = side.clients[generation] = generation(
            base_url=side.url,
            api_key=side.key,
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [side.record]}),
        )
        side.closers.append(found.close)
    return found


def gpt(side: Side) -> openai.OpenAI:
    """The OpenAI SDK on `side`; the same client every time."""
    found: openai.OpenAI | None = side.clients.get(openai.OpenAI)
    if found is None:
        found = side.clients[openai.OpenAI] = openai.OpenAI(
            base_url=f"{side.url}/v1",
            api_key=side.key,
            admin_api_key=side.key,
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [side.record]}),
        )
        side.closers.append(found.close)
    return found


def with_async_claude(
    side: Side, use: Callable[[anthropic.AsyncAnthropic], Awaitable[Any]], generation: Generation = CURRENT
) -> Any:
    """What `use` gives with the asynchronous Anthropic SDK, in a loop of its own."""

    async def run() -> Any:
        http = anthropic.DefaultAsyncHttpxClient(event_hooks={"response": [side.record_async]})
        async with _ASYNCHRONOUS[generation](
            base_url=side.url, api_key=side.key, max_retries=0, timeout=TIMEOUT_SECONDS, http_client=http
        ) as client:
            return await use(client)

    return asyncio.run(run())


def with_async_gpt(side: Side, use: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """What `use` gives with the asynchronous OpenAI SDK, in a loop of its own."""

    async def run() -> Any:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [side.record_async]})
        async with openai.AsyncOpenAI(
            base_url=f"{side.url}/v1",
            api_key=side.key,
            admin_api_key=side.key,
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            http_client=http,
        ) as client:
            return await use(client)

    return asyncio.run(run())
