"""Run one comparison: start everything, go through the rounds in random order, measure, end everything.

All targets run from beginning to end, since a process that is not asked costs nothing; in every round each
scenario is put to the targets in a new random order, so that slow changes of the machine hit all alike.
Before the first round each scenario is asked once of each arm: one that does not answer it right takes no
part in it.  Memory is measured first, in processes of its own that have only been warmed up: after a load,
an allocator's free memory would hide what a stream needs, and abandoned streams would burden what is
measured later.
"""

import datetime
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import trio

from bench.compare import verdicts
from bench.compare.arms import Arms, Variant, variant_of
from bench.compare.awake import kept_awake
from bench.compare.certificate import write_certificate
from bench.compare.comparison import Comparison, IdleMemory
from bench.compare.machine import divide_cpus, this_machine
from bench.compare.plans import beside_plan, beside_question, expected_of, plan_of
from bench.compare.progress import Listener
from bench.compare.provider import Provider, found_provider, running_provider
from bench.compare.scenarios import CompareOptions, Scenario, Suite
from bench.load.answer import Failure
from bench.load.learn import LearnFailed, ask_once, learn_expectation
from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import LoadFailed, LoadResult, run_load, streams_held
from bench.load.summary import Summary, summarize
from bench.process_watch import resident_bytes
from bench.targets.base import PLACEHOLDER_KEY, RunningTarget, Target, TargetUnavailable

_WARM_UP_SECONDS = 0.3
# How long memory may settle after the last stream has begun.
_SETTLE_SECONDS = 0.3
_WAITED_SHARE_MAX = 0.5
# A stream that comes all at once was collected, or the machine stood still for as long as it took.  Who
# collects streams does so every time.
_PACE_TRIES = 3
_CEILING_ARM = "direct"
_WARM_QUESTION = Scenario(name="warm-up", behaviour="tokens=60", connections=32)


