"""Limits in a storm of real processes: workers that are killed and stopped at any moment, whose clocks step
and whose leases run out, under requests of any size. No window ever holds more than its limit, whatever the
workers' own logs or the database are asked; and when all have gone, all that was not used is back.

`KARTA_TEST_STORMS` sets how many storms there are (`tox -e storm`: a hundred, other ones each time).
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from storage.model import LimitKind, Period
from tests.gateway.storm import Child, Scene, observed
from tests.gateway.storm_worker import PICODOLLARS

STORMS = int(os.environ.get("KARTA_TEST_STORMS", "0"))
WORKERS_MAX = 4
AMOUNTS = [
    (LimitKind.TOKENS, Period.DAY, 12_000),
    (LimitKind.MONEY, Period.MONTH, 11_500 * PICODOLLARS),
    (LimitKind.REQUESTS, Period.MINUTE, 150),
    (LimitKind.CONCURRENT, Period.NONE, 20),
]
NEEDS = st.one_of(st.integers(1, 60), st.integers(1, 1_500))
REQUESTS = st.lists(st.tuples(NEEDS, st.integers(0, 100)), min_size=1, max_size=12)
NUMBERS = st.integers(0, WORKERS_MAX - 1)
_directories = itertools.count(1)


class Storm(RuleBasedStateMachine):
    """`totals` adds up what happened over all storms."""

    observer: Child
    database_url: str
    directory: Path
    totals: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(
            self.observer, self.database_url, self.directory / str(next(_directories)), AMOUNTS
        )

    def awake(self) -> list[Child]:
        """Two at least, as long as there may be more."""
        while len(self.scene.awake()) < 2 and len(self.scene.workers) < WORKERS_MAX:
            self.scene.start()
        return self.scene.awake()

    def worker(self, number: int) -> Child | None:
        """One that is awake."""
        awake = self.awake()
        return awake[number % len(awake)] if awake else None

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self.scene.start()

    @rule()
    def start(self) -> None:
        if len(self.scene.workers) < WORKERS_MAX:
            self.scene.start()

    @rule(all_of=st.lists(REQUESTS, min_size=1, max_size=WORKERS_MAX))
    def serve(self, all_of: list[list[tuple[int, int]]]) -> None:
        """Several at once, and again."""
        for _ in range(2):
            for worker, requests in zip(self.awake(), all_of, strict=False):
                worker.tell("burst", requests, False)
            self.scene.rest()

    @rule(
        all_of=st.lists(REQUESTS, min_size=2, max_size=WORKERS_MAX),
        number=NUMBERS,
        kills=st.booleans(),
        told=st.booleans(),
        milliseconds=st.integers(0, 40),
    )
    def serve_in_trouble(
        self, all_of: list[list[tuple[int, int]]], number: int, kills: bool, told: bool, milliseconds: int
    ) -> None:
        """And one of them is killed or stopped in the midst of it."""
        worker = self.worker(number)
        for other, requests in zip(self.awake(), all_of, strict=False):
            other.tell("burst", requests, False)
        if worker is not None:
            self.scene.pass_time(milliseconds / 1000)
            if kills:
                self.scene.kill(worker, told=told)
                self.scene.start()
            else:
                self.scene.stop(worker)
        self.scene.rest()

    @rule(number=NUMBERS, requests=REQUESTS)
    def hold(self, number: int, requests: list[tuple[int, int]]) -> None:
        """Requests that run on until they are ended."""
        if worker := self.worker(number):
            worker.ask("burst", requests, True)

    @rule(number=NUMBERS, percent=st.integers(0, 100))
    def end_held(self, number: int, percent: int) -> None:
        if worker := self.worker(number):
            worker.ask("end", percent)

    @rule(number=NUMBERS, seconds=st.sampled_from([-86_400, -90, -1, 0, 1, 50]))
    def step_clock(self, number: int, seconds: int) -> None:
        if worker := self.worker(number):
            worker.ask("step", seconds)

    @rule(number=NUMBERS, sleeps=st.booleans())
    def run_out(self, number: int, sleeps: bool) -> None:
        """Its leases run out, while it sleeps or while it only thinks it is heard."""
        if worker := self.worker(number):
            owner = worker.ask("owner")
            if sleeps:
                self.scene.stop(worker)
            self.scene.observer.ask("run_out", owner)

    @rule()
    def wake(self) -> None:
        for worker in self.scene.workers:
            if worker.stopped:
                worker.wake()
        self.scene.rest()

    @rule(number=NUMBERS, told=st.booleans())
    def kill(self, number: int, told: bool) -> None:
        """Also one that sleeps."""
        if self.scene.workers:
            self.scene.kill(self.scene.workers[number % len(self.scene.workers)], told=told)
            self.scene.rest()

    @rule(number=NUMBERS)
    def leave(self, number: int) -> None:
        if worker := self.worker(number):
            self.scene.leave(worker)

    @rule(milliseconds=st.sampled_from([50, 300, 1_100]))
    def wait(self, milliseconds: int) -> None:
        """For what workers do by themselves: renew, give back, ship, settle what others left."""
        self.scene.pass_time(milliseconds / 1000)

    @invariant()
    def no_more_is_admitted_than_the_limit(self) -> None:
        for (limit_id, _), spent in self.scene.spent().items():
            assert spent <= self.scene.amount_of(limit_id)

    @invariant()
    def the_database_lends_no_more_either(self) -> None:
        for window in self.scene.windows():
            assert window.settled + window.written_off + window.held <= self.scene.amount_of(window.limit_id)
            assert window.written_off == window.leases_written_off >= 0

    def teardown(self) -> None:
        try:
            self.bury()
        finally:
            self.scene.end()

    def bury(self) -> None:
        """All die, and all journals are settled: then each request has one row, which says what was used or,
        of one that died with its process, its worst case; nothing else is spent, and the rest can be had."""
        scene = self.scene
        for worker in list(scene.workers):
            scene.kill(worker, told=False)
        scene.observer.ask("bury", scene.home)
        rows = scene.observer.ask("usage", scene.org_id)
        admitted, ended = scene.admitted()
        for request_id, (_, need) in admitted.items():
            tokens, picodollars, outcome = rows[request_id]
            assert picodollars == tokens * PICODOLLARS
            # Killed between the log and the journal, what has ended there is interrupted here.
            used = ended.get(request_id, need) if outcome == "completed" else need
            assert tokens == used
        # Killed between the register and the log: nobody heard of it, and it is charged.
        assert all(rows[one][2] == "interrupted" for one in rows.keys() - admitted.keys())
        windows = scene.windows()
        for window in windows:
            amount = scene.amount_of(window.limit_id)
            assert (window.written_off, window.held, window.leases) == (0, 0, 0)
            assert scene.spent()[window.limit_id, window.start_us] <= window.settled <= amount
        self.totals.update(
            storms=1, kills=scene.kills, stops=scene.stops, admitted=len(admitted), windows=len(windows)
        )
        for limit in scene.limits[:2]:
            for window in windows:
                left = limit.amount - window.settled
                if window.limit_id == limit.limit_id and left > 0:
                    assert scene.observer.ask("most", limit, window.start_us, left) == left


def test_a_storm_of_processes(database_url: str, tmp_path: Path) -> None:
    totals: Counter[str] = Counter()
    with observed(database_url) as observer:
        arguments = {
            "observer": observer,
            "database_url": database_url,
            "directory": tmp_path,
            "totals": totals,
        }
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            type("ThisStorm", (Storm,), arguments),
            settings=settings(
                max_examples=STORMS or 5,
                stateful_step_count=40 if STORMS else 25,
                derandomize=not STORMS,
                # Processes do not do the same twice, so there is nothing to make smaller.
                phases=[Phase.generate],
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    print(dict(totals))
    assert totals["admitted"] > 0


def test_processes_use_a_limit_up(database_url: str, tmp_path: Path) -> None:
    """All but a twentieth, under a steady load, though one is killed in the midst of it."""
    amount = 60_000
    with observed(database_url) as observer:
        scene = Scene(observer, database_url, tmp_path, [(LimitKind.TOKENS, Period.DAY, amount)])
        try:
            for _ in range(4):
                scene.start()
            bursts = 0
            deadline = time.monotonic() + 120
            while sum(scene.spent().values()) < 0.95 * amount:
                assert time.monotonic() < deadline, "strangled"
                for number, worker in enumerate(scene.workers):
                    worker.tell("burst", [(1 + (7 * at + number) % 60, 50 + at) for at in range(20)], False)
                bursts += 1
                if bursts == 8:
                    scene.kill(scene.workers[0], told=True)
                    scene.start()
                scene.rest()
            assert sum(scene.spent().values()) <= amount
        finally:
            scene.end()
