"""A whole comparison in miniature, on real processes: right targets pass, wrong ones are told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.progress import Listener
from bench.compare.scenarios import Beside, CompareOptions, Scenario, Suite
from bench.compare.session import Session
from bench.compare.suite import load_suite
from bench.targets.base import (
    PLACEHOLDER_KEY,
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
)
from bench.targets.python_module import PythonModuleTarget
from bench.targets.registry import TARGETS
from bench.targets.url import URLTarget
from tests.bench.scripted_server import chunk, events, scripted_server, stream_head

IDLE = Scenario(name="idle", loop="hold", stream=True, behaviour="tokens=10,pace_ms=3600000", connections=20)


class WrongTarget(Target):
    """Answers every stream with three events, whatever was asked."""

    name = "wrong"
    description = "a target that makes up its answers"

    def installation(self) -> Installation:
        return Installation(ready=True, version="0")

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


class Told(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.total = self.stepped_times = 0

    def steps(self, total: int) -> None:
        self.total = total

    def say(self, text: str) -> None:
        self.lines.append(text)

    def stepped(self) -> None:
        self.stepped_times += 1


async def compared(
    targets: list[Target], tmp_path: Path, suite: Suite, **changes: object
) -> tuple[Comparison, Told]:
    told = Told()
    options = CompareOptions(
        arms=[target.name for target in targets], rounds=1, seconds=0.2, warmup_seconds=0.2, smoke=True
    )
    session = Session(suite, msgspec.structs.replace(options, **changes), tmp_path, told)
    return await session.run(targets), told


async def test_every_scenario_is_put_to_every_arm(tmp_path: Path) -> None:
    suite = load_suite("smoke")
    seen, told = await compared([TARGETS["direct"], TARGETS["relay"]], tmp_path, suite)
    assert seen.broken == []
    assert seen.started == ["direct", "relay"]
    for scenario in ("unary", "alone", "burst", "paced"):
        for arm in seen.started:
            [summary] = seen.rounds[scenario][arm]
            assert summary is not None
            assert summary.ok
            assert (summary.target_cpu_seconds is None) is (arm == "direct")
    assert any("round 1/1" in line and "relay" in line for line in told.lines)
    assert told.total == told.stepped_times == 8
    assert "bench.relay" in seen.commands["relay"]
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Comparison) == seen


async def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    suite = Suite(title="idle", scenario=[IDLE])
    seen, told = await compared([TARGETS["relay"]], tmp_path, suite, rounds=0)
    assert seen.broken == []
    assert seen.idle["idle"]["relay"].streams == 20
    assert seen.idle["idle"]["relay"].bytes_with > 0
    assert told.total == told.stepped_times == 1


async def test_memory_is_measured_with_as_many_workers_and_keys_as_the_scenario_has(tmp_path: Path) -> None:
    class Several(PythonModuleTarget):
        @asynccontextmanager
        async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
            contexts.append(context)
            async with super().open(msgspec.structs.replace(context, workers=1)) as running:
                yield running

    contexts: list[TargetContext] = []
    relay = Several("relay", "bench.relay", "the relay")
    scenario = msgspec.structs.replace(IDLE, workers=2, keys=300)
    seen, _ = await compared([relay], tmp_path, Suite(title="idle", scenario=[scenario]), rounds=0)
    assert seen.broken == []
    assert seen.idle["idle"]["relay"].streams == 20
    assert [(context.workers, context.quick_digests) for context in contexts] == [(2, True)]


async def test_a_url_with_too_few_keys_is_out_of_the_scenario_and_that_is_no_fault(
    provider_url: str, tmp_path: Path
) -> None:
    suite = Suite(title="keys", scenario=[Scenario(name="one"), Scenario(name="many", keys=3)])
    mine = URLTarget("mine", provider_url, keys=["real"])
    seen, _ = await compared([mine], tmp_path, suite, rounds=2, provider_url=provider_url)
    assert (seen.broken, seen.missing) == ([], [])
    assert seen.declined == {"many": {"mine": "the scenario wants 3 keys, and mine has 1"}}
    assert all(seen.rounds["one"]["mine"])


async def test_wrong_and_missing_targets_are_told_and_have_no_figures(tmp_path: Path) -> None:
    stream = Scenario(name="burst", stream=True, behaviour="tokens=9")
    suite = Suite(title="wrong", scenario=[stream])
    seen, _ = await compared([WrongTarget(), MissingTarget()], tmp_path, suite)
    assert seen.started == ["wrong"]
    assert seen.unavailable == {"missing": "it is not installed"}
    assert seen.missing == ["missing"]
    assert len(seen.broken) == 1
    assert "events" in seen.broken[0]
    assert seen.rounds == {"burst": {"wrong": [None]}}


async def test_who_does_not_answer_the_first_time_is_out_of_the_scenario(tmp_path: Path) -> None:
    class Unary(WrongTarget):
        optional = True

    suite = Suite(title="wrong", scenario=[Scenario(name="unary")])
    url = URLTarget("gone", "http://127.0.0.1:1", keys=["k"])
    seen, _ = await compared([Unary(), url], tmp_path, suite)
    assert "gave no answer" in seen.declined["unary"]["gone"]
    # Of a target that has to be there it is a fault.
    assert [line.split(",")[0] for line in seen.broken] == ["gone", "wrong"] or [
        line.split(",")[0] for line in seen.broken
    ] == ["wrong", "gone"]


async def test_idle_streams_that_end_are_told(tmp_path: Path) -> None:
    class Watched(WrongTarget):
        @asynccontextmanager
        async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
            async with super().open(context) as running, TARGETS["relay"].open(context) as relay:
                yield msgspec.structs.replace(relay, base_url=running.base_url)

    seen, _ = await compared([Watched()], tmp_path, Suite(title="idle", scenario=[IDLE]), rounds=0)
    assert seen.idle == {}
    assert seen.broken


async def test_tls_others_beside_and_too_much_load(tmp_path: Path) -> None:
    suite = Suite(
        title="several",
        scenario=[
            Scenario(name="tls", tls=True, connections=2),
            Scenario(
                name="beside",
                connections=2,
                beside=[
                    Beside(kind="leavers", stream=True, behaviour="tokens=50,pace_ms=5", connections=2),
                    Beside(kind="slow readers", stream=True, connections=2, read_bytes_per_second=50_000),
                ],
            ),
            Scenario(
                name="load",
                loop="open",
                behaviour="tokens=5,ttft_ms=300",
                connections=1,
                sweep={"rate": [20, 200]},
            ),
        ],
    )
    seen, _ = await compared([TARGETS["direct"], TARGETS["relay"]], tmp_path, suite)
    [over_tls] = seen.rounds["tls"]["direct"]
    assert over_tls is not None
    assert over_tls.requests > 0
    assert "plain http" in seen.unavailable["relay (TLS)"]
    [summary] = seen.rounds["beside"]["relay"]
    assert summary is not None
    assert summary.ok
    # One connection and 300 ms an answer are good for three questions a second.
    assert seen.overloaded == {"load": {"direct": 20, "relay": 20}}
    assert seen.rounds["load@200"] == {"direct": [None], "relay": [None]}
    assert seen.broken == []
