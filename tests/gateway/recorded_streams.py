"""Streams of both APIs as they were recorded, and what a `Tally` must make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gateway.refusal import Dialect
from gateway.tally import Tally

ANTHROPIC, OPENAI = Dialect.ANTHROPIC, Dialect.OPENAI

FIGURES = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "server_tool_calls",
)

Facts = dict[str, object]


def tally(dialect: Dialect, *pieces: bytes, streamed: bool = True) -> Tally:
    counted = Tally(dialect, streamed=streamed)
    for piece in pieces:
        counted.feed(piece)
    counted.finish()
    return counted


def facts(counted: Tally) -> Facts:
    """What is not nothing."""
    found: Facts = {name: value for name in FIGURES if (value := getattr(counted, name))}
    if counted.model is not None:
        found["model"] = counted.model
    return found | {"complete": counted.complete}


def read(dialect: Dialect, *pieces: bytes, streamed: bool = True) -> Facts:
    return facts(tally(dialect, *pieces, streamed=streamed))


def named(*events: Mapping[str, object]) -> bytes:
    """Events as Anthropic's and OpenAI's responses endpoints write them."""
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
        for event in events
    )


def unnamed(*events: Mapping[str, object]) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def message(start: dict[str, object], *deltas: dict[str, object] | None) -> bytes:
    return named(
        {"type": "message_start", "message": {"model": "m", "usage": start}},
        *({"type": "message_delta", "delta": {}, "usage": usage} for usage in deltas),
        {"type": "message_stop"},
    )


def chat(*usages: object) -> bytes:
    return unnamed(*({"model": "m", "choices": [], "usage": usage} for usage in usages))


# Anthropic. The padding inside the data lines is the provider's own.

MESSAGE = b"""event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant",\
"model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,\
"usage":{"input_tokens":25,"cache_creation_input_tokens":110,"cache_read_input_tokens":5,\
"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":100},"output_tokens":1,\
"service_tier":"standard","inference_geo":"not_available"}}   }

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}             }

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",\
"text":"\xe2\x82\xac \\"usage\\":{"} }

event: content_block_stop
data: {"type":"content_block_stop","index":0   }

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},\
"usage":{"output_tokens":8,"output_tokens_details":{"thinking_tokens":3}}}

event: message_stop
data: {"type":"message_stop"       }

"""
MESSAGE_FACTS: Facts = {
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": 25,
    "cache_read_tokens": 5,
    "cache_write_5m_tokens": 10,
    "cache_write_1h_tokens": 100,
    "output_tokens": 8,
    "reasoning_tokens": 3,
    "complete": True,
}

CHAT = b"""data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06",\
"choices":[{"index":0,"delta":{"content":"I'm \xf0\x9f\x98\x80 \\"usage\\": {"},"finish_reason":null}],\
"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06",\
"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06",\
"choices":[],"usage":{"prompt_tokens":1400,"completion_tokens":30,"total_tokens":1430,\
"prompt_tokens_details":{"cached_tokens":1024,"cache_write_tokens":76,"audio_tokens":5},\
"completion_tokens_details":{"reasoning_tokens":12,"audio_tokens":7,"accepted_prediction_tokens":0}}}

data: [DONE]

"""
CHAT_FACTS: Facts = {
    "model": "gpt-4o-2024-08-06",
    "input_tokens": 300,
    "cache_read_tokens": 1024,
    "cache_write_5m_tokens": 76,
    "output_tokens": 30,
    "reasoning_tokens": 12,
    "input_audio_tokens": 5,
    "output_audio_tokens": 7,
    "complete": True,
}

RESPONSE_USAGE: dict[str, object] = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 0},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 101,
}
RESPONSE = named(
    {"type": "response.created", "sequence_number": 0, "response": {"model": "gpt-5", "usage": None}},
    {"type": "response.in_progress", "sequence_number": 1, "response": {"model": "gpt-5", "usage": None}},
    {"type": "response.output_text.delta", "sequence_number": 2, "delta": "hi"},
    {
        "type": "response.completed",
        "sequence_number": 3,
        "response": {"model": "gpt-5", "tools": [], "usage": RESPONSE_USAGE, "metadata": {"usage": "mine"}},
    },
)
RESPONSE_FACTS: Facts = {
    "model": "gpt-5",
    "input_tokens": 50,
    "cache_read_tokens": 40,
    "output_tokens": 11,
    "reasoning_tokens": 4,
    "complete": True,
}
