"""Scenarios are data: the same for every target, tiny for a smoke test."""

import pytest

from bench.compare.scenarios import CompareOptions, idle_question, scenarios, smoke_options
from bench.load.plan import LoadPlan


def test_every_promised_figure_has_its_scenario() -> None:
    options = CompareOptions(arms=["direct"], connections=7, streams=11)
    by_name = {scenario.name: scenario for scenario in scenarios(options)}
    assert list(by_name) == ["unary", "alone", "burst", "paced"]
    assert by_name["unary"].connections == 7
    assert by_name["alone"].connections == 1
    assert by_name["paced"].connections == 11
    assert by_name["alone"].question == by_name["unary"].question
    # A stream that is collected comes in no time; one that is only held up for a moment must not be
    # taken for it.
    assert 0 < by_name["paced"].span_seconds_min < by_name["paced"].ramp_seconds / 2
    assert idle_question().stream


def test_scenarios_make_plans() -> None:
    for scenario in scenarios(smoke_options(["direct"])):
        LoadPlan(
            base_url="http://127.0.0.1:1",
            keys=["k"],
            question=scenario.question,
            connections=scenario.connections,
            ramp_seconds=scenario.ramp_seconds,
        )


@pytest.mark.parametrize("field", ["connections", "streams", "seconds"])
def test_options_refuse_nothing(field: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        CompareOptions(arms=["direct"], **{field: 0})  # type: ignore[arg-type]
