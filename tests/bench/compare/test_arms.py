"""Targets are started once a variant, with the keys that its scenarios need."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bench.compare.arms import Arms, Variant, cold_keys, cores_for, variant_of
from bench.compare.comparison import Comparison
from bench.compare.provider import Provider, found_provider
from bench.compare.scenarios import CompareOptions, Scenario
from bench.targets.base import (
    PLACEHOLDER_KEY,
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
    require,
)
from bench.targets.url import URLTarget
from tests.bench.compare.seen import comparison


class Keyed(Target):
    """Stands for the provider itself, and has as many keys as it was asked for."""

    name = "keyed"
    description = "keys"
    governed = True

    def __init__(self) -> None:
        self.contexts: list[TargetContext] = []

    def installation(self) -> Installation:
        return Installation(ready=True)

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        self.contexts.append(context)
        keys = [f"key-{number}" for number in range(context.keys)]
        yield RunningTarget(base_url=context.upstream_url, keys=keys, pids=[], command=["keyed"])


def test_a_variant_tells_what_is_different() -> None:
    assert (str(Variant(1, False)), str(Variant(2, True))) == ("", " (2 workers, TLS)")


def test_more_workers_have_more_cores_if_there_are_any() -> None:
    seen: Comparison = comparison({})
    assert cores_for(1, seen) == [0]
    assert cores_for(2, seen) == [0, 1]
    seen.target_cpus = []
    assert cores_for(2, seen) == []


async def test_keys_are_enough_and_cold_ones_are_not_given_twice(provider_url: str, tmp_path: Path) -> None:
    cold = Scenario(name="cold", loop="open", rate=2, cold=True, seconds=1)
    many = Scenario(name="many", keys=3, tenants=2)
    seen = comparison({})
    seen.options = CompareOptions(arms=["keyed"], rounds=2, seconds=1)
    target = Keyed()
    async with found_provider(provider_url) as provider, AsyncExitStack() as stack:
        arms = Arms(seen, tmp_path, {False: provider}, stack)
        before = await provider.requests_seen()
        await arms.start(target, Variant(1, False), [cold, many])
        # Each warm key was used once, no cold one was.
        assert await provider.requests_seen() == before + 3
        first, second = arms.keys_for(target, cold), arms.keys_for(target, cold)
        assert len(first) == len(second) == cold_keys(cold, seen.options)
        assert not {*first, *arms.keys_for(target, many)} & set(second)
        with pytest.raises(TargetUnavailable, match="wants"):
            arms.keys_for(target, cold)
    [context] = target.contexts
    assert (context.keys, context.tenants, context.dead_url) == (
        3 + 2 * cold_keys(cold, seen.options),
        2,
        None,
    )
    assert seen.commands == {"keyed": ["keyed"]}


class Absent(Keyed):
    """Cannot be started over TLS, by more workers is never started."""

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        require(context, name=self.name)
        if context.ca_file is not None:
            raise TargetUnavailable("it did not start")
        async with super().open(context) as running:
            yield running


async def test_a_variant_that_had_to_start_and_did_not_is_missing(tmp_path: Path) -> None:
    class Optional(Absent):
        name = "optional"
        optional = True

    seen = comparison({})
    providers = {
        tls: Provider("http://h", httpx.AsyncClient(), "ca" if tls else None) for tls in (False, True)
    }
    async with AsyncExitStack() as stack:
        arms = Arms(seen, tmp_path, providers, stack)
        for target in (Absent(), Optional()):
            for variant in (Variant(1, False), Variant(1, True), Variant(2, False)):
                await arms.start(target, variant, [Scenario(name="one")])
    assert seen.missing == ["keyed (TLS)"]
    assert set(seen.unavailable) == {
        f"{name}{variant}" for name in ("keyed", "optional") for variant in (" (TLS)", " (2 workers)")
    }
    assert set(arms.running) == {("keyed", Variant(1, False)), ("optional", Variant(1, False))}


async def test_somebodys_own_keys_are_never_made_up(provider_url: str, tmp_path: Path) -> None:
    async with found_provider(provider_url) as provider, AsyncExitStack() as stack:
        arms = Arms(comparison({}), tmp_path, {False: provider}, stack)
        one, many = Scenario(name="one"), Scenario(name="many", keys=3)
        await arms.start(
            mine := URLTarget("mine", provider_url, keys=["real"]), Variant(1, False), [one, many]
        )
        assert arms.keys_for(mine, one) == ["real"]
        with pytest.raises(TargetUnavailable, match="wants 3 keys, and mine has 1"):
            arms.keys_for(mine, many)


async def test_who_checks_no_keys_is_asked_with_any(provider_url: str, tmp_path: Path) -> None:
    async with found_provider(provider_url) as provider, AsyncExitStack() as stack:
        arms = Arms(comparison({}), tmp_path, {False: provider}, stack)
        scenario = Scenario(name="many", keys=3)
        target = URLTarget("open", provider_url, keys=[PLACEHOLDER_KEY])
        await arms.start(target, Variant(1, False), [scenario])
        assert len(set(arms.keys_for(target, scenario))) == 3


def test_very_many_keys_have_quick_digests_and_an_instance_of_their_own_and_cold_ones_never(
    provider_url: str, tmp_path: Path
) -> None:
    many = Scenario(name="many", keys=10_000)
    cold = Scenario(name="cold", loop="open", rate=2, cold=True, keys=10_000, seconds=1)
    assert variant_of(many) == Variant(1, False, many_keys=True)
    assert str(variant_of(many)) == " (many keys)"
    assert variant_of(cold) == variant_of(Scenario(name="few", keys=100)) == Variant(1, False)
    target = Keyed()
    providers = {False: Provider(provider_url, httpx.AsyncClient(), None)}
    arms = Arms(comparison({}), tmp_path, providers, AsyncExitStack())
    assert arms.context(variant_of(many), [many], target).quick_digests
    assert not arms.context(variant_of(cold), [cold], target).quick_digests
