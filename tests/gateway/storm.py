"""Processes in a storm: started, spoken to, stopped and killed; and what their logs say was admitted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.quota import find_window
from storage.model import Limit, LimitKind, Period
from tests.gateway.storm_observer import Window, observe
from tests.gateway.storm_worker import PICODOLLARS, Place, work

REPLY_SECONDS_MAX = 120.0
# Forked from one that has imported everything: milliseconds each, where a Python of its own takes a second.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([observe.__module__, work.__module__])


class Child:
    """One process, and the pipe to it."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self.pipe: Connection
        self.pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid
        assert self.pid is not None
        self.stopped = False
        self.owes = 0
        """Replies that have not been heard."""

    def tell(self, *message: object) -> None:
        self.owes += 1
        self.pipe.send(message)

    def hear(self) -> Any:
        """The last of the replies that are owed."""
        reply = None
        while self.owes:
            assert self.pipe.poll(REPLY_SECONDS_MAX), "a process says nothing"
            reply = self.pipe.recv()
            self.owes -= 1
        return reply

    def ask(self, *message: object) -> Any:
        self.tell(*message)
        return self.hear()

    def stop(self) -> None:
        """As a machine does that is put to sleep; returns when it stands still."""
        self._signal(signal.SIGSTOP)
        self.stopped = True
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while self._state() not in "TZX":
            assert time.monotonic() < deadline
            self.pipe.poll(0.001)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)
        self.stopped = False

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.join(REPLY_SECONDS_MAX)
        assert self._process.exitcode is not None
        self.pipe.close()

    def leave(self) -> None:
        """In order."""
        self.hear()
        self.pipe.send(None)
        self.owes = 1
        self.hear()
        self._process.join(REPLY_SECONDS_MAX)
        assert self._process.exitcode == 0
        self.pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "X"


class Scene:
    """One organization with its limits, and its workers."""

    def __init__(self, observer: Child, database_url: str, directory: Path, amounts: list[Any]) -> None:
        self.observer = observer
        org_id, limits = observer.ask("begin", amounts)
        self.org_id: UUID = org_id
        self.limits: tuple[Limit, ...] = limits
        self.home, self.logs = directory / "home", directory / "logs"
        for one in (self.home, self.logs):
            one.mkdir(parents=True)
        self._place = Place(database_url, self.home, self.logs, self.org_id, self.limits)
        self.workers: list[Child] = []
        self.kills = self.stops = 0

    def start(self) -> Child:
        worker = Child(work, self._place)
        self.workers.append(worker)
        return worker

    def kill(self, worker: Child, *, told: bool) -> None:
        """`told`: the others hear of it at once, as of their supervisor."""
        worker.kill()
        self.kills += 1
        self.workers.remove(worker)
        if told:
            for one in self.awake():
                one.tell("orphaned")

    def stop(self, worker: Child) -> None:
        worker.stop()
        self.stops += 1

    def leave(self, worker: Child) -> None:
        worker.leave()
        self.workers.remove(worker)

    def pass_time(self, seconds: float) -> None:
        """So long, or until one of them has something to say."""
        wait([self.observer.pipe, *(worker.pipe for worker in self.awake())], seconds)

    def awake(self) -> list[Child]:
        return [worker for worker in self.workers if not worker.stopped]

    def rest(self) -> None:
        """Until all that are awake have done what they were told."""
        for worker in self.awake():
            worker.hear()

    def admitted(self) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
        """By the logs: start and worst case of each request that was admitted, and what those used that have
        ended."""
        admitted: dict[str, tuple[int, int]] = {}
        ended: dict[str, int] = {}
        for path in self.logs.iterdir():
            for line in path.read_text().splitlines():
                match line.split():
                    case ["admitted", request_id, started_us, need]:
                        admitted[request_id] = int(started_us), int(need)
                    case ["ended", request_id, used]:
                        ended[request_id] = int(used)
        return admitted, ended

    def spent(self) -> Counter[tuple[int, int]]:
        """What was admitted of each limit's window: what was used, and of requests that run, or died with
        their process, the worst case."""
        admitted, ended = self.admitted()
        return self.add_up(
            (started_us, ended.get(request_id, need)) for request_id, (started_us, need) in admitted.items()
        )

    def add_up(self, requests: Iterable[tuple[int, int]]) -> Counter[tuple[int, int]]:
        sums: Counter[tuple[int, int]] = Counter()
        for started_us, tokens in requests:
            for limit in self.limits:
                amount = {
                    LimitKind.TOKENS: tokens,
                    LimitKind.MONEY: tokens * PICODOLLARS,
                    LimitKind.REQUESTS: 1,
                }.get(limit.kind, 0)
                sums[limit.limit_id, find_window(limit.period, started_us)[0]] += amount
        return sums

    def windows(self) -> list[Window]:
        """Of all limits but streams at once, of which a worker that slept may run more than there are."""
        counted = tuple(limit for limit in self.limits if limit.period is not Period.NONE)
        found: list[Window] = self.observer.ask("windows", counted)
        return found

    def amount_of(self, limit_id: int) -> int:
        return next(limit.amount for limit in self.limits if limit.limit_id == limit_id)

    def end(self) -> None:
        """All die."""
        for worker in list(self.workers):
            self.workers.remove(worker)
            worker.kill()


@contextmanager
def observed(database_url: str) -> Iterator[Child]:
    observer = Child(observe, database_url)
    try:
        yield observer
    finally:
        observer.kill()
