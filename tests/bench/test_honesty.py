"""The harness finds out a target that lies, and accuses nobody else: the report says so in each case.

Beside each liar an honest relay is in the same comparison, which must come out clean.
"""

from pathlib import Path

from bench.compare.comparison import Comparison
from bench.compare.scenarios import CompareOptions, Scenario, Suite
from bench.compare.session import Session
from bench.load.answer import Failure
from bench.report.charts import distribution_charts
from bench.report.page import report_html
from bench.targets.registry import TARGETS
from tests.bench.dishonest import Lie, LyingTarget


async def compared(lie: Lie, scenario: Scenario, folder: Path, seconds: float) -> Comparison:
    targets = [TARGETS["direct"], TARGETS["relay"], LyingTarget(lie)]
    options = CompareOptions(
        arms=[target.name for target in targets], rounds=1, seconds=seconds, warmup_seconds=0.1
    )
    suite = Suite(title="honesty", scenario=[scenario])
    seen = await Session(suite, options, folder).run(targets)
    assert seen.started == ["direct", "relay", lie]
    return seen


def accused(seen: Comparison, lie: Lie, failure: Failure) -> None:
    """Only the liar is told of, with what it did, and the page shows it."""
    assert seen.broken, "nobody noticed"
    assert all(line.startswith(f"{lie}, ") for line in seen.broken), seen.broken
    assert any(failure.value in line for line in seen.broken), seen.broken
    assert "<h2>Wrong</h2>" in report_html(seen)


async def test_a_millisecond_of_sleep_is_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="alone", behaviour="tokens=10")
    seen = await compared("sleeps", scenario, tmp_path, 0.5)
    assert seen.broken == []
    [summary] = seen.rounds["alone"]["sleeps"]
    assert summary is not None
    assert summary.latency_ms is not None
    assert summary.latency_ms.p50 >= 1.0
    [chart] = distribution_charts(seen, scenario)
    # The fastest answers of each: what a busy machine adds to the others, it did not add to these.
    fastest = {line.arm: line.y[0] or 0.0 for line in chart.lines}
    assert fastest["sleeps"] >= 0.7
    assert fastest["relay"] < fastest["sleeps"]
    assert "added p50 ms" in report_html(seen)


async def test_one_frame_lost_in_ten_thousand_is_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="burst", stream=True, behaviour="tokens=1000", connections=2)
    seen = await compared("drops", scenario, tmp_path, 1.5)
    accused(seen, "drops", Failure.EVENTS)
    assert seen.rounds["burst"]["drops"] == [None]


async def test_frames_that_are_held_and_joined_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="paced", stream=True, behaviour="tokens=30", pace_ms=25, connections=2)
    seen = await compared("merges", scenario, tmp_path, 0.6)
    accused(seen, "merges", Failure.MERGED)


async def test_answers_that_nobody_asked_for_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="unary", behaviour="tokens=10", connections=2)
    seen = await compared("replays", scenario, tmp_path, 0.3)
    accused(seen, "replays", Failure.UNASKED)


async def test_answers_before_their_time_are_seen(tmp_path: Path) -> None:
    scenario = Scenario(name="slow", behaviour="tokens=10,ttft_ms=50", connections=2)
    seen = await compared("replays", scenario, tmp_path, 0.3)
    accused(seen, "replays", Failure.EARLY)