class Session:
    """One comparison in progress."""

    def __init__(
        self, suite: Suite, options: CompareOptions, directory: Path, listener: Listener | None = None
    ) -> None:
        machine = this_machine()
        target_cpus, harness_cpus = divide_cpus(machine.cpus)
        self.seen = Comparison(
            options=options,
            machine=machine,
            target_cpus=target_cpus,
            harness_cpus=harness_cpus,
            title=suite.title,
            goals=suite.goals,
            began=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            scenarios=suite.scenarios(),
        )
        self._directory = directory
        self._listener = listener or Listener()
        self._random = random.Random(options.seed)
        self._targets: dict[str, Target] = {}
        self._providers: dict[bool, Provider] = {}
        self._given_up: set[tuple[str, str]] = set()
        self._too_much: Counter[tuple[str, str]] = Counter()
        self._learnt: dict[tuple[Question, bool], Expectation] = {}

    async def run(self, targets: Sequence[Target]) -> Comparison:
        """Run the whole comparison; raises StartFailed or LearnFailed if the provider itself does not
        work."""
        seen = self.seen
        self._targets = {target.name: target for target in targets}
        for target in targets:
            seen.versions[target.name] = target.installation().version
            seen.dialects[target.name] = list(target.dialects)
        async with AsyncExitStack() as stack:
            if seen.options.keep_awake:
                await stack.enter_async_context(kept_awake(seen.harness_cpus, self._directory))
            await self._find_providers(stack)
            for scenario in seen.scenarios:
                await self._learn(scenario, scenario.question())
            self._listener.steps(self._steps())
            for scenario in seen.scenarios:
                if scenario.idle:
                    for target in self._takers(scenario):
                        await self._measure_memory(target, scenario)
            arms = await self._start_all(stack)
            await self._probe_all(arms)
            for number in range(1, seen.options.rounds + 1):
                await self._round(arms, number)
        self._tell_overload()
        seen.broken += [] if seen.options.smoke else verdicts.merged(seen)
        return seen

    def _tell_overload(self) -> None:
        """Tell the least rate that was too much for an arm in most rounds."""
        for scenario in self.seen.scenarios:
            for arm in self.seen.started:
                if self._too_much[scenario.name, arm] > self.seen.options.rounds / 2:
                    worst = self.seen.overloaded.setdefault(scenario.family or scenario.name, {})
                    worst[arm] = min(scenario.rate, worst.get(arm, scenario.rate))

    async def _find_providers(self, stack: AsyncExitStack) -> None:
        options = self.seen.options
        if options.provider_url is not None:
            self._providers[False] = await stack.enter_async_context(found_provider(options.provider_url))
            await self._providers[False].requests_seen()
        else:
            plain = running_provider(self._directory, self.seen.harness_cpus)
            self._providers[False] = await stack.enter_async_context(plain)
        if any(scenario.tls for scenario in self.seen.scenarios):
            certificate = write_certificate(self._directory)
            over_tls = running_provider(self._directory, self.seen.harness_cpus, certificate=certificate)
            self._providers[True] = await stack.enter_async_context(over_tls)

    def _takers(self, scenario: Scenario) -> list[Target]:
        """Return the targets that a scenario is for."""
        return [
            target
            for target in self._targets.values()
            if scenario.dialect in target.dialects
            and (not scenario.only or target.name in scenario.only)
            and (not scenario.failover or target.fallback_model or target.name == _CEILING_ARM)
        ]

    def _steps(self) -> int:
        """Return how many measurements there will be, if every target takes part."""
        rounds = self.seen.options.rounds
        return sum(
            len(self._takers(one)) * (1 if one.idle or (one.once and rounds) else rounds)
            for one in self.seen.scenarios
        )

    async def _learn(self, scenario: Scenario, question: Question) -> Expectation | None:
        """Return what the provider answers to a question; None for one that has no end."""
        if scenario.idle:
            return None
        provider = self._providers[scenario.tls]
        if scenario.failover:
            # Whoever falls back asks the second provider just this.
            question = scenario.question()
        if question.model is not None:
            await provider.name_model(question.model, question.behaviour)
        learnt = self._learnt.get((question, scenario.tls))
        if learnt is None:
            learnt = await learn_expectation(
                provider.url, question, PLACEHOLDER_KEY, ca_file=provider.ca_file
            )
            self._learnt[question, scenario.tls] = learnt
        return learnt

    def _question(self, target: Target, scenario: Scenario) -> Question:
        return scenario.question(target.fallback_model if scenario.failover else target.model)

    # ---- starting

    async def _start_all(self, stack: AsyncExitStack) -> Arms:
        arms = Arms(self.seen, self._directory, self._providers, stack)
        for target in self._targets.values():
            by_variant: dict[Variant, list[Scenario]] = {}
            for scenario in self.seen.scenarios:
                if target in self._takers(scenario) and not scenario.idle:
                    by_variant.setdefault(variant_of(scenario), []).append(scenario)
            for variant, wanted in by_variant.items():
                self._listener.say(f"starting {target.name}{variant}")
                await arms.start(target, variant, wanted)
            if any(name == target.name for name, _ in arms.running):
                self.seen.started.append(target.name)
        return arms

    async def _probe_all(self, arms: Arms) -> None:
        """Ask every question once of every arm; who does not answer it right is out of the scenario."""
        tried: dict[tuple[str, Variant, Question], str | None] = {}
        for scenario in self.seen.scenarios:
            for target in self._takers(scenario):
                running = arms.running.get((target.name, variant_of(scenario)))
                if scenario.idle or running is None:
                    continue
                self._listener.say(f"trying {target.name}: {scenario.title or scenario.name}")
                question = self._question(target, scenario)
                learnt = await self._learn(scenario, question)
                # The points of a sweep mostly ask the same.
                asked = target.name, variant_of(scenario), question
                if asked not in tried:
                    tried[asked] = await self._try(target, running, question, learnt)
                if (why := tried[asked]) is not None:
                    self._decline(scenario, target, why, fault=not target.optional)

    @staticmethod
    async def _try(
        target: Target, running: RunningTarget, question: Question, learnt: Expectation | None
    ) -> str | None:
        """Ask a question once; return what is wrong with the answer, None for nothing."""
        try:
            found = await ask_once(
                running.base_url,
                question,
                running.keys[0],
                headers=running.headers,
                ca_file=running.ca_file,
            )
        except LearnFailed as error:
            return str(error)
        if target.check == "text" and learnt is not None and found.text_crc32 != learnt.text_crc32:
            return "its answer says something else than the provider's"
        return None

    def _decline(self, scenario: Scenario, target: Target, why: str, *, fault: bool) -> None:
        self.seen.declined.setdefault(scenario.name, {})[target.name] = why
        if fault:
            self.seen.broken.append(f"{target.name}, {scenario.title or scenario.name}: {why}")

    # ---- rounds

    async def _round(self, arms: Arms, number: int) -> None:
        options = self.seen.options
        self._given_up.clear()
        for scenario in self.seen.scenarios:
            if scenario.idle or (scenario.once and number < options.rounds):
                continue
            takers = [
                target
                for target in self._takers(scenario)
                if (target.name, variant_of(scenario)) in arms.running
                and target.name not in self.seen.declined.get(scenario.name, {})
            ]
            self._random.shuffle(takers)
            for target in takers:
                title = scenario.title or scenario.name
                self._listener.say(f"round {number}/{options.rounds}, {title}: {target.name}")
                summary = await self._measure(arms, scenario, target)
                self.seen.rounds.setdefault(scenario.name, {}).setdefault(target.name, []).append(summary)
                self._listener.measured(target.name, title, summary)
                self._listener.stepped()

    async def _measure(self, arms: Arms, scenario: Scenario, target: Target) -> Summary | None:
        if (scenario.family, target.name) in self._given_up:
            # The lower rate was too much in this round already.
            self._too_much[scenario.name, target.name] += 1
            return None
        running = arms.running[target.name, variant_of(scenario)]
        question = self._question(target, scenario)
        learnt = await self._learn(scenario, question)
        assert learnt is not None
        expectation = expected_of(target.check, learnt, scenario)
        try:
            keys = arms.keys_for(target, scenario)
        except TargetUnavailable as error:
            self._decline(scenario, target, str(error), fault=target.governed and not target.optional)
            return None
        plan = plan_of(scenario, self.seen.options, running, question, expectation, keys)
        plans = [plan]
        for beside in scenario.beside:
            asked = beside_question(beside, scenario, target.model)
            known = None if target.model else await self._learn(scenario, asked)
            if known is not None:
                # Nobody's pace is judged but that of the load whose figures are taken.
                known = expected_of(target.check, known, _WARM_QUESTION)
            plans.append(beside_plan(beside, plan, known, asked))
        return await self._load(arms, scenario, target, plans, running.pids)

    async def _load(
        self,
        arms: Arms,
        scenario: Scenario,
        target: Target,
        plans: Sequence[LoadPlan],
        watch: Sequence[int],
    ) -> Summary | None:
        """Run the first plan, and the others beside it; return its figures, None if it has none."""
        provider = arms.provider_of(scenario)
        title = scenario.title or scenario.name
        for _ in range(_PACE_TRIES):
            before = await provider.requests_seen()
            try:
                results = await self._run_together(plans, watch)
            except (LoadFailed, trio.TooSlowError) as error:
                self.seen.broken.append(f"{target.name}, {title}: {str(error) or 'it took too long'}")
                return None
            asked = await provider.requests_seen() - before
            summary, *others = [
                summarize(result, pace_ms=plan.question.pace_ms)
                for plan, result in zip(plans, results, strict=True)
            ]
            if set(summary.failures) != {Failure.BUFFERED.value}:
                break
        if scenario.loop == "open" and self._is_too_much(summary):
            if scenario.family:
                self._given_up.add((scenario.family, target.name))
            self._too_much[scenario.name, target.name] += 1
            return None
        faults = [
            f"beside: {wrong}"
            for beside, one in zip(scenario.beside, others, strict=True)
            if one.failures and not verdicts.only_late(beside, one) and (wrong := _wrong(one)) is not None
        ]
        if (wrong := _wrong(summary)) is not None:
            faults.insert(0, wrong)
        if not others and target.check != "status":
            faults += verdicts.unasked(summary.answers_checked, asked)
        self.seen.broken += [f"{target.name}, {title}: {fault}" for fault in faults]
        return None if faults else summary

    async def _run_together(self, plans: Sequence[LoadPlan], watch: Sequence[int]) -> list[LoadResult]:
        """Run all plans at once and return their results in order; the first failure ends the others."""
        results: dict[int, LoadResult] = {}
        failed: list[Exception] = []

        async def run(index: int, plan: LoadPlan) -> None:
            try:
                results[index] = await run_load(
                    plan,
                    directory=self._directory,
                    cpus=self.seen.harness_cpus,
                    watch=watch if index == 0 else (),
                )
            except (LoadFailed, trio.TooSlowError) as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for index, plan in enumerate(plans):
                nursery.start_soon(run, index, plan)
        if failed:
            raise failed[0]
        return [results[index] for index in range(len(plans))]

    @staticmethod
    def _is_too_much(summary: Summary) -> bool:
        kinds = set(summary.failures)
        return bool(kinds and kinds <= verdicts.overload) or (
            not kinds and summary.waited_share > _WAITED_SHARE_MAX
        )

    # ---- memory

    async def _measure_memory(self, target: Target, scenario: Scenario) -> None:
        """Measure idle streams in a process of its own, only warmed up, that ends afterwards."""
        title = scenario.title or scenario.name
        self._listener.say(f"{title}: {target.name}")
        async with AsyncExitStack() as stack:
            arms = Arms(self.seen, self._directory, self._providers, stack)
            await arms.start(target, variant_of(scenario), [scenario])
            running = arms.running.get((target.name, variant_of(scenario)))
            if running is not None and running.pids:
                await self._measure_idle(arms, target, scenario)
        self._listener.stepped()

    async def _measure_idle(self, arms: Arms, target: Target, scenario: Scenario) -> None:
        alike = {name: getattr(scenario, name) for name in ("dialect", "keys", "tls", "workers")}
        warm = msgspec.structs.replace(_WARM_QUESTION, seconds=_WARM_UP_SECONDS, **alike)
        if await self._measure(arms, warm, target) is None:
            return
        running = arms.running[target.name, variant_of(scenario)]
        before = resident_bytes(running.pids)
        provider = self._providers[scenario.tls]
        question = self._question(target, scenario)
        if question.model is not None:
            await provider.name_model(question.model, question.behaviour)
        plan = plan_of(scenario, self.seen.options, running, question, Expectation(), running.keys[:1])
        name = f"{target.name}, {scenario.title or scenario.name}"
        try:
            async with streams_held(plan, directory=self._directory, cpus=self.seen.harness_cpus) as held:
                streams, tally = held
                await trio.sleep(_SETTLE_SECONDS)
                with_streams = resident_bytes(running.pids)
        except (LoadFailed, trio.TooSlowError) as error:
            self.seen.broken.append(f"{name}: {str(error) or 'it took too long'}")
            return
        if streams < scenario.connections or tally.failed:
            example = next(iter(tally.examples.values()), "no reason known")
            opened = f"{streams} of {scenario.connections} stayed open"
            self.seen.broken.append(f"{name}: {opened} ({example})")
            return
        self.seen.idle.setdefault(scenario.name, {})[target.name] = IdleMemory(
            streams=streams, bytes_before=before, bytes_with=with_streams
        )


def _wrong(summary: Summary) -> str | None:
    """Say what was wrong with a run's answers."""
    if summary.ok:
        return None
    wrong = ", ".join(f"{count} {kind}" for kind, count in summary.failures.items())
    example = next(iter(summary.examples.values()), "no answer at all")
    return f"{wrong or 'no answers'} ({example})"
