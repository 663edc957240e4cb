"""What a simulated Claude is going to say: its blocks, its stop reason and its usage, before any wire form.

One plan gives both the whole message and the stream of it, so that the two always agree. Pure; derived from
the request and the behaviour alone.
"""

from typing import Any, NamedTuple

import msgspec

from bench.sim import fields, text
from bench.sim.behaviour import Behaviour
from bench.sim.errors import Invalid
from bench.sim.json_example import example
from bench.sim.request import Request

THINKING_TOKENS = 6
"""Thought when the request enables thinking and the behaviour does not say how much."""
ARGUMENT_PIECE_CHARACTERS = 12
WEB_SEARCH_INPUT_TOKENS = 700
"""What the pages found by one search add to the input, so that message_delta raises it."""

_encode = msgspec.json.Encoder().encode


class Block(NamedTuple):
    """One content block: as it starts, the deltas that fill it with the tokens of each, and as it ends."""

    start: dict[str, Any]
    deltas: list[tuple[dict[str, Any], int]]
    whole: dict[str, Any]


class Plan(NamedTuple):
    """A message to be."""

    message_id: str
    model: str
    blocks: list[Block]
    stop_reason: str
    stop_details: dict[str, Any] | None
    first_usage: dict[str, Any]
    """As message_start reports it: a placeholder of output tokens."""
    final_usage: dict[str, Any]
    """As the whole message reports it."""


def plan_message(request: Request, document: dict[str, Any], behaviour: Behaviour) -> Plan:
    """The plan for one call. Raises Invalid for a request the real API would refuse."""
    model, tokens_max = _checked(document)
    seed = behaviour.seed
    blocks: list[Block] = []
    thinks = behaviour.thinking
    if not thinks and fields.nested(document, "thinking").get("type") in ("enabled", "adaptive"):
        thinks = THINKING_TOKENS
    if thinks:
        blocks.append(_thinking_block(seed, thinks))
    for index in range(behaviour.web_searches):
        blocks.extend(_search_blocks(seed, index))
    wanted = 0 if behaviour.refusal else min(behaviour.tokens, tokens_max)
    said = _tool_blocks(document, behaviour, request) or _text_blocks(document, behaviour, wanted)
    blocks.extend(said)
    spoken = sum(tokens for block in said for _, tokens in block.deltas)
    stop, details = _stop(behaviour, blocks, cut=behaviour.tokens > tokens_max)
    first, final = _usages(request, behaviour, spoken + thinks, thinks)
    message_id = text.identifier("msg_01", 22, seed, request.body)
    return Plan(message_id, model, blocks, stop, details, first, final)


def _checked(document: dict[str, Any]) -> tuple[str, int]:
    model, tokens_max = fields.string(document, "model"), fields.number(document, "max_tokens")
    if not model:
        raise Invalid("model: Field required")
    if tokens_max is None:
        raise Invalid("max_tokens: Field required")
    if tokens_max < 1:
        raise Invalid("max_tokens: must be greater than or equal to 1")
    if not isinstance(document.get("messages"), list):
        raise Invalid("messages: Field required")
    return model, tokens_max


def _thinking_block(seed: int, count: int) -> Block:
    pieces = text.tokens(seed + 1, count)
    signature = text.identifier("ErUB", 120, seed, "signature")
    deltas: list[tuple[dict[str, Any], int]] = [
        ({"type": "thinking_delta", "thinking": p}, 1) for p in pieces
    ]
    deltas.append(({"type": "signature_delta", "signature": signature}, 0))
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return Block(start, deltas, {"type": "thinking", "thinking": "".join(pieces), "signature": signature})


def _search_blocks(seed: int, index: int) -> list[Block]:
    use_id = text.identifier("srvtoolu_01", 22, seed, index)
    query = {"query": f"simulated search {index}"}
    use = {"type": "server_tool_use", "id": use_id, "name": "web_search"}
    deltas: list[tuple[dict[str, Any], int]] = [
        ({"type": "input_json_delta", "partial_json": piece}, 0) for piece in ("", _encode(query).decode())
    ]
    found = {
        "type": "web_search_result",
        "title": "A page",
        "url": "https://example.org/page",
        "encrypted_content": text.identifier("Eo8B", 64, seed, index),
        "page_age": None,
    }
    result = {"type": "web_search_tool_result", "tool_use_id": use_id, "content": [found]}
    return [Block({**use, "input": {}}, deltas, {**use, "input": query}), Block(result, [], result)]


