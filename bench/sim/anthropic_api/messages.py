"""`POST /v1/messages`, whole and streamed, and `count_tokens`."""

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.sim import sse, text
from bench.sim.answer import EVENT_STREAM, Answer, json_answer
from bench.sim.anthropic_api.plan import Plan, plan_message
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.request import Request
from bench.sim.shape import PING
from bench.sim.state import State

PREPARED_TOKENS_MAX = 2_000
"""Longer streams are made as they are written."""
EVENT_BULK_BYTES = 4_096

_DELTA_USAGE = (
    *("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"),
    *("output_tokens_details", "server_tool_use"),
)


def create(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/messages`."""
    del state
    plan = plan_message(request, request.document, behaviour)
    if request.document.get("stream") is True:
        answer = _streamed(plan, behaviour)
    elif behaviour.bytes or behaviour.event_bytes:
        answer = _bulk_message(plan, behaviour)
    else:
        answer = json_answer(whole_message(plan, behaviour))
        answer.repeatable = True
    answer.model = plan.model
    if behaviour.usage != "none":
        answer.usage = plan.final_usage
    answer.tokens = plan.final_usage["output_tokens"]
    return answer


def count_tokens(state: State, request: Request, behaviour: Behaviour) -> Answer:
    """`POST /v1/messages/count_tokens`."""
    del state
    if not isinstance(request.document.get("messages"), list):
        raise Invalid("messages: Field required")
    counted = behaviour.input_tokens
    answer = json_answer(
        {"input_tokens": text.estimate_tokens(request.size_bytes) if counted is None else counted}
    )
    answer.repeatable = True
    return answer


def whole_message(plan: Plan, behaviour: Behaviour) -> dict[str, Any]:
    """The message object of a plan, as a call without streaming gets it."""
    message: dict[str, Any] = {
        "id": plan.message_id,
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": [block.whole for block in plan.blocks],
        "stop_reason": plan.stop_reason,
        "stop_sequence": None,
        "stop_details": plan.stop_details,
    }
    if behaviour.usage != "none":
        message["usage"] = plan.final_usage
    return message


def _bulk_message(plan: Plan, behaviour: Behaviour) -> Answer:
    """A message whose only text is as long as asked, made while it is read."""
    size = behaviour.bytes or behaviour.event_bytes
    plan.final_usage["output_tokens"] = text.estimate_tokens(size)
    message = whole_message(plan, behaviour)
    message["content"] = [{"type": "text", "text": "%%"}]
    before, _, after = msgspec.json.encode(message).partition(b"%%")

    def pieces() -> Iterator[bytes]:
        yield before
        yield from text.bulk(size, 65_536)
        yield after

    return Answer(pieces=pieces, length=len(before) + size + len(after))


def _streamed(plan: Plan, behaviour: Behaviour) -> Answer:
    answer = Answer(content_type=EVENT_STREAM)
    if behaviour.bytes or behaviour.event_bytes:
        carried = text.estimate_tokens(behaviour.bytes or behaviour.event_bytes)
        plan.final_usage["output_tokens"] = carried
        answer.events = lambda: _events(plan, behaviour, bulk=True)
    elif behaviour.tokens > PREPARED_TOKENS_MAX:
        answer.events = lambda: _events(plan, behaviour, bulk=False)
    else:
        answer.events = list(_events(plan, behaviour, bulk=False))
        answer.repeatable = True
    return answer


def _events(plan: Plan, behaviour: Behaviour, *, bulk: bool) -> Iterator[sse.Event]:
    """The whole stream, from message_start to message_stop."""
    pad, reports = behaviour.pad, behaviour.usage != "none"

    def event(
        name: str, payload: dict[str, Any], tokens: int = 0, usage: dict[str, Any] | None = None
    ) -> sse.Event:
        return sse.Event(sse.named(name, {"type": name, **payload}, pad=pad), tokens, usage)

    message = {**whole_message(plan, behaviour), "content": [], "stop_reason": None, "stop_details": None}
    if reports:
        message["usage"] = plan.first_usage
    yield event("message_start", {"message": message}, usage=plan.first_usage if reports else None)
    if bulk:
        yield event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        yield PING
        yield from _bulk_deltas(behaviour)
        yield event("content_block_stop", {"index": 0})
    for index, block in enumerate([] if bulk else plan.blocks):
        yield event("content_block_start", {"index": index, "content_block": block.start})
        if index == 0:
            yield PING
        for delta, tokens in block.deltas:
            yield event("content_block_delta", {"index": index, "delta": delta}, tokens)
        yield event("content_block_stop", {"index": index})
    delta = {"stop_reason": plan.stop_reason, "stop_sequence": None, "stop_details": plan.stop_details}
    usage = {name: plan.final_usage[name] for name in _DELTA_USAGE if name in plan.final_usage}
    if behaviour.usage == "twice":
        # Cumulative totals, so the second replaces the first.
        half = {"output_tokens": usage["output_tokens"] // 2}
        yield event("message_delta", {"delta": {**delta, "stop_reason": None}, "usage": half}, usage=half)
    payload = {"delta": delta, "usage": usage} if reports else {"delta": delta}
    yield event("message_delta", payload, usage=usage if reports else None)
    yield event("message_stop", {})


def _bulk_deltas(behaviour: Behaviour) -> Iterator[sse.Event]:
    """Text deltas of as many bytes as asked: one giant event, or a flood of 4 KiB ones."""
    before = (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
    )
    after = b'"}}\n\n'
    size = behaviour.event_bytes or behaviour.bytes
    piece = size if behaviour.event_bytes else EVENT_BULK_BYTES
    for data in text.bulk(size, piece):
        yield sse.Event(before + data + after, text.estimate_tokens(len(data)))
