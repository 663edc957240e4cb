"""The harness finds out a target that lies, and accuses nobody else: the report says so in each case.

Beside each liar an honest relay is in the same comparison, which must come out clean.

What is judged by time is tried several times: on a machine that stands still, an honest target's frames come
together, and a liar's answer comes late enough. Who sees nothing, or accuses everybody, does so every time.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.compare.comparison import Comparison
from bench.compare.scenarios import CompareOptions, Scenario, Suite
from bench.compare.session import Session
from bench.load.answer import Failure
from bench.report.charts import distribution_charts
from bench.report.page import report_html
from bench.targets.base import Target
from bench.targets.registry import TARGETS
from tests.bench.dishonest import Lie, LyingTarget

TRIES = 6


async def compared(lie: Lie, scenario: Scenario, folder: Path, seconds: float) -> Comparison:
    targets = [TARGETS["direct"], TARGETS["relay"], LyingTarget(lie)]
    seen = await measured(targets, scenario, folder, seconds)
    assert seen.started == ["direct", "relay", lie]
    return seen


async def measured(targets: Sequence[Target], scenario: Scenario, folder: Path, seconds: float) -> Comparison:
    options = CompareOptions(
        arms=[target.name for target in targets], rounds=1, seconds=seconds, warmup_seconds=0.1
    )
    suite = Suite(title="honesty", scenario=[scenario])
    return await Session(suite, options, folder).run(targets)


def accused(seen: Comparison, lie: Lie, failure: Failure) -> None:
    """Only the liar is told of, with what it did, and the page shows it."""
    assert seen.broken, "nobody noticed"
    assert all(line.startswith(f"{lie}, ") for line in seen.broken), seen.broken
    assert any(failure.value in line for line in seen.broken), seen.broken
    assert "<h2>Wrong</h2>" in report_html(seen)


async def accused_by_time(
    lie: Lie, scenario: Scenario, folder: Path, seconds: float, failure: Failure
) -> None:
    for tries_left in reversed(range(TRIES)):
        seen = await compared(lie, scenario, folder, seconds)
        try:
            accused(seen, lie, failure)
        except AssertionError:
            if not tries_left:
                raise
        else:
            return


async def test_a_millisecond_of_sleep_is_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="alone", behaviour="tokens=10")
    for tries_left in reversed(range(TRIES)):
        seen = await compared("sleeps", scenario, tmp_path, 0.4)
        assert seen.broken == []
        [summary] = seen.rounds["alone"]["sleeps"]
        assert summary is not None
        assert summary.latency_ms is not None
        assert min(summary.latency_ms.spectrum) >= 0.99
        assert "added p50 ms" in report_html(seen)
        [chart] = distribution_charts(seen, scenario)
        # The fastest answers of each: what a busy machine adds to the others, it did not add to these.
        fastest = {line.arm: line.y[0] or 0.0 for line in chart.lines}
        if fastest["sleeps"] >= 0.7 and fastest["relay"] < fastest["sleeps"]:
            return
        assert tries_left, fastest


async def test_one_frame_lost_in_ten_thousand_is_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="burst", stream=True, behaviour="tokens=1000", connections=2)
    seen = await compared("drops", scenario, tmp_path, 0.3)
    accused(seen, "drops", Failure.EVENTS)
    assert seen.rounds["burst"]["drops"] == [None]


async def test_frames_that_are_held_and_joined_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="paced", stream=True, behaviour="tokens=10", pace_ms=40, connections=2)
    await accused_by_time("merges", scenario, tmp_path, 0.4, Failure.MERGED)


async def test_streams_that_are_collected_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="paced", stream=True, behaviour="tokens=10", pace_ms=15)
    await accused_by_time("collects", scenario, tmp_path, 0.1, Failure.BUFFERED)


async def test_who_was_held_up_once_is_not_accused(tmp_path: Path) -> None:
    """It did once what a collector does always: what is believed is what happens again."""
    scenario = Scenario(name="paced", stream=True, behaviour="tokens=10", pace_ms=15)
    for tries_left in reversed(range(TRIES)):
        # The first is the one that it is tried with.
        seen = await measured([LyingTarget("collects", times=2)], scenario, tmp_path, 0.1)
        if not seen.broken:
            return
        assert tries_left, seen.broken


async def test_answers_that_nobody_asked_for_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="unary", behaviour="tokens=10", connections=2)
    seen = await compared("replays", scenario, tmp_path, 0.3)
    accused(seen, "replays", Failure.UNASKED)


async def test_answers_before_their_time_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="slow", behaviour="tokens=10,ttft_ms=50", connections=2)
    await accused_by_time("replays", scenario, tmp_path, 0.3, Failure.EARLY)