def _tool_blocks(document: dict[str, Any], behaviour: Behaviour, request: Request) -> list[Block]:
    """Tool calls, when the request demands one or the behaviour makes one; else nothing."""
    tools = [tool for tool in fields.objects(document, "tools") if "input_schema" in tool]
    choice = fields.nested(document, "tool_choice")
    demanded = choice.get("type") in ("any", "tool")
    if behaviour.refusal or not tools or not (demanded or behaviour.tool):
        return []
    tool = next((tool for tool in tools if tool.get("name") == choice.get("name")), tools[0])
    given = example(tool["input_schema"])
    written = _encode(given).decode()
    size = ARGUMENT_PIECE_CHARACTERS
    pieces = ["", *(written[start : start + size] for start in range(0, len(written), size))]
    blocks = []
    for index in range(behaviour.tool_calls):
        use_id = text.identifier("toolu_01", 22, behaviour.seed, index, request.body)
        use = {"type": "tool_use", "id": use_id, "name": tool.get("name", "tool")}
        deltas: list[tuple[dict[str, Any], int]] = [
            ({"type": "input_json_delta", "partial_json": piece}, 1 if piece else 0) for piece in pieces
        ]
        blocks.append(Block({**use, "input": {}}, deltas, {**use, "input": given}))
    return blocks


def _text_blocks(document: dict[str, Any], behaviour: Behaviour, count: int) -> list[Block]:
    schema = _output_schema(document)
    if schema is not None:
        pieces = [_encode(example(schema)).decode()]
    else:
        pieces = text.grouped(text.tokens(behaviour.seed, count), behaviour.chunk_tokens)
    if not pieces:
        return []
    left = count
    deltas: list[tuple[dict[str, Any], int]] = []
    for piece in pieces:
        carried = min(behaviour.chunk_tokens, left) if schema is None else count
        left -= carried
        deltas.append(({"type": "text_delta", "text": piece}, carried))
    return [Block({"type": "text", "text": ""}, deltas, {"type": "text", "text": "".join(pieces)})]


def _output_schema(document: dict[str, Any]) -> object:
    """The JSON schema of structured output, in the place either generation of the API has it."""
    wanted = fields.nested(fields.nested(document, "output_config"), "format")
    wanted = wanted or fields.nested(document, "output_format")
    return wanted.get("schema") if wanted.get("type") == "json_schema" else None


def _stop(behaviour: Behaviour, blocks: list[Block], *, cut: bool) -> tuple[str, dict[str, Any] | None]:
    if behaviour.refusal:
        return "refusal", {"type": "refusal", "category": None, "explanation": None}
    if behaviour.stop:
        return behaviour.stop, None
    if any(block.start["type"] == "tool_use" for block in blocks):
        return "tool_use", None
    return "max_tokens" if cut else "end_turn", None


def _usages(
    request: Request, behaviour: Behaviour, output: int, thinking: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    counted = behaviour.input_tokens
    given = text.estimate_tokens(request.size_bytes) if counted is None else counted
    write_5m, write_1h = behaviour.cache_write_5m, behaviour.cache_write_1h
    if not (write_5m or write_1h or behaviour.cache_read) and b'"cache_control"' in request.body:
        # A marked prompt writes half of itself to the cache, for as long as the mark says.
        half = given // 2
        given -= half
        write_5m, write_1h = (0, half) if b'"ttl":"1h"' in request.body.replace(b" ", b"") else (half, 0)
    first = {
        "input_tokens": given,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_read_input_tokens": behaviour.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": 1,
        "service_tier": behaviour.service_tier or "standard",
        "inference_geo": "not_available",
    }
    raised = behaviour.raise_input + behaviour.web_searches * WEB_SEARCH_INPUT_TOKENS
    final: dict[str, Any] = {**first, "input_tokens": given + raised, "output_tokens": output}
    if thinking:
        final["output_tokens_details"] = {"thinking_tokens": thinking}
    if behaviour.web_searches:
        final["server_tool_use"] = {"web_search_requests": behaviour.web_searches, "web_fetch_requests": 0}
    return first, final
