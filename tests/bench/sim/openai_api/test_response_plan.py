"""Plans of responses."""

import pytest

from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.errors import Invalid
from bench.sim.openai_api.response_plan import plan_response, whole_response
from bench.sim.request import Request


def test_usage_and_output_only_once_ended() -> None:
    document = {"model": "m", "input": "x"}
    plan = plan_response(Request.inner("/v1/responses", document), document, PLAIN)
    assert whole_response(plan, "queued")["usage"] is None
    assert whole_response(plan, "queued")["output"] == []
    assert whole_response(plan, "failed")["usage"] is None
    assert whole_response(plan)["usage"]["output_tokens"] == 12


def test_structured_output_and_reasoning() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    document = {"model": "m", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}
    plan = plan_response(Request.inner("/v1/responses", document), document, Behaviour(thinking=4))
    assert [item.whole["type"] for item in plan.items] == ["reasoning", "message"]
    assert plan.items[1].whole["content"][0]["text"] == '{"x":7}'
    assert plan.usage["output_tokens_details"] == {"reasoning_tokens": 4}


def test_a_model_is_needed() -> None:
    with pytest.raises(Invalid, match="model"):
        plan_response(Request(b"/v1/responses"), {}, PLAIN)
