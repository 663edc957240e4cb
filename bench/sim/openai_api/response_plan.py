"""What a simulated OpenAI response is going to contain: its items, status and usage, before any wire form.

Pure; one plan gives the whole object, the stream of its events, and the resumed stream of a background
response.
"""

from typing import Any, NamedTuple

import msgspec

from bench.sim import fields, text
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.json_example import example
from bench.sim.openai_api.token_usage import response_usage
from bench.sim.request import Request

ARGUMENT_PIECE_CHARACTERS = 12
REFUSAL = "I'm sorry, I can't assist with that."
TERMINAL_STATUSES = ("completed", "incomplete", "failed")

_encode = msgspec.json.Encoder().encode


class Item(NamedTuple):
    """One output item as it ends, and the pieces its text or arguments come in, with the tokens of each."""

    whole: dict[str, Any]
    pieces: list[tuple[str, int]]


class Plan(NamedTuple):
    """A response to be: its fields but output, status and usage; its items; how it ends."""

    base: dict[str, Any]
    items: list[Item]
    status: str
    usage: dict[str, Any]
    behaviour: Behaviour


def plan_response(request: Request, document: dict[str, Any], behaviour: Behaviour) -> Plan:
    """The plan of one call. Raises Invalid for a request the real API would refuse."""
    model = fields.string(document, "model")
    if not model:
        raise Invalid("Missing required parameter: 'model'.")
    response_id = text.hex_identifier("resp_", 48, behaviour.seed, request.body)
    limit = fields.number(document, "max_output_tokens")
    tokens = behaviour.tokens if limit is None else max(0, min(limit, behaviour.tokens))
    cut = tokens < behaviour.tokens
    items: list[Item] = []
    if behaviour.thinking:
        items.append(_reasoning(behaviour, response_id))
    items.extend(
        _calls(document, behaviour, response_id) or [_message(document, behaviour, response_id, tokens)]
    )
    status = "incomplete" if cut else "completed"
    if behaviour.stop in TERMINAL_STATUSES:
        status = behaviour.stop
    bulk = behaviour.event_bytes or behaviour.bytes
    said = sum(count for item in items if item.whole["type"] != "reasoning" for _, count in item.pieces)
    output = text.estimate_tokens(bulk) if bulk else said
    usage = response_usage(request, behaviour, output + behaviour.thinking)
    return Plan(_base(response_id, model, document, behaviour), items, status, usage, behaviour)


def whole_response(plan: Plan, status: str | None = None) -> dict[str, Any]:
    """The response object in the state given (how it ends, by default); output and usage only once it has
    ended."""
    status = status or plan.status
    ended = status in TERMINAL_STATUSES
    failed = status == "failed"
    reports = ended and not failed and plan.behaviour.usage != "none"
    return {
        **plan.base,
        "status": status,
        "completed_at": text.CREATED + 1 if status == "completed" else None,
        "error": {"code": "server_error", "message": "The model failed to generate a response."}
        if failed
        else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": [item.whole for item in plan.items] if ended else [],
        "usage": plan.usage if reports else None,
    }


def _base(response_id: str, model: str, document: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "response",
        "created_at": text.CREATED,
        "model": model,
        "background": document.get("background") is True,
        "instructions": document.get("instructions"),
        "max_output_tokens": document.get("max_output_tokens"),
        "max_tool_calls": document.get("max_tool_calls"),
        "metadata": document.get("metadata") or {},
        "parallel_tool_calls": document.get("parallel_tool_calls", True),
        "previous_response_id": document.get("previous_response_id"),
        "reasoning": fields.nested(document, "reasoning") or {"effort": None, "summary": None},
        "service_tier": behaviour.service_tier or "default",
        "store": document.get("store", True),
        "temperature": document.get("temperature", 1.0),
        "text": document.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": document.get("tool_choice") or "auto",
        "tools": document.get("tools") or [],
        "top_logprobs": 0,
        "top_p": document.get("top_p", 1.0),
        "truncation": document.get("truncation") or "disabled",
        "user": document.get("user"),
    }


def _reasoning(behaviour: Behaviour, response_id: str) -> Item:
    pieces = text.tokens(behaviour.seed + 1, behaviour.thinking)
    whole = {
        "id": text.hex_identifier("rs_", 48, response_id),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "".join(pieces)}],
        "encrypted_content": text.identifier("gAAAAAB", 64, response_id),
    }
    return Item(whole, [(piece, 1) for piece in pieces])


def _calls(document: dict[str, Any], behaviour: Behaviour, response_id: str) -> list[Item]:
    tools = [t for t in fields.objects(document, "tools") if t.get("type") == "function"]
    choice = fields.nested(document, "tool_choice")
    demanded = document.get("tool_choice") == "required" or choice.get("type") == "function"
    if behaviour.refusal or not tools or not (demanded or behaviour.tool):
        return []
    tool = next((t for t in tools if t.get("name") == choice.get("name")), tools[0])
    arguments = _encode(example(tool.get("parameters"))).decode()
    size = ARGUMENT_PIECE_CHARACTERS
    return [
        Item(
            {
                "id": text.hex_identifier("fc_", 48, response_id, number),
                "type": "function_call",
                "status": "completed",
                "arguments": arguments,
                "call_id": text.identifier("call_", 24, response_id, number),
                "name": tool.get("name", "tool"),
            },
            [(arguments[start : start + size], 1) for start in range(0, len(arguments), size)],
        )
        for number in range(behaviour.tool_calls)
    ]


def _message(document: dict[str, Any], behaviour: Behaviour, response_id: str, tokens: int) -> Item:
    pieces: list[tuple[str, int]]
    part: dict[str, Any]
    if behaviour.refusal:
        pieces = [(piece, 1) for piece in REFUSAL.split(" ")]
        part = {"type": "refusal", "refusal": "".join(piece for piece, _ in pieces)}
    else:
        if (schema := _output_schema(document)) is not None:
            pieces = [(_encode(example(schema)).decode(), tokens)]
        else:
            said = text.grouped(text.tokens(behaviour.seed, tokens), behaviour.chunk_tokens)
            pieces = [(piece, min(behaviour.chunk_tokens, tokens)) for piece in said]
        whole_text = "".join(piece for piece, _ in pieces)
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": whole_text}
    whole = {
        "id": text.hex_identifier("msg_", 48, response_id),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return Item(whole, pieces)


def _output_schema(document: dict[str, Any]) -> object:
    wanted = fields.nested(fields.nested(document, "text"), "format")
    return wanted.get("schema") if wanted.get("type") == "json_schema" else None
