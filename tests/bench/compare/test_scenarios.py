"""Scenarios are data: the same for every target, and what they say is checked when they are read."""

import pytest

from bench.compare.scenarios import CompareOptions, Scenario


def test_a_scenario_makes_its_question() -> None:
    scenario = Scenario(
        name="s", stream=True, behaviour="tokens=11", pace_ms=20, prompt_tokens=100, answer_bytes=7
    )
    question = scenario.question()
    assert question.model_name == "sim:tokens=11,bytes=7,pace_ms=20"
    assert question.prompt_bytes == 400
    assert scenario.question("gpt-4o").model_name == "gpt-4o"
    assert scenario.paced_seconds == pytest.approx(0.2)
    # A stream that is collected comes in no time; one that is only held up for a moment must not be taken
    # for it.
    assert 0 < scenario.span_seconds_min < scenario.paced_seconds / 2
    assert scenario.paced_seconds / 2 < scenario.seconds_min < scenario.paced_seconds
    assert scenario.ramp_seconds == scenario.paced_seconds


def test_what_is_not_paced_has_no_pace() -> None:
    scenario = Scenario(name="s", behaviour="tokens=11,ttft_ms=100")
    assert (scenario.paced_seconds, scenario.ramp_seconds, scenario.span_seconds_min) == (0, 0, 0)
    assert scenario.seconds_min == pytest.approx(0.09)


def test_a_sweep_is_a_point_for_each_value() -> None:
    scenario = Scenario(name="load", loop="open", title="by load", sweep={"rate": [50, 100.5]})
    points = scenario.points()
    assert [point.name for point in points] == ["load@50", "load@100.5"]
    assert [(point.family, point.axis, point.at, point.rate) for point in points] == [
        ("load", "rate", 50, 50),
        ("load", "rate", 100.5, 100.5),
    ]
    assert points[0].title == "by load, rate 50"
    assert Scenario(name="one").points() == [Scenario(name="one")]
    [large] = Scenario(name="b", sweep={"answer_bytes": [10_000_000]}).points()
    assert (large.name, large.title) == ("b@10000000", "b, answer bytes 10,000,000")
    [point] = Scenario(name="n", sweep={"connections": [4]}).points()
    assert point.connections == 4
    assert isinstance(point.connections, int)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"loop": "open"}, "needs a rate"),
        ({"connections": 0}, "must be 1 or more"),
        ({"cold": True}, "cold keys come at a rate"),
        ({"sweep": {"mood": [1]}}, "sweep one of"),
        ({"sweep": {"keys": [1], "rate": [1]}}, "sweep one of"),
        ({"behaviour": "tokens=many"}, "cannot read the behaviour"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_told(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Scenario(name="s", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("seconds", 0), ("rounds", -1), ("warmup_seconds", -1)])
def test_options_refuse_nothing(field: str, value: float) -> None:
    with pytest.raises(ValueError, match="must "):
        CompareOptions(arms=["direct"], **{field: value})  # type: ignore[arg-type]
