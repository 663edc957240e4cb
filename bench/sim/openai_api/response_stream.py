"""The events of a streamed response: numbered, and exactly one terminal event."""

import itertools
from collections.abc import Iterator
from typing import Any

from bench.sim import sse, text
from bench.sim.openai_api.response_plan import Item, Plan, whole_response

EVENT_BULK_BYTES = 4_096


def response_events(plan: Plan, *, after: int = -1, obfuscate: bool = True) -> Iterator[sse.Event]:
    """All events with a sequence number above `after`."""
    numbers = itertools.count()

    def event(
        kind: str, payload: dict[str, Any], tokens: int = 0, usage: dict[str, Any] | None = None
    ) -> sse.Event:
        document = {"type": kind, "sequence_number": next(numbers), **payload}
        if obfuscate and kind.endswith(".delta"):
            document["obfuscation"] = text.BASE58[: 16 - len(payload["delta"]) % 16]
        return sse.Event(sse.named(kind, document, pad=False), tokens, usage)

    for number, made in enumerate(_all_events(plan, event)):
        if number > after:
            yield made


def _all_events(plan: Plan, event: Any) -> Iterator[sse.Event]:
    background = plan.base["background"]
    yield event(
        "response.created", {"response": whole_response(plan, "queued" if background else "in_progress")}
    )
    if background:
        yield event("response.queued", {"response": whole_response(plan, "queued")})
    yield event("response.in_progress", {"response": whole_response(plan, "in_progress")})
    for index, item in enumerate(plan.items):
        yield from _ITEM_EVENTS[item.whole["type"]](plan, index, item, event)
    final = whole_response(plan)
    yield event(f"response.{plan.status}", {"response": final}, 0, final["usage"])


def _reasoning_events(plan: Plan, index: int, item: Item, event: Any) -> Iterator[sse.Event]:
    del plan
    whole = item.whole
    at = {"item_id": whole["id"], "output_index": index, "summary_index": 0}
    said = whole["summary"][0]["text"]
    kind = "response.reasoning_summary"
    yield event("response.output_item.added", {"output_index": index, "item": {**whole, "summary": []}})
    yield event(f"{kind}_part.added", {**at, "part": {"type": "summary_text", "text": ""}})
    for piece, tokens in item.pieces:
        yield event(f"{kind}_text.delta", {**at, "delta": piece}, tokens)
    yield event(f"{kind}_text.done", {**at, "text": said})
    yield event(f"{kind}_part.done", {**at, "part": {"type": "summary_text", "text": said}})
    yield event("response.output_item.done", {"output_index": index, "item": whole})


def _call_events(plan: Plan, index: int, item: Item, event: Any) -> Iterator[sse.Event]:
    del plan
    whole = item.whole
    at = {"item_id": whole["id"], "output_index": index}
    opened = {**whole, "status": "in_progress", "arguments": ""}
    yield event("response.output_item.added", {"output_index": index, "item": opened})
    for piece, tokens in item.pieces:
        yield event("response.function_call_arguments.delta", {**at, "delta": piece}, tokens)
    yield event("response.function_call_arguments.done", {**at, "arguments": whole["arguments"]})
    yield event("response.output_item.done", {"output_index": index, "item": whole})


def _message_events(plan: Plan, index: int, item: Item, event: Any) -> Iterator[sse.Event]:
    whole = item.whole
    part = whole["content"][0]
    at = {"item_id": whole["id"], "output_index": index, "content_index": 0}
    opened = {**whole, "status": "in_progress", "content": []}
    yield event("response.output_item.added", {"output_index": index, "item": opened})
    refuses = part["type"] == "refusal"
    empty = {**part, "refusal" if refuses else "text": ""}
    yield event("response.content_part.added", {**at, "part": empty})
    kind = "response.refusal" if refuses else "response.output_text"
    extra: dict[str, Any] = {} if refuses else {"logprobs": []}
    size = plan.behaviour.event_bytes or plan.behaviour.bytes
    if size:
        piece_bytes = size if plan.behaviour.event_bytes else EVENT_BULK_BYTES
        for data in text.bulk(size, piece_bytes):
            yield event(
                f"{kind}.delta", {**at, "delta": data.decode(), **extra}, text.estimate_tokens(len(data))
            )
    else:
        for piece, tokens in item.pieces:
            yield event(f"{kind}.delta", {**at, "delta": piece, **extra}, tokens)
    done = {"refusal": part["refusal"]} if refuses else {"text": part["text"]}
    yield event(f"{kind}.done", {**at, **done, **extra})
    yield event("response.content_part.done", {**at, "part": part})
    yield event("response.output_item.done", {"output_index": index, "item": whole})


_ITEM_EVENTS = {"reasoning": _reasoning_events, "function_call": _call_events, "message": _message_events}
