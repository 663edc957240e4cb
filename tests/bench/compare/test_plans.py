"""From a scenario to plans: what is held against an arm, and what goes on beside it."""

from bench.compare.plans import beside_plan, beside_question, expected_of, plan_of, wrong_keys
from bench.compare.scenarios import Beside, CompareOptions, Scenario
from bench.load.plan import Expectation
from bench.targets.base import RunningTarget

LEARNT = Expectation(events=5, body_bytes=9, body_crc32=1, text_crc32=2, deltas=3)
SCENARIO = Scenario(name="s", stream=True, behaviour="tokens=11,ttft_ms=100", pace_ms=10)
RUNNING = RunningTarget(base_url="http://h", keys=["k"], pids=[], headers={"x-a": "1"}, ca_file="/ca")


def test_an_arm_is_held_to_what_it_can_be_held_to() -> None:
    by_bytes = expected_of("bytes", LEARNT, SCENARIO)
    assert (by_bytes.body_crc32, by_bytes.events, by_bytes.text_crc32) == (1, 5, None)
    by_text = expected_of("text", LEARNT, SCENARIO)
    assert (by_text.body_crc32, by_text.events, by_text.text_crc32, by_text.deltas) == (None, None, 2, 3)
    assert by_text.seconds_min == by_bytes.seconds_min > 0.15
    assert expected_of("status", LEARNT, SCENARIO) == Expectation()


def test_a_plan_is_the_scenarios() -> None:
    options = CompareOptions(arms=["a"], seconds=2, warmup_seconds=0.25)
    plan = plan_of(SCENARIO, options, RUNNING, SCENARIO.question(), LEARNT, ["k"])
    assert (plan.driver, plan.seconds, plan.warmup_seconds, plan.ramp_seconds) == ("closed", 2, 0.25, 0.1)
    assert (plan.headers, plan.ca_file) == ({"x-a": "1"}, "/ca")
    cold = Scenario(name="c", loop="open", rate=5, cold=True, seconds=9)
    plan = plan_of(cold, options, RUNNING, cold.question(), LEARNT, ["k"])
    assert (plan.driver, plan.rate_per_second, plan.seconds, plan.warmup_seconds) == ("open", 5, 9, 0)


def test_what_goes_on_beside_lasts_as_long() -> None:
    options = CompareOptions(arms=["a"], seconds=2, warmup_seconds=0.5)
    main = plan_of(SCENARIO, options, RUNNING, SCENARIO.question(), LEARNT, ["a" * 20])
    slow = Beside(kind="slow readers", stream=True, read_bytes_per_second=9)
    plan = beside_plan(slow, main, LEARNT, beside_question(slow, SCENARIO, None))
    assert plan.seconds == main.ramp_seconds + main.warmup_seconds + main.seconds
    assert (plan.read_bytes_per_second, plan.leave_after_events, plan.expectation) == (9, 0, LEARNT)
    assert plan.question.behaviour == "tokens=60"
    leavers = Beside(kind="leavers", stream=True, leave_after_events=4, rate=7)
    plan = beside_plan(leavers, main, LEARNT, beside_question(leavers, SCENARIO, None))
    assert (plan.driver, plan.leave_after_events, plan.read_bytes_per_second) == ("open", 4, 0)
    wrong = Beside(kind="wrong keys")
    plan = beside_plan(wrong, main, LEARNT, beside_question(wrong, SCENARIO, None))
    assert plan.expectation.status is None
    assert plan.answer_seconds_max < 5
    assert "a" * 20 not in plan.keys


def test_wrong_keys_are_many_and_none_is_right() -> None:
    keys = wrong_keys("kt_live_abcdefgh_12345678")
    assert len(set(keys)) == len(keys) > 100
    assert {len(key) for key in keys} == {25}
