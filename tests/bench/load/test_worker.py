"""The worker process speaks its protocol: a plan in, phases and a tally out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop

from bench.load.plan import LoadPlan, Question
from bench.load.tally import Tally
from bench.load.worker import Parent, Progress, run_plan
from bench.process import child_process
from tests.bench.load.driving import plan_for, tally_against
from tests.bench.scripted_server import chunk, events, scripted_server, stream_head, unary


async def phases(plan: LoadPlan, tmp_path: Path, *, release: bool = False) -> list[Progress]:
    argv = [sys.executable, "-m", "bench.load.worker"]
    seen = []
    async with child_process(argv, stderr_path=tmp_path / "stderr") as worker:
        await worker.stdin.send_all(msgspec.json.encode(plan) + b"\n")
        while line := await worker.lines.line():
            seen.append(msgspec.json.decode(line, type=Progress))
            if release and seen[-1].phase == "held":
                await worker.stdin.send_all(b"\n")
    assert worker.stderr_end() == ""
    assert worker.returncode == 0
    return seen


@pytest.mark.parametrize("changes", [{"driver": "closed"}, {"driver": "open", "rate_per_second": 50.0}])
async def test_it_tells_when_the_window_opens_and_closes(changes: dict[str, object], tmp_path: Path) -> None:
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        opened, closed, done = await phases(plan_for(server.base_url, **changes), tmp_path)
    assert (opened.phase, closed.phase, done.phase) == ("open", "closed", "done")
    assert done.tally is not None
    assert done.tally.requests > 0
    assert done.tally.failures == {}


def test_a_window_stays_open_until_there_is_something_to_tell() -> None:
    tally = tally_against(lambda _: [0.2, unary(b"{}")], seconds=0.05, answer_seconds_max=30.0)
    assert tally.failed == 0
    assert tally.requests == 1
    assert tally.seconds > 0.15
    more = tally_against(lambda _: [unary(b"{}")], seconds=0.001, answers_min=50)
    assert more.requests >= 50


def test_a_window_in_which_nothing_comes_ends_with_the_failure() -> None:
    tally = tally_against(lambda _: [60.0], seconds=0.05, answer_seconds_max=0.1)
    assert set(tally.failures) == {"timeout"}
    assert tally.requests == 0


def test_what_was_due_in_the_window_is_asked_however_late_the_pacer_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def asleep(*_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr("bench.load.worker.paced", asleep)
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        plan = plan_for(server.base_url, driver="open", rate_per_second=100.0, seconds=0.2, answers_min=0)
        tally = Tally()
        tally.add(uvloop.run(run_plan(plan, Parent())))
    assert tally.requests == pytest.approx(100 * tally.seconds, abs=2)
    assert tally.lateness.total + tally.waited == tally.requests
    assert tally.latency.percentile(100) > 100_000_000


async def test_held_streams_stay_until_it_is_told(tmp_path: Path) -> None:
    with scripted_server(lambda _: [stream_head() + chunk(events(2)[0]), 30.0]) as server:
        plan = plan_for(server.base_url, driver="hold", connections=20, question=Question(stream=True))
        held, done = await phases(plan, tmp_path, release=True)
    assert (held.phase, held.streams) == ("held", 20)
    assert done.tally is not None
    assert done.tally.failures == {}


def test_streams_that_cannot_be_held_are_failures() -> None:
    changes = {"driver": "hold", "connections": 3, "question": Question(stream=True)}
    tally = tally_against(lambda _: [unary(b"{}", status="429 No")], **changes)
    assert tally.failures == {"status": 3}
