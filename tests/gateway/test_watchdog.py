"""Deadlines by Trio's clock, which the tests move by hand."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.watchdog import NEVER, PERIOD_SECONDS, Watchdog


class Watched:
    def __init__(self, deadline: float = NEVER) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(trio.current_time())


def run(steps: object, *, clock: MockClock | None = None) -> None:
    """Run `steps(watchdog, clock)` beside a watchdog."""
    clock = clock or MockClock()
    assert callable(steps)

    async def main() -> None:
        watchdog = Watchdog()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watchdog.run)
            await wait_all_tasks_blocked()
            await steps(watchdog, clock)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


async def tick(clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)
    await wait_all_tasks_blocked()


def test_a_deadline_expires_once_and_within_a_period() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        one = Watched(watchdog.now + 10)
        watchdog.watched.add(one)
        began = trio.current_time()
        while not one.expired:
            await tick(clock, PERIOD_SECONDS)
        assert 10 <= one.expired[0] - began <= 10 + PERIOD_SECONDS
        assert one.deadline == NEVER
        for _ in range(100):
            await tick(clock, PERIOD_SECONDS)
        assert len(one.expired) == 1

    run(steps)


def test_a_deadline_put_off_does_not_expire() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        one = Watched()
        watchdog.watched.add(one)
        for _ in range(100):
            one.deadline = watchdog.now + 2 * PERIOD_SECONDS
            await tick(clock, PERIOD_SECONDS)
        assert one.expired == []
        one.deadline = NEVER
        await tick(clock, 1_000_000)
        assert one.expired == []

    run(steps)


def test_a_deadline_set_again_expires_again() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        one = Watched()
        watchdog.watched.add(one)
        for count in range(1, 4):
            one.deadline = watchdog.now + 1
            for _ in range(round(1 / PERIOD_SECONDS) + 1):
                await tick(clock, PERIOD_SECONDS)
            assert len(one.expired) == count

    run(steps)


def test_each_by_its_own_deadline_and_none_that_has_left() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        soon, late, left = Watched(watchdog.now + 1), Watched(watchdog.now + 5), Watched(watchdog.now + 1)
        watchdog.watched |= {soon, late, left}
        watchdog.watched.discard(left)
        await tick(clock, 2)
        assert (len(soon.expired), len(late.expired), len(left.expired)) == (1, 0, 0)
        await tick(clock, 4)
        assert (len(soon.expired), len(late.expired), len(left.expired)) == (1, 1, 0)

    run(steps)


def test_expiring_may_change_who_is_watched() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        class Leaving(Watched):
            def expire(self) -> None:
                super().expire()
                watchdog.watched.discard(self)
                watchdog.watched.add(Watched())

        all_of_them = [Leaving(watchdog.now + 1) for _ in range(50)]
        watchdog.watched |= set(all_of_them)
        await tick(clock, 2)
        assert all(len(one.expired) == 1 for one in all_of_them)
        assert watchdog.watched.isdisjoint(all_of_them)

    run(steps)


def test_now_follows_the_clock_to_a_period() -> None:
    async def steps(watchdog: Watchdog, clock: MockClock) -> None:
        for _ in range(10):
            await tick(clock, PERIOD_SECONDS)
            assert 0 <= trio.current_time() - watchdog.now < PERIOD_SECONDS

    run(steps)


def test_an_hour_costs_no_time() -> None:
    async def steps(watchdog: Watchdog, _: MockClock) -> None:
        one = Watched(watchdog.now + 3600)
        watchdog.watched.add(one)
        await trio.sleep(3601)
        assert len(one.expired) == 1

    run(steps, clock=MockClock(autojump_threshold=0))
