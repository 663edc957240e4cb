"""What is said on the simulated provider's WebSockets, event by event."""

from __future__ import annotations

import json
from typing import Any

from bench.sim.openai_api.sockets import Realtime, Responses
from bench.sim.request import Request
from bench.sim.state import State


def upgrade(target: str) -> Request:
    request = Request(target.encode())
    request.method = "GET"
    return request


def said(events: Any) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events]


def test_a_response_says_what_a_stream_says() -> None:
    side = Responses(State(), upgrade("/v1/responses"))
    asked = {"type": "response.create", "model": "sim:tokens=2", "input": "hello"}
    behaviour, model, events = side.answer(asked)
    told = said(events)
    assert (behaviour.tokens, model) == (2, "sim:tokens=2")
    assert [told[0]["type"], told[-1]["type"]] == ["response.created", "response.completed"]
    assert told[-1]["response"]["usage"]["output_tokens"] == 2
    assert [one["sequence_number"] for one in told] == list(range(len(told)))


def test_what_cannot_be_answered_is_an_error_and_no_end() -> None:
    side = Responses(State(), upgrade("/v1/responses"))
    for asked, status in (
        ({"type": "response.create"}, 400),
        ({"type": "other"}, 400),
        ({"type": "response.create", "model": "sim:tokens=x"}, 400),
        ({"type": "response.create", "model": "sim:error=429"}, 429),
    ):
        (told,) = said(side.answer(asked)[2])
        assert (told["type"], told["status"]) == ("error", status)


def test_a_conversation_grows_by_what_is_said() -> None:
    side = Realtime(upgrade("/v1/realtime?model=sim:tokens=3"))
    assert [one["type"] for one in said(side.greet())] == ["session.created"]
    inputs = []
    for _ in range(2):
        told = said(side.answer({"type": "response.create"})[2])
        assert [one["type"] for one in told].count("response.output_text.delta") == 3
        inputs.append(told[-1]["response"]["usage"]["input_tokens"])
    assert inputs[1] == inputs[0] + 3


def test_sound_that_is_committed_is_answered_by_itself() -> None:
    side = Realtime(upgrade("/v1/realtime?model=sim:tokens=1"))
    assert said(side.answer({"type": "input_audio_buffer.append", "audio": "A" * 6400})[2]) == []
    told = said(side.answer({"type": "input_audio_buffer.commit"})[2])
    assert [told[0]["type"], told[-1]["type"]] == ["input_audio_buffer.committed", "response.done"]
    assert told[-1]["response"]["usage"]["input_tokens"] == 11
