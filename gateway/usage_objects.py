"""What msgspec reads of answers: the objects of both APIs that tell of usage, and nothing else of them.

Apart from `usage_figures` and `tally`, which work with them, because msgspec's classes are not for mypyc (see
docs/decisions/0003).
"""

from __future__ import annotations

import msgspec


class CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class ThinkingDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class AnthropicUsage(msgspec.Struct, gc=False):
    """The usage object of a message."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: ThinkingDetails | None = None
    server_tool_use: ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    iterations: list[Iteration] | None = None


class Iteration(AnthropicUsage, gc=False):
    """One sampling run behind an Anthropic answer."""

    type: str | None = None
    model: str | None = None


class CachedDetails(msgspec.Struct, gc=False):
    audio_tokens: int | None = None
    image_tokens: int | None = None


class WriteDetails(msgspec.Struct, gc=False):
    ttl_30m_tokens: int | None = None
    ttl_12h_tokens: int | None = None


class Details(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cached_tokens_details: CachedDetails | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: WriteDetails | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class OpenAIUsage(msgspec.Struct, gc=False):
    """The usage objects of all endpoints, laid over each other: their names do not clash."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    # Transcriptions and realtime answers spell it so.
    input_token_details: Details | None = None
    output_token_details: Details | None = None
    # Transcriptions that are billed by time.
    seconds: float | None = None


NO_OUTPUT = msgspec.Raw()


class Message(msgspec.Struct, gc=False):
    """`message` of message_start."""

    model: str | None = None
    usage: AnthropicUsage | None = None


class AnthropicAnswer(msgspec.Struct, gc=False):
    """A message, or one event of its stream."""

    type: str | None = None
    model: str | None = None
    usage: AnthropicUsage | None = None
    message: Message | None = None


class Response(msgspec.Struct, gc=False):
    """`response` of response.completed."""

    model: str | None = None
    usage: OpenAIUsage | None = None
    service_tier: str | None = None
    output: msgspec.Raw = NO_OUTPUT


class OpenAIAnswer(msgspec.Struct, gc=False):
    """An unary answer, or one streamed event."""

    type: str | None = None
    model: str | None = None
    usage: OpenAIUsage | None = None
    service_tier: str | None = None
    response: Response | None = None
    output: msgspec.Raw = NO_OUTPUT


class Action(msgspec.Struct, gc=False):
    type: str | None = None


class Item(msgspec.Struct, gc=False):
    """One item of a response's `output`."""

    type: str | None = None
    action: Action | None = None
