"""Workers are shared out, added up, watched; and their deaths are told."""

import os
from pathlib import Path

import pytest

from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.load.run import LoadFailed, run_load, shares, streams_held
from bench.process_watch import descendants
from tests.bench.load.driving import plan_for
from tests.bench.scripted_server import chunk, events, scripted_server, stream_head


def test_connections_and_rate_are_shared_out() -> None:
    plan = plan_for("http://h", processes=3, connections=10, rate_per_second=9.0, driver="open")
    parts = shares(plan)
    assert [part.connections for part in parts] == [4, 3, 3]
    assert sum(part.rate_per_second for part in parts) == pytest.approx(9.0)
    assert len(shares(plan_for("http://h", processes=5, connections=2))) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_two_workers_load_the_simulated_provider(
    provider_url: str, tmp_path: Path, stream: bool
) -> None:
    question = Question(behaviour="tokens=7", stream=stream)
    expectation = await learn_expectation(provider_url, question, "sk-test")
    assert expectation.body_crc32 is not None
    plan = plan_for(
        provider_url,
        keys=["sk-a", "sk-b"],
        question=question,
        expectation=expectation,
        connections=4,
        processes=2,
    )
    result = await run_load(plan, directory=tmp_path, watch=[os.getpid()])
    assert result.tally.failures == {}
    assert result.tally.requests > 0
    assert result.target_cpu_seconds is not None
    assert result.target_resident_bytes
    assert bool(result.tally.events) is stream


async def test_time_that_ended_threads_took_along_is_none(
    provider_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cpu_seconds", "starved_seconds"):
        counts = iter((5.0, 3.0))
        monkeypatch.setattr(f"bench.load.run.{name}", lambda _, counts=counts: next(counts))
    result = await run_load(plan_for(provider_url), directory=tmp_path, watch=[os.getpid()])
    assert (result.target_cpu_seconds, result.target_starved_seconds) == (0.0, 0.0)


async def test_an_unwatched_target_has_no_cpu_time(provider_url: str, tmp_path: Path) -> None:
    result = await run_load(plan_for(provider_url), directory=tmp_path)
    assert result.target_cpu_seconds is None


async def test_a_worker_that_cannot_work_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="http:// or https://"):
        await run_load(plan_for("ftp://nowhere"), directory=tmp_path)


async def test_streams_are_held_while_the_body_runs(tmp_path: Path) -> None:
    with scripted_server(lambda _: [stream_head() + chunk(events(2)[0]), 30.0]) as server:
        plan = plan_for(server.base_url, connections=5, question=Question(stream=True))
        async with streams_held(plan, directory=tmp_path) as (streams, tally):
            assert streams == 5
            assert len(server.asked) == 5
        assert tally.failed == 0
    assert descendants(os.getpid()) == [] or all(descendants(os.getpid()))
