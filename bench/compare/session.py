"""Run one comparison: start everything, go through the rounds in random order, measure, end everything.

All targets run from beginning to end, since a process that is not asked costs nothing; in every round each
scenario is put to the targets in a new random order, so that slow changes of the machine hit all alike.
Memory is measured first, in processes of its own that have only been warmed up: after a load, an allocator's
free memory would hide what a stream needs, and abandoned streams would burden what is measured later.
"""

import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import trio

from bench.compare.machine import Machine, divide_cpus, this_machine
from bench.compare.scenarios import CompareOptions, Scenario, idle_question, scenarios
from bench.load.learn import learn_expectation
from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import LoadFailed, run_load, streams_held
from bench.load.summary import Summary, summarize
from bench.process import child_process
from bench.process_watch import resident_bytes
from bench.targets.base import (
    PLACEHOLDER_KEY,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
    start_seconds_max,
)

Report = Callable[[str], None]
_WARM_UP_SECONDS = 0.3
# How long memory may settle after the last stream has begun.
_SETTLE_SECONDS = 0.3


class IdleMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of a target without and with idle open streams."""

    streams: int
    bytes_before: int
    bytes_with: int

    @property
    def bytes_per_stream(self) -> float:
        return (self.bytes_with - self.bytes_before) / self.streams


class Comparison(msgspec.Struct, kw_only=True):
    """All that was seen; `rounds[scenario][arm]` has one summary a round, None for one that went wrong."""

    options: CompareOptions
    machine: Machine
    target_cpus: list[int]
    harness_cpus: list[int]
    started: list[str] = []
    unavailable: dict[str, str] = {}
    rounds: dict[str, dict[str, list[Summary | None]]] = {}
    idle: dict[str, IdleMemory] = {}
    broken: list[str] = []
    """Runs that ended without a result or with wrong answers, in words."""


@asynccontextmanager
async def _provider(directory: Path, cpus: Sequence[int]) -> AsyncIterator[str]:
    """Run the simulated provider and give its URL; raises StartFailed."""
    argv = [sys.executable, "-m", "bench.sim", "--port", "0", "--json", "--no-ledger"]
    async with child_process(argv, stderr_path=directory / "sim.stderr", cpus=cpus) as child:
        yield (await child.announcement(start_seconds_max))["base_url"]


class Session:
    """One comparison in progress."""

    def __init__(self, options: CompareOptions, directory: Path, report: Report) -> None:
        machine = this_machine()
        target_cpus, harness_cpus = divide_cpus(machine.cpus)
        self.options = options
        self.seen = Comparison(
            options=options, machine=machine, target_cpus=target_cpus, harness_cpus=harness_cpus
        )
        self._directory = directory
        self._report = report
        self._random = random.Random(options.seed)
        self._running: dict[str, RunningTarget] = {}
        self._expectations: dict[str, Expectation] = {}

    async def run(self, targets: Sequence[Target]) -> Comparison:
        """Run the whole comparison; raises StartFailed or LearnFailed if the provider itself does not
        work."""
        async with AsyncExitStack() as stack:
            upstream_url = await stack.enter_async_context(_provider(self._directory, self.seen.harness_cpus))
            for scenario in scenarios(self.options):
                self._expectations[scenario.name] = await learn_expectation(
                    upstream_url,
                    scenario.question,
                    PLACEHOLDER_KEY,
                    span_seconds_min=scenario.span_seconds_min,
                )
            if self.options.idle_streams:
                for target in targets:
                    await self._measure_memory(target, upstream_url)
            for target in targets:
                if await self._start(stack, target, upstream_url) is not None:
                    self.seen.started.append(target.name)
            for number in range(1, self.options.rounds + 1):
                await self._round(number)
        return self.seen

    async def _start(self, stack: AsyncExitStack, target: Target, upstream_url: str) -> RunningTarget | None:
        """Start a target until the stack ends; None if it takes no part."""
        if target.name in self.seen.unavailable:
            return None
        self._report(f"starting {target.name}")
        context = TargetContext(
            upstream_url=upstream_url,
            directory=Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=self._directory)),
            target_cpus=self.seen.target_cpus,
            harness_cpus=self.seen.harness_cpus,
        )
        try:
            running = await stack.enter_async_context(target.open(context))
        except TargetUnavailable as error:
            self.seen.unavailable[target.name] = str(error)
            self._report(f"{target.name} takes no part: {error}")
            return None
        self._running[target.name] = running
        return running

    async def _round(self, number: int) -> None:
        for scenario in scenarios(self.options):
            arms = list(self._running)
            self._random.shuffle(arms)
            for arm in arms:
                self._report(f"round {number}/{self.options.rounds}, {scenario.title}: {arm}")
                await self._measure(scenario, arm)

    def _plan(self, arm: str, question: Question, expectation: Expectation, connections: int) -> LoadPlan:
        running = self._running[arm]
        return LoadPlan(
            base_url=running.base_url,
            keys=list(running.keys),
            question=question,
            expectation=expectation,
            connections=connections,
            warmup_seconds=self.options.warmup_seconds,
            seconds=self.options.seconds,
        )

    async def _load(self, arm: str, plan: LoadPlan, title: str) -> Summary | None:
        """Run one load and return its figures; None, and a word in `broken`, if any answer was wrong."""
        try:
            result = await run_load(
                plan,
                directory=self._directory,
                cpus=self.seen.harness_cpus,
                watch=self._running[arm].pids,
            )
        except (LoadFailed, trio.TooSlowError) as error:
            self.seen.broken.append(f"{arm}, {title}: {str(error) or 'it took too long'}")
            return None
        summary = summarize(result)
        if summary.ok:
            return summary
        wrong = ", ".join(f"{count} {kind}" for kind, count in summary.failures.items())
        example = next(iter(summary.examples.values()), "no answer at all")
        self.seen.broken.append(f"{arm}, {title}: {wrong or 'no answers'} ({example})")
        return None

    async def _measure(self, scenario: Scenario, arm: str) -> None:
        plan = msgspec.structs.replace(
            self._plan(arm, scenario.question, self._expectations[scenario.name], scenario.connections),
            ramp_seconds=scenario.ramp_seconds,
        )
        summary = await self._load(arm, plan, scenario.title)
        self.seen.rounds.setdefault(scenario.name, {}).setdefault(arm, []).append(summary)

    async def _measure_memory(self, target: Target, upstream_url: str) -> None:
        """Measure idle streams in a process of its own, only warmed up, that ends afterwards."""
        async with AsyncExitStack() as stack:
            running = await self._start(stack, target, upstream_url)
            if running is not None and running.pids:
                self._report(f"memory of {self.options.idle_streams} idle streams: {target.name}")
                await self._measure_idle(target.name, running.pids)

    async def _measure_idle(self, arm: str, pids: Sequence[int]) -> None:
        warm = scenarios(self.options)[0]
        warm_up = self._plan(arm, warm.question, self._expectations[warm.name], warm.connections)
        await self._load(arm, msgspec.structs.replace(warm_up, seconds=_WARM_UP_SECONDS), "warm-up")
        before = resident_bytes(pids)
        plan = self._plan(arm, idle_question(), Expectation(), self.options.idle_streams)
        try:
            async with streams_held(plan, directory=self._directory, cpus=self.seen.harness_cpus) as held:
                streams, tally = held
                await trio.sleep(_SETTLE_SECONDS)
                with_streams = resident_bytes(pids)
        except (LoadFailed, trio.TooSlowError) as error:
            self.seen.broken.append(f"{arm}, idle streams: {str(error) or 'it took too long'}")
            return
        if streams < self.options.idle_streams or tally.failed:
            example = next(iter(tally.examples.values()), "no reason known")
            opened = f"{streams} of {self.options.idle_streams} stayed open"
            self.seen.broken.append(f"{arm}, idle streams: {opened} ({example})")
            return
        self.seen.idle[arm] = IdleMemory(streams=streams, bytes_before=before, bytes_with=with_streams)
