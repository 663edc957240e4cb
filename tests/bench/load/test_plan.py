"""Plans refuse what cannot be run, and survive the journey through JSON."""

from typing import Any

import msgspec
import pytest

from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import shares


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"keys": []}, "at least one key"),
        ({"connections": 0}, "1 to"),
        ({"connections": 10_001}, "1 to 10000 in one process"),
        ({"connections": 20_001, "processes": 2}, "1 to 20000 in 2 processes"),
        ({"processes": 0}, "processes must be 1 or more"),
        ({"processes": -1}, "processes must be 1 or more"),
        ({"driver": "open"}, "rate"),
        ({"seconds": 0}, "above 0"),
        ({"answer_seconds_max": 0}, "above 0"),
        ({"warmup_seconds": -1}, "not be below 0"),
    ],
)
def test_impossible_plans_say_why(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LoadPlan(**{"base_url": "http://127.0.0.1:1", "keys": ["k"], **wrong})


def test_more_processes_have_more_connections() -> None:
    plan = LoadPlan(base_url="http://127.0.0.1:1", keys=["k"], connections=20_000, processes=2)
    assert [share.connections for share in shares(plan)] == [10_000, 10_000]


def test_a_plan_survives_json() -> None:
    plan = LoadPlan(
        base_url="http://127.0.0.1:1",
        keys=["a", "b"],
        question=Question(stream=True, behaviour="tokens=5"),
        expectation=Expectation(events=9, body_crc32=7, span_seconds_min=0.5),
        driver="open",
        rate_per_second=10,
    )
    assert msgspec.json.decode(msgspec.json.encode(plan), type=LoadPlan) == plan


def test_the_model_steers_the_simulated_provider_unless_named() -> None:
    assert Question(behaviour="tokens=5").model_name == "sim:tokens=5"
    assert Question(behaviour="tokens=5", model="claude").model_name == "claude"


def test_the_pace_of_a_stream_is_what_the_provider_was_asked_for() -> None:
    assert Question(stream=True, behaviour="tokens=5,pace_ms=500").pace_ms == 500
    assert Question(stream=True, behaviour="tokens=5").pace_ms == 0
    assert Question(behaviour="pace_ms=500").pace_ms == 0
    assert Question(stream=True, behaviour="pace_ms=500", model="claude").pace_ms == 0
