"""From a scenario to the plans of the load generator, for one arm.  Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from bench.compare.scenarios import Beside, CompareOptions, Scenario
from bench.load.plan import Expectation, LoadPlan, Question
from bench.targets.base import Check, RunningTarget

# An arm that falls behind in an open loop is not waited for any longer.
_OPEN_ANSWER_SECONDS_MAX = 10.0
_BESIDE_ANSWER_SECONDS_MAX = 60.0
# A target may let wrong keys wait for as long as it likes; the measurement need not.
_WRONG_KEY_SECONDS_MAX = 3.0
_WRONG_KEYS = 500


def expected_of(check: Check, learnt: Expectation, scenario: Scenario) -> Expectation:
    """Return what answers must be like, as far as the target can be held to the provider's own."""
    timed = msgspec.structs.replace(
        learnt, span_seconds_min=scenario.span_seconds_min, seconds_min=scenario.seconds_min
    )
    if check == "bytes":
        # The bytes are all there is to an answer; to look at the text besides would only cost time.
        return msgspec.structs.replace(timed, text_crc32=None, deltas=None)
    if check == "text":
        return msgspec.structs.replace(timed, body_bytes=None, body_crc32=None, events=None)
    return Expectation()


def plan_of(
    scenario: Scenario,
    options: CompareOptions,
    running: RunningTarget,
    question: Question,
    expectation: Expectation,
    keys: Sequence[str],
) -> LoadPlan:
    open_loop = scenario.loop == "open"
    return LoadPlan(
        base_url=running.base_url,
        keys=list(keys),
        question=question,
        expectation=expectation,
        driver="open" if open_loop else "closed",
        connections=scenario.connections,
        rate_per_second=scenario.rate,
        ramp_seconds=scenario.ramp_seconds,
        # A cold key warms up nothing: it would be used up.
        warmup_seconds=0.0 if scenario.cold else options.warmup_seconds,
        seconds=scenario.seconds or options.seconds,
        answer_seconds_max=_OPEN_ANSWER_SECONDS_MAX if open_loop else 30.0,
        headers=dict(running.headers),
        request_ids=scenario.request_ids,
        ca_file=running.ca_file,
    )


def wrong_keys(genuine: str) -> list[str]:
    """Return keys that look like the genuine one, each with another end, and are none.

    For Karta's that breaks the checksum; floods of well-formed ones are `tests.reach.flood`'s.
    """
    return [f"{genuine[:-8]}{number:08d}" for number in range(_WRONG_KEYS)]


def beside_plan(
    beside: Beside, main: LoadPlan, learnt: Expectation | None, dialect_question: Question
) -> LoadPlan:
    """Return the plan of what goes on beside `main`, for exactly as long."""
    wrong = beside.kind == "wrong keys"
    return msgspec.structs.replace(
        main,
        keys=wrong_keys(main.keys[0]) if wrong else main.keys,
        question=dialect_question,
        expectation=Expectation(status=None) if wrong or learnt is None else learnt,
        driver="open" if beside.rate > 0 else "closed",
        connections=beside.connections,
        rate_per_second=beside.rate,
        ramp_seconds=0.0,
        warmup_seconds=0.0,
        seconds=main.ramp_seconds + main.warmup_seconds + main.seconds,
        answer_seconds_max=_WRONG_KEY_SECONDS_MAX if wrong else _BESIDE_ANSWER_SECONDS_MAX,
        read_bytes_per_second=beside.read_bytes_per_second if beside.kind == "slow readers" else 0.0,
        leave_after_events=beside.leave_after_events if beside.kind == "leavers" else 0,
    )


def beside_question(beside: Beside, scenario: Scenario, model: str | None) -> Question:
    own: Mapping[str, object] = {"stream": beside.stream, "behaviour": beside.behaviour}
    return msgspec.structs.replace(scenario.question(model), **own)
