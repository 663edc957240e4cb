"""Error bodies in each dialect."""

import json

import pytest

from bench.sim.behaviour import PLAIN, Behaviour
from bench.sim.errors import ANTHROPIC_TYPES, Invalid, error_answer, error_event


@pytest.mark.parametrize("status", sorted(ANTHROPIC_TYPES))
def test_anthropic_shape(status: int) -> None:
    answer = error_answer("anthropic", status, "req_1", PLAIN)
    body = json.loads(answer.body)
    assert answer.status == status
    assert body["type"] == "error"
    assert body["error"]["type"] == ANTHROPIC_TYPES[status][0]
    assert body["request_id"] == "req_1"


def test_openai_shape_has_all_four_keys() -> None:
    error = json.loads(error_answer("openai", 401, "req_1", PLAIN).body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_api_key"
    unknown = json.loads(error_answer("openai", 418, "req_1", PLAIN).body)["error"]
    assert unknown["type"] == "invalid_request_error"


def test_the_behaviour_has_its_own_words() -> None:
    behaviour = Behaviour(
        error_type="t", error_code="c", error_message="m", retry_after="3", should_retry=False
    )
    answer = error_answer("anthropic", 429, "req_1", behaviour)
    assert json.loads(answer.body)["error"] == {"type": "t", "message": "m", "details": {"error_code": "c"}}
    assert dict(answer.headers) == {b"retry-after": b"3", b"x-should-retry": b"false"}


def test_mid_stream_errors_by_dialect() -> None:
    name, payload = error_event("anthropic", False, PLAIN, "req_1", 3)
    assert (name, payload["error"]["type"]) == ("error", "overloaded_error")
    name, payload = error_event("openai", False, PLAIN, "req_1", 3)
    assert (name, set(payload)) == ("", {"error"})
    name, payload = error_event("openai", True, PLAIN, "req_1", 3)
    assert (name, payload["sequence_number"], payload["code"]) == ("error", 3, "server_error")


def test_a_refusal_has_a_status() -> None:
    assert Invalid("no").status == 400
