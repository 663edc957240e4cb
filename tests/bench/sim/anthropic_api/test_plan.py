"""Plans: what a message is going to be."""

from typing import Any

import pytest

from bench.sim.anthropic_api.plan import plan_message
from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.errors import Invalid
from bench.sim.request import Request

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": []}


def plan(behaviour: Behaviour = PLAIN, **more: Any) -> Any:
    document = ASKED | more
    return plan_message(Request.inner("/v1/messages", document), document, behaviour)


def test_deltas_carry_all_tokens_and_the_whole_text() -> None:
    block = plan(Behaviour(tokens=10, chunk_tokens=4)).blocks[0]
    assert [tokens for _, tokens in block.deltas] == [4, 4, 2]
    assert "".join(delta["text"] for delta, _ in block.deltas) == block.whole["text"]


def test_input_json_starts_empty() -> None:
    tool = {"name": "t", "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}}}
    block = plan(tools=[tool], tool_choice={"type": "tool", "name": "t"}).blocks[0]
    pieces = [delta["partial_json"] for delta, _ in block.deltas]
    assert pieces[0] == ""
    assert "".join(pieces) == '{"x":"value"}'
    assert block.start["input"] == {}


def test_structured_output_fits_its_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    block = plan(output_config={"format": {"type": "json_schema", "schema": schema}}).blocks[0]
    assert block.whole["text"] == '{"x":7}'


def test_final_usage_is_never_below_the_first() -> None:
    made = plan(Behaviour(web_searches=2, raise_input=5, thinking=3, cache_read=2))
    assert made.final_usage["input_tokens"] == made.first_usage["input_tokens"] + 1_405
    assert made.final_usage["server_tool_use"]["web_search_requests"] == 2
    assert made.final_usage["output_tokens"] == 15


def test_refused_requests_name_the_field() -> None:
    with pytest.raises(Invalid, match="messages"):
        plan(messages=None)
