"""The targets of one comparison: started once for each variant that its scenarios need.

A variant is a number of workers, whether the provider is reached over TLS, and whether there are so many keys
that their digests may be quick ones (cold keys never are: what those cost is what is measured).  A target
that is not asked costs nothing, so all run from beginning to end.
"""

import math
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import trio

from bench.compare.comparison import Comparison
from bench.compare.provider import Provider
from bench.compare.scenarios import CompareOptions, Scenario
from bench.load.learn import LearnFailed, ask_once
from bench.load.plan import Question
from bench.targets.base import (
    PLACEHOLDER_KEY,
    NotOffered,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
)
from bench.targets.listening import free_port

_WARMING_AT_ONCE = 16
# More keys than these would take minutes of bcrypt.
full_digests_max = 200
# A cold key more, in case a question is due just as the window closes.
_COLD_SPARE = 4


class Variant(NamedTuple):
    workers: int
    tls: bool
    many_keys: bool = False

    def __str__(self) -> str:
        parts = [f"{self.workers} workers"] * (self.workers > 1) + ["TLS"] * self.tls
        parts += ["many keys"] * self.many_keys
        return f" ({', '.join(parts)})" if parts else ""


def variant_of(scenario: Scenario) -> Variant:
    many_keys = scenario.keys > full_digests_max and not scenario.cold
    return Variant(scenario.workers, scenario.tls, many_keys)


def cold_keys(scenario: Scenario, options: CompareOptions) -> int:
    """Return how many keys a round of the scenario uses up."""
    if not scenario.cold:
        return 0
    return math.ceil(scenario.rate * (scenario.seconds or options.seconds)) + _COLD_SPARE


def cores_for(workers: int, seen: Comparison) -> list[int]:
    """Return the cores of a target of so many workers: its own one, and more of them if there are any."""
    if workers == 1 or not seen.target_cpus:
        return seen.target_cpus
    return seen.machine.cpus[:workers]


class Arms:
    """What was started; `stack` ends it all."""

    def __init__(
        self, seen: Comparison, directory: Path, providers: dict[bool, Provider], stack: AsyncExitStack
    ) -> None:
        self.seen = seen
        self.running: dict[tuple[str, Variant], RunningTarget] = {}
        self._directory = directory
        self._providers = providers
        self._stack = stack
        self._used: dict[tuple[str, Variant], int] = {}

    def provider_of(self, scenario: Scenario) -> Provider:
        return self._providers[scenario.tls]

    def context(self, variant: Variant, scenarios: Sequence[Scenario], target: Target) -> TargetContext:
        """Return where a target of that variant stands, with keys enough for all its scenarios."""
        options = self.seen.options
        warm = max((scenario.keys for scenario in scenarios), default=1)
        cold = sum(cold_keys(scenario, options) for scenario in scenarios) * options.rounds
        provider = self._providers[variant.tls]
        failing = [scenario for scenario in scenarios if scenario.failover]
        return TargetContext(
            upstream_url=provider.url,
            directory=Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=self._directory)),
            target_cpus=cores_for(variant.workers, self.seen),
            harness_cpus=self.seen.harness_cpus,
            ca_file=provider.ca_file,
            workers=variant.workers,
            keys=(warm + cold) if target.governed else 1,
            quick_digests=variant.many_keys,
            tenants=max((scenario.tenants for scenario in scenarios), default=1),
            dead_url=f"http://127.0.0.1:{free_port()}" if failing else None,
            fallback_behaviour=failing[0].full_behaviour if failing else "",
        )

    async def start(self, target: Target, variant: Variant, scenarios: Sequence[Scenario]) -> None:
        """Start a target for as long as the stack lasts; one that cannot be is told in `unavailable`."""
        label = target.name + str(variant)
        if target.name in self.seen.unavailable or label in self.seen.unavailable:
            return
        try:
            running = await self._stack.enter_async_context(
                target.open(self.context(variant, scenarios, target))
            )
        except TargetUnavailable as error:
            self.seen.unavailable[label] = str(error)
            if not target.optional and not isinstance(error, NotOffered):
                self.seen.missing.append(label)
            return
        self.running[target.name, variant] = running
        self.seen.commands[label] = list(running.command)
        if running.notes:
            self.seen.notes[label] = "; ".join(running.notes.values())
        warm = max((scenario.keys for scenario in scenarios), default=1)
        self._used[target.name, variant] = warm
        if target.governed and warm > 1:
            await self._warm(target, running, running.keys[:warm])

    async def _warm(self, target: Target, running: RunningTarget, keys: Sequence[str]) -> None:
        """Use every key once, so that its first use is no part of the figures."""
        question = Question(dialect=target.dialects[0], model=target.model, behaviour="tokens=1")
        left = list(keys)

        async def use() -> None:
            try:
                while left:
                    await ask_once(running.base_url, question, left.pop(), headers=running.headers)
            except LearnFailed as error:
                left.clear()
                self.seen.broken.append(f"{target.name}, first use of a key: {error}")

        async with trio.open_nursery() as nursery:
            for _ in range(_WARMING_AT_ONCE):
                nursery.start_soon(use)

    def keys_for(self, target: Target, scenario: Scenario) -> list[str]:
        """Return the keys of a run, cold ones only once; TargetUnavailable if there are too few, as of a URL
        whose keys are somebody's own."""
        at = target.name, variant_of(scenario)
        keys = self.running[at].keys
        if list(keys) == [PLACEHOLDER_KEY]:
            # It checks none, so that any others do as well.
            return [PLACEHOLDER_KEY, *(f"{PLACEHOLDER_KEY}-{number}" for number in range(1, scenario.keys))]
        first, wanted = 0, scenario.keys
        if scenario.cold:
            first, wanted = self._used[at], cold_keys(scenario, self.seen.options)
            self._used[at] += wanted
        found = list(keys[first : first + wanted])
        if len(found) < wanted:
            raise TargetUnavailable(f"the scenario wants {wanted} keys, and {target.name} has {len(keys)}")
        return found
