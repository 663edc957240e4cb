"""A whole comparison in miniature, on real processes: right targets pass, wrong ones are told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bench.compare.scenarios import smoke_options
from bench.compare.session import Comparison, Session
from bench.targets.base import PLACEHOLDER_KEY, RunningTarget, Target, TargetContext, TargetUnavailable
from bench.targets.registry import TARGETS
from tests.bench.scripted_server import chunk, events, scripted_server, stream_head

pytestmark = pytest.mark.one_python


class WrongTarget:
    """Answers every stream with three events, whatever was asked."""

    name = "wrong"
    description = "a target that makes up its answers"
    governed = optional = False

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        answer = stream_head() + b"".join(map(chunk, events(3))) + chunk(b"")
        with scripted_server(lambda _: [answer]) as server:
            yield RunningTarget(base_url=server.base_url, keys=[PLACEHOLDER_KEY], pids=[])


class MissingTarget(WrongTarget):
    """Cannot be started."""

    name = "missing"

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        raise TargetUnavailable("it is not installed")
        yield


async def compared(targets: list[Target], tmp_path: Path, **changes: object) -> tuple[Comparison, list[str]]:
    told: list[str] = []
    options = msgspec.structs.replace(smoke_options([target.name for target in targets]), **changes)
    return await Session(options, tmp_path, told.append).run(targets), told


async def test_every_scenario_is_put_to_every_arm(tmp_path: Path) -> None:
    seen, told = await compared([TARGETS["direct"], TARGETS["relay"]], tmp_path)
    assert seen.broken == []
    assert seen.started == ["direct", "relay"]
    for scenario in ("unary", "alone", "burst", "paced"):
        for arm in seen.started:
            summaries = seen.rounds[scenario][arm]
            [summary] = summaries
            assert summary is not None
            assert summary.ok
            assert (summary.target_cpu_seconds is None) is (arm == "direct")
    assert any("round 1/1" in line and "relay" in line for line in told)
    decoded = msgspec.json.decode(msgspec.json.encode(seen), type=Comparison)
    assert decoded == seen


async def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    seen, _ = await compared([TARGETS["relay"]], tmp_path, rounds=0, idle_streams=20)
    assert seen.broken == []
    assert seen.idle["relay"].streams == 20
    assert seen.idle["relay"].bytes_with > 0


async def test_wrong_and_missing_targets_are_told_and_have_no_figures(tmp_path: Path) -> None:
    seen, told = await compared([WrongTarget(), MissingTarget()], tmp_path)
    assert seen.started == ["wrong"]
    assert seen.unavailable == {"missing": "it is not installed"}
    assert len(seen.broken) == 4
    assert any("events" in line for line in seen.broken)
    assert all(summaries == [None] for by_arm in seen.rounds.values() for summaries in by_arm.values())
    assert "missing takes no part: it is not installed" in told


async def test_idle_streams_that_end_are_told(tmp_path: Path) -> None:
    class Watched(WrongTarget):
        @asynccontextmanager
        async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
            async with super().open(context) as running:
                yield msgspec.structs.replace(running, pids=[1])

    seen, _ = await compared([Watched()], tmp_path, rounds=0, idle_streams=4)
    assert any("idle streams" in line for line in seen.broken)
    assert seen.idle == {}
