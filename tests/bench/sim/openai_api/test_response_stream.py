"""Events of responses."""

import json

from bench.sim.behaviour import Behaviour
from bench.sim.openai_api.response_plan import plan_response
from bench.sim.openai_api.response_stream import response_events
from bench.sim.request import Request


def events(behaviour: Behaviour, after: int = -1) -> list[dict[str, object]]:
    document = {"model": "m", "input": "x"}
    plan = plan_response(Request.inner("/v1/responses", document), document, behaviour)
    made = response_events(plan, after=after)
    return [json.loads(event.data.partition(b"data: ")[2]) for event in made]


def test_resuming_gives_the_rest_with_the_same_numbers() -> None:
    whole, rest = events(Behaviour()), events(Behaviour(), after=7)
    assert rest == whole[8:]
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))


def test_bulk_keeps_counting() -> None:
    made = events(Behaviour(bytes=20_000))
    deltas = [event for event in made if event["type"] == "response.output_text.delta"]
    assert sum(len(str(event["delta"])) for event in deltas) == 20_000
    assert [event["sequence_number"] for event in made] == list(range(len(made)))
    assert (
        len([e for e in events(Behaviour(event_bytes=20_000)) if e["type"] == "response.output_text.delta"])
        == 1
    )
