"""`POST /v1/chat/completions`, whole and streamed."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from bench.sim import fields, sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.json_example import example
from bench.sim.openai_api.token_usage import completion_usage
from bench.sim.request import Request
from bench.sim.state import State

PREPARED_TOKENS_MAX = 2_000
EVENT_BULK_BYTES = 4_096
ARGUMENT_PIECE_CHARACTERS = 12
CHOICES_MAX = 128
REFUSAL = "I'm sorry, I can't assist with that."

_encode = msgspec.json.Encoder().encode


class Plan(NamedTuple):
    """A completion to be: its constant fields, its choices' seeds, what each says, and the usage."""

    base: dict[str, Any]
    choices: list[dict[str, Any]]
    """Each choice's message, as a call without streaming gets it."""
    pieces: list[list[tuple[dict[str, Any], int]]]
    """Each choice's deltas, with the tokens of each."""
    finish_reason: str
    usage: dict[str, Any]


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/chat/completions`."""
    del state
    document = request.document
    plan = _plan(request, document, behaviour)
    bulk = behaviour.event_bytes or behaviour.bytes
    if document.get("stream") is True:
        answer = Answer(content_type=EVENT_STREAM)
        if bulk or behaviour.tokens > PREPARED_TOKENS_MAX:
            answer.events = lambda: _events(plan, document, behaviour)
        else:
            answer.events = list(_events(plan, document, behaviour))
            answer.repeatable = True
    elif bulk:
        answer = bulk_answer(_whole(plan, behaviour), bulk)
    else:
        answer = json_answer(_whole(plan, behaviour), indent=True)
        answer.repeatable = True
    answer.model = plan.base["model"]
    answer.tokens = plan.usage["completion_tokens"]
    if behaviour.usage != "none":
        answer.usage = plan.usage
    return answer


def bulk_answer(document: dict[str, Any], size: int) -> Answer:
    """A document in which `%%` stands for text of `size` bytes, made while it is read."""
    before, _, after = msgspec.json.format(_encode(document), indent=2).partition(b"%%")

    def pieces() -> Iterator[bytes]:
        yield before
        yield from text.bulk(size, 65_536)
        yield after

    return Answer(pieces=pieces, length=len(before) + size + len(after))


def _plan(request: Request, document: dict[str, Any], behaviour: Behaviour) -> Plan:
    model = fields.string(document, "model")
    if not model:
        raise Invalid("you must provide a model parameter")
    if not isinstance(document.get("messages"), list):
        raise Invalid("Missing required parameter: 'messages'.")
    count = max(1, min(fields.number(document, "n") or 1, CHOICES_MAX))
    limit = fields.number(document, "max_completion_tokens") or fields.number(document, "max_tokens") or 0
    tokens = min(behaviour.tokens, limit) if limit > 0 else behaviour.tokens
    base = {
        "id": text.identifier("chatcmpl-", 29, behaviour.seed, request.question()),
        "object": "chat.completion",
        "created": text.CREATED,
        "model": model,
    }
    choices, pieces = [], []
    finish = behaviour.stop or ("length" if tokens < behaviour.tokens else "stop")
    for index in range(count):
        message, deltas, called = _choice(document, behaviour, index, tokens)
        choices.append(message)
        pieces.append(deltas)
        finish = "tool_calls" if called and not behaviour.stop else finish
    bulk = behaviour.event_bytes or behaviour.bytes
    said = text.estimate_tokens(bulk) if bulk else sum(n for deltas in pieces for _, n in deltas)
    usage = completion_usage(request, behaviour, said + behaviour.thinking)
    return Plan(base, choices, pieces, finish, usage)


def _choice(
    document: dict[str, Any], behaviour: Behaviour, index: int, tokens: int
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], int]], bool]:
    """One choice: its message, its deltas, and whether it calls tools."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    first: list[tuple[dict[str, Any], int]] = [({"role": "assistant", "content": "", "refusal": None}, 0)]
    if behaviour.refusal:
        message["refusal"] = REFUSAL
        return message, [*first, *(({"refusal": p}, 1) for p in REFUSAL.split(" "))], False
    if calls := _tool_calls(document, behaviour, index):
        message["tool_calls"] = calls
        first[0][0]["content"] = None
        return message, [*first, *_call_deltas(calls)], True
    if (schema := _output_schema(document)) is not None:
        pieces = [_encode(example(schema)).decode()]
    else:
        pieces = text.grouped(text.tokens(behaviour.seed + index, tokens), behaviour.chunk_tokens)
    message["content"] = "".join(pieces)
    return message, [*first, *(({"content": p}, behaviour.chunk_tokens) for p in pieces)], False


def _tool_calls(document: dict[str, Any], behaviour: Behaviour, index: int) -> list[dict[str, Any]]:
    tools = [t["function"] for t in fields.objects(document, "tools") if fields.nested(t, "function")]
    chosen = fields.nested(fields.nested(document, "tool_choice"), "function")
    demanded = document.get("tool_choice") == "required" or bool(chosen)
    if not tools or not (demanded or behaviour.tool):
        return []
    tool = next((t for t in tools if t.get("name") == chosen.get("name")), tools[0])
    arguments = _encode(example(tool.get("parameters"))).decode()
    return [
        {
            "id": text.identifier("call_", 24, behaviour.seed, index, number),
            "type": "function",
            "function": {"name": tool.get("name", "tool"), "arguments": arguments},
        }
        for number in range(behaviour.tool_calls)
    ]


def _call_deltas(calls: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    for number, call in enumerate(calls):
        opened = {**call, "function": {**call["function"], "arguments": ""}}
        yield {"tool_calls": [{"index": number, **opened}]}, 1
        arguments, size = call["function"]["arguments"], ARGUMENT_PIECE_CHARACTERS
        for start in range(0, len(arguments), size):
            part = {"index": number, "function": {"arguments": arguments[start : start + size]}}
            yield {"tool_calls": [part]}, 1


def _output_schema(document: dict[str, Any]) -> object:
    wanted = fields.nested(document, "response_format")
    described = fields.nested(wanted, "json_schema")
    return described.get("schema") if wanted.get("type") == "json_schema" else None


def _whole(plan: Plan, behaviour: Behaviour) -> dict[str, Any]:
    bulk = bool(behaviour.event_bytes or behaviour.bytes)
    document: dict[str, Any] = {
        **plan.base,
        "choices": [
            {
                "index": index,
                "message": {**message, "content": "%%"} if bulk and index == 0 else message,
                "logprobs": None,
                "finish_reason": plan.finish_reason,
            }
            for index, message in enumerate(plan.choices)
        ],
    }
    if behaviour.usage != "none":
        document["usage"] = plan.usage
    return {
        **document,
        "service_tier": behaviour.service_tier or "default",
        "system_fingerprint": "fp_simulated0",
    }


def _events(plan: Plan, document: dict[str, Any], behaviour: Behaviour) -> Iterator[sse.Event]:
    """All chunks, the choices interleaved, then the usage chunk if asked for, then [DONE]."""
    options = fields.nested(document, "stream_options")
    reports = options.get("include_usage") is True
    obfuscates = options.get("include_obfuscation") is not False
    base = {
        **plan.base,
        "object": "chat.completion.chunk",
        "service_tier": behaviour.service_tier or "default",
        "system_fingerprint": "fp_simulated0",
    }

    def chunk(index: int, delta: dict[str, Any], tokens: int, finish: str | None = None) -> sse.Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        payload: dict[str, Any] = {**base, "choices": [choice]}
        if reports:
            payload["usage"] = None
        if obfuscates:
            # Pads a chunk to hide the length of its token, as the real one does.
            payload["obfuscation"] = text.BASE58[: 16 - len(str(delta)) % 16]
        return sse.Event(sse.bare(payload), tokens)

    if behaviour.event_bytes or behaviour.bytes:
        yield chunk(0, {"role": "assistant", "content": "", "refusal": None}, 0)
        yield from _bulk_chunks(chunk(0, {"content": "%%"}, 0).data, behaviour)
        yield chunk(0, {}, 0, plan.finish_reason)
    else:
        longest = max(len(deltas) for deltas in plan.pieces)
        for step in range(longest):
            for index, deltas in enumerate(plan.pieces):
                if step < len(deltas):
                    yield chunk(index, *deltas[step])
        for index in range(len(plan.pieces)):
            yield chunk(index, {}, 0, plan.finish_reason)
    if reports and behaviour.usage != "none":
        yield sse.Event(sse.bare({**base, "choices": [], "usage": plan.usage}), 0, plan.usage)
    yield sse.Event(sse.DONE)


def _bulk_chunks(pattern: bytes, behaviour: Behaviour) -> Iterator[sse.Event]:
    before, _, after = pattern.partition(b"%%")
    size = behaviour.event_bytes or behaviour.bytes
    for data in text.bulk(size, size if behaviour.event_bytes else EVENT_BULK_BYTES):
        yield sse.Event(before + data + after, text.estimate_tokens(len(data)))
