"""One place for a worker: the process that serves there, the one that takes its place, and those that still
finish.

A slot has a listening socket of its own, which the supervisor opened and never closes while it runs. Each
process that serves in the slot is handed that same socket, so a connection that the kernel has completed
waits for whoever accepts next, and none is lost when one process follows another.

A process that dies is followed by another at once; one that dies again and again, by ones further and further
apart (`BACKOFF_SECONDS`).

Bounds: two processes that still finish, `RETIRING_MAX`; of more, the oldest gets no longer than at a stop.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from gateway.control import (
    Begin,
    FromWorker,
    Leaving,
    Line,
    LineBroken,
    Retire,
    Serve,
    Serving,
    ToWorker,
    packets,
    pair,
)
from gateway.metric_page import Family
from gateway.shared_keys import SharedKeys

BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
"""Who has served this long did not die of its start."""
ABLE_SECONDS_MAX = 60.0
"""From start to serving, for one that is to replace another. The database may be away: then nothing is."""
PATIENCE_SECONDS = 5.0
"""For one that follows a dead one: others serve meanwhile, with all the keys they know."""
RETIRING_MAX = 2
_STDERR = 2
_LAST_WORD_SECONDS = 1.0
_LINELESS_SECONDS = 10.0

_log = logging.getLogger("karta.gateway.slot")


class WorkerFailed(Exception):
    """A worker ended before it served."""


@dataclass(frozen=True)
class Launch:
    """How workers are started. Secrets go by the environment or the line, never by the command."""

    command: Sequence[str]
    """To be completed by the descriptor of the line."""
    environment: Mapping[str, str] = field(repr=False)
    overrides: Mapping[str, str | None] = field(repr=False)
    """Settings of the command line."""
    listeners: Sequence[int]
    """Descriptors of the listening sockets, by slot."""
    holds: Sequence[int] = ()
    """Descriptors that the workers keep open for those who started us."""


class WorkerProcess:
    """One process. `serial` is its number among all."""

    def __init__(self, slot: int, serial: int) -> None:
        self.slot = slot
        self.serial = serial
        self.process: trio.Process | None = None
        self.line: Line | None = None
        self.serving = trio.Event()
        self.ended = trio.Event()
        self.silent = trio.Event()
        """Nothing more will be heard of it."""
        self.leaving = False
        """It accepts no more, and ends when its answers have."""
        self.covers: list[int] = []
        """Slots it accepts for besides its own."""
        self.last_word: list[Family] = []
        """Its figures when it was last heard of, and which scrape that was."""
        self.scrape = 0
        self.telling: list[Family] = []
        """The beginning of those that it is telling."""
        self.heard_at = self.began = trio.current_time()

    @property
    def lives(self) -> bool:
        """It serves, and accepts connections."""
        return self.answers and not self.leaving

    @property
    def answers(self) -> bool:
        """It has figures to tell: also while it finishes."""
        return self.serving.is_set() and not self.ended.is_set()

    @property
    def died(self) -> bool:
        """It ended without having been able to settle what it leaves."""
        return self.process is not None and self.process.returncode not in (None, 0)

    @property
    def end(self) -> str:
        """What became of it."""
        code = None if self.process is None else self.process.returncode
        if code is None:
            return "was told to stop" if self.leaving else "was not started"
        return f"ended (exit code {code})" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def send(self, message: ToWorker) -> None:
        if self.line is not None and not self.ended.is_set():
            self.line.send(message)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


Hear = Callable[[WorkerProcess, FromWorker], None]


class Slot:
    """One place. `hear` is told what its processes say, `changed` that one starts, serves or has ended."""

    def __init__(
        self,
        number: int,
        launch: Launch,
        keys: SharedKeys,
        hear: Hear,
        changed: Callable[[WorkerProcess], None],
    ) -> None:
        self.number = number
        self._launch = launch
        self._keys = keys
        self._hear = hear
        self._changed = changed
        self._serials = 0
        self.current: WorkerProcess | None = None
        self.all: list[WorkerProcess] = []
        """Whose processes have not ended."""
        self.restarts = 0
        self._died = trio.Event()
        self._changing = trio.Lock()
        self.stopping = False

    @property
    def serves(self) -> bool:
        return self.current is not None and self.current.lives

    async def keep(self) -> None:
        """Have a process here until cancelled. Raises `WorkerFailed` when the first one does not serve."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.current = first = self._start(0)
            await self._settle(first)
            # One that served and has died since is a death as any other: it was able to start.
            if not first.serving.is_set() and not self.stopping:
                raise WorkerFailed(
                    f"gateway worker {self.number} ended before it served; its messages are above"
                )
            deaths = 0
            while True:
                await self._died.wait()
                self._died = trio.Event()
                async with self._changing:
                    while not (self.stopping or self.current.lives):
                        dead = self.current
                        steady = dead.serving.is_set() and trio.current_time() - dead.began > STEADY_SECONDS
                        deaths = 0 if steady else deaths
                        _log.error("gateway worker %d %s; another takes its place", self.number, dead.end)
                        await trio.sleep(BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS) - 1)])
                        if self.stopping:
                            break
                        deaths += 1
                        self.restarts += 1
                        self.current = self._start(PATIENCE_SECONDS)
                        await self._settle(self.current)

    async def replace(self) -> bool:
        """Have another process take over; False when it is not able to, and the one before goes on."""
        async with self._changing:
            new = self._start(math.inf)
            with trio.move_on_after(ABLE_SECONDS_MAX):
                await self._settle(new)
            if self.stopping or not new.lives:
                new.signal(signal.SIGTERM)
                return False
            old, self.current = self.current, new
            self._changed(new)
            if old is not None:
                old.send(Retire())
            retiring = [one for one in self.all if one is not new]
            for one in retiring[:-RETIRING_MAX]:
                one.signal(signal.SIGTERM)
            return True

    async def _settle(self, worker: WorkerProcess) -> None:
        """Until it serves or has ended."""
        async with trio.open_nursery() as nursery:
            for event in (worker.serving, worker.ended):
                nursery.start_soon(_cancel_after, event, nursery.cancel_scope)

    def _start(self, patience: float) -> WorkerProcess:
        self._serials += 1
        worker = WorkerProcess(self.number, self._serials * 1000 + self.number)
        self.all.append(worker)
        self._nursery.start_soon(self._attend, worker, patience)
        return worker

    async def _attend(self, worker: WorkerProcess, patience: float) -> None:
        """From its start to its end."""
        try:
            await self._run(worker, patience)
        except OSError as error:
            _log.error("gateway worker %d cannot be started: %s", self.number, os.strerror(error.errno or 0))
        finally:
            self.all.remove(worker)
            worker.ended.set()
            self._changed(worker)
            if worker is self.current:
                self._died.set()

    async def _run(self, worker: WorkerProcess, patience: float) -> None:
        launch = self._launch
        ours, theirs = pair()
        with theirs:
            try:
                process = worker.process = await trio.lowlevel.open_process(
                    [*launch.command, str(theirs.fileno())],
                    # Its end tells the worker, whatever it is doing, that we have gone.
                    stdin=subprocess.PIPE,
                    stdout=_STDERR,
                    env=dict(launch.environment),
                    # Ctrl-C in a terminal is for us, who stop the workers in order.
                    start_new_session=True,
                    pass_fds=(theirs.fileno(), *launch.listeners, *launch.holds),
                )
            except BaseException:
                ours.close()
                raise
        line = worker.line = Line(ours)
        line.send(
            Begin(self.number, list(launch.listeners), dict(launch.overrides), self._keys.secret, patience)
        )
        for message in packets(self._keys.join(worker.serial)):
            line.send(message)
        line.send(Serve())
        # From here on it is told of what others verify.
        self._changed(worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run)
                nursery.start_soon(self._listen, worker, line)
                await process.wait()
                with trio.move_on_after(_LAST_WORD_SECONDS):
                    await worker.silent.wait()
                nursery.cancel_scope.cancel()
        finally:
            line.close()
            with trio.CancelScope(shield=True):
                if process.poll() is None:
                    process.kill()
                    await process.wait()
                if process.stdin is not None:
                    await process.stdin.aclose()

    async def _listen(self, worker: WorkerProcess, line: Line) -> None:
        try:
            while True:
                message = await line.receive()
                match message:
                    case Serving():
                        worker.serving.set()
                        self._changed(worker)
                    case Leaving():
                        # By somebody's signal; that of a stop of ours makes no difference here.
                        worker.leaving = True
                        self._changed(worker)
                        self._died.set()
                self._hear(worker, message)  # type: ignore[arg-type]
        except LineBroken:
            # It ends; or it is stuck with a line nobody reads, and shall end.
            worker.silent.set()
            await trio.sleep(_LINELESS_SECONDS)
            worker.signal(signal.SIGTERM)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
