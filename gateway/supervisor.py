"""Several workers on one port: starts them, keeps them, replaces them one by one, stops them in order.

Signals: SIGTERM and SIGINT stop everything as they stop one worker; SIGHUP replaces each worker by one that
reads the settings and the code anew, without refusing or resetting a connection. A worker that dies is
replaced, and until then another accepts for it. If this process dies, the workers end within seconds.

It serves no traffic and sees no prompt. What it has that the workers have too: the settings, the listening
sockets, and the verified keys of all of them (`shared_keys`). It serves the metrics of all of them.

Read `slot` for one worker's life, `control` for what is said, `supervised` for the worker's side.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from gateway.accept import Acceptor, listen, url_of
from gateway.connection import Connection
from gateway.control import (
    Claim,
    Cover,
    Failed,
    Figures,
    Forget,
    FromWorker,
    Orphaned,
    Scrape,
    Verified,
)
from gateway.limits import Limits
from gateway.metric_page import Family, Kind, answer, counters, merge, render
from gateway.readiness import Readiness
from gateway.request_reader import Inbound
from gateway.settings import GatewaySettings
from gateway.shared_keys import SharedKeys, Told
from gateway.slot import Launch, Slot, WorkerFailed, WorkerProcess
from gateway.spool import held
from gateway.watchdog import Watchdog
from storage.core_files import leave_no_core_file
from storage.settings import Bind

STOP_MARGIN_SECONDS = 8.0
"""Beyond the drain: telling those that are cut, shipping usage, closing."""
SCRAPE_SECONDS_MAX = 2.0
ASK_SECONDS = 5.0
HUNG_SECONDS = 30.0
"""An event loop that does not turn for this long does not recover, and all its streams stand still."""

_log = logging.getLogger("karta.gateway.supervisor")


def main(
    settings: GatewaySettings,
    *,
    command: Sequence[str],
    overrides: Mapping[str, str | None],
    on_ready: Callable[[str], None],
) -> None:
    """Serve by `settings.workers` processes until SIGINT or SIGTERM.

    Args:
      command: starts a worker, when the number of its descriptor to us is added (`supervised.main`).
      overrides: settings of the command line, for the workers.
      on_ready: called once, with the gateway's URL, when all of them serve.

    Raises `OSError` when the port is taken, `SpoolLocked` when the journals are, `WorkerFailed` when a worker
    does not start.
    """
    leave_no_core_file()
    failure = trio.run(_supervise, settings, command, overrides, on_ready)
    if failure is not None:
        raise failure


async def _supervise(
    settings: GatewaySettings,
    command: Sequence[str],
    overrides: Mapping[str, str | None],
    on_ready: Callable[[str], None],
) -> WorkerFailed | None:
    with (
        held(settings.spool_dir),
        _metrics_listener(settings.metrics_bind) as metrics_listener,
        _listeners(settings.gateway_bind, settings.workers) as listeners,
    ):
        launch = Launch(
            command, dict(os.environ), overrides, [one.fileno() for one in listeners], inherited()
        )
        supervisor = Supervisor(
            settings.limits(),
            launch,
            listeners,
            metrics_listener,
            notice_seconds=settings.drain_notice_seconds,
            scheme="https" if settings.terminates_tls() else "http",
        )
        failure = None
        try:
            await supervisor.run(on_ready)
        except* WorkerFailed as group:
            failure = _first(group)
    return failure


def _first(group: BaseExceptionGroup[WorkerFailed]) -> WorkerFailed:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WorkerFailed)
    return error


class Supervisor:
    """The slots, and what they have in common."""

    def __init__(
        self,
        limits: Limits,
        launch: Launch,
        listeners: Sequence[socket.socket],
        metrics_listener: socket.socket | None,
        *,
        notice_seconds: float = 0.0,
        scheme: str = "http",
    ) -> None:
        """`notice_seconds` is how long workers still accept after they were told to stop; `scheme` what they
        speak on the listeners."""
        self._scheme = scheme
        self._limits = limits
        self._stop_seconds_max = notice_seconds + limits.drain_seconds + STOP_MARGIN_SECONDS
        self._listeners = listeners
        self._metrics_listener = metrics_listener
        self.keys = SharedKeys(self._limits.bcrypt_threads, self._limits.verified_keys_max)
        self.slots = [
            Slot(number, launch, self.keys, self._hear, self._changed) for number in range(len(listeners))
        ]
        self._processes: dict[int, WorkerProcess] = {}
        """Those that have been told of keys and have not ended, by serial number."""
        self._all_serve = trio.Event()
        self._reload = trio.Event()
        self.reloads = 0
        self._retired: list[Family] = []
        """What workers that have ended had counted."""
        self._scraping = trio.Lock()
        self._scrape = 0
        self._scraped = trio.Event()

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Until signalled or cancelled. Raises a group with `WorkerFailed`."""
        numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
        with trio.open_signal_receiver(*numbers) as signals:
            async with trio.open_nursery() as nursery:
                try:
                    for slot in self.slots:
                        nursery.start_soon(slot.keep)
                    nursery.start_soon(self._announce, on_ready)
                    nursery.start_soon(self._reload_when_told)
                    nursery.start_soon(self._watch)
                    if self._metrics_listener is not None:
                        nursery.start_soon(self._serve_metrics, self._metrics_listener)
                    await self._heed(signals)
                finally:
                    with trio.CancelScope(shield=True):
                        await self._stop()
                    nursery.cancel_scope.cancel()

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                return
            self._reload.set()

    async def _announce(self, on_ready: Callable[[str], None]) -> None:
        await self._all_serve.wait()
        on_ready(url_of(self._listeners[0], self._scheme))

    async def _reload_when_told(self) -> None:
        await self._all_serve.wait()
        while True:
            await self._reload.wait()
            self._reload = trio.Event()
            for slot in self.slots:
                if not await slot.replace():
                    _log.error(
                        "the reload is given up at worker %d, whose successor was not able to serve; those "
                        "that were not replaced go on as they were",
                        slot.number,
                    )
                    break
            else:
                self.reloads += 1
                _log.warning("reloaded: %d workers replaced", len(self.slots))

    async def _watch(self) -> None:
        """Ends workers that hang. What they last said is also what is known of their counters if they die."""
        while True:
            began = trio.current_time()
            await trio.sleep(ASK_SECONDS)
            now = trio.current_time()
            for worker in [one for one in self._processes.values() if one.answers]:
                if now - began > 2 * ASK_SECONDS:
                    # It is we who were away.
                    worker.heard_at = now
                elif now - worker.heard_at > HUNG_SECONDS:
                    _log.error("gateway worker %d has said nothing for too long and is killed", worker.slot)
                    worker.signal(signal.SIGKILL)
                worker.send(Scrape(0))

    async def _stop(self) -> None:
        """Each as SIGTERM stops it, and by force what does not stop."""
        for slot in self.slots:
            slot.stopping = True
        for listener in self._listeners:
            listener.close()
        processes = [process for slot in self.slots for process in slot.all]
        for process in processes:
            process.signal(signal.SIGTERM)
        with trio.move_on_after(self._stop_seconds_max):
            for process in processes:
                await process.ended.wait()

    # What workers say.

    def _changed(self, worker: WorkerProcess) -> None:
        if worker.ended.is_set():
            self._processes.pop(worker.serial, None)
            self._tell(self.keys.leave(worker.serial))
            self._retired = merge([("", self._retired), ("", counters(worker.last_word))])
            self._scraped.set()
            if worker.died:
                for other in self._processes.values():
                    other.send(Orphaned())
        else:
            self._processes[worker.serial] = worker
        if all(slot.serves for slot in self.slots):
            self._all_serve.set()
        self._cover()

    def _cover(self) -> None:
        """Whoever serves accepts for those who do not; a connection that waits does not wait for a start."""
        down = [slot.number for slot in self.slots if not slot.serves]
        for slot in self.slots:
            if slot.serves and self._all_serve.is_set():
                assert slot.current is not None
                if down != slot.current.covers:
                    slot.current.send(Cover(down))
                    slot.current.covers = down
                down = []

    def _hear(self, worker: WorkerProcess, message: FromWorker) -> None:
        worker.heard_at = trio.current_time()
        match message:
            case Claim(mac, mark):
                self._tell(self.keys.claim(worker.serial, mac, mark))
            case Verified(entry):
                self._tell(self.keys.verified(worker.serial, entry))
            case Failed(mac, mark, wrong):
                self._tell(self.keys.failed(worker.serial, mac, mark, wrong=wrong))
            case Forget(key_ids):
                self.keys.forget(key_ids)
            case Figures(number, families, more):
                worker.telling += families
                if not more:
                    worker.last_word, worker.telling = worker.telling, []
                    worker.scrape = max(number, worker.scrape)
                    self._scraped.set()

    def _tell(self, told: Told) -> None:
        for serial, message in told:
            process = self._processes.get(serial)
            if process is not None:
                process.send(message)

    # Metrics.

    async def _serve_metrics(self, listener: socket.socket) -> None:
        watchdog, readiness = Watchdog(), Readiness()

        async def handle(connection: Connection, inbound: Inbound) -> None:
            await answer(connection, inbound, render(await self.families()))

        acceptor = Acceptor(
            limits=self._limits,
            watchdog=watchdog,
            readiness=readiness,
            handler=handle,
            request_id=lambda: "",
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watchdog.run)
            nursery.start_soon(readiness.run)
            await acceptor.serve(listener, nursery)

    async def families(self) -> list[Family]:
        """Those of all workers together, and our own."""
        async with self._scraping:
            asked = [one for one in self._processes.values() if one.answers]
            self._scrape += 1
            for worker in asked:
                worker.send(Scrape(self._scrape))
            with trio.move_on_after(SCRAPE_SECONDS_MAX):
                while any(worker.scrape != self._scrape and worker.answers for worker in asked):
                    self._scraped = trio.Event()
                    await self._scraped.wait()
            silent = sum(worker.scrape != self._scrape for worker in asked)
        # Who did not answer counts with what it last said.
        told = [(self._name(worker), worker.last_word) for worker in asked if worker.answers]
        return merge([*told, ("", self._retired)]) + self._own(silent)

    def _name(self, worker: WorkerProcess) -> str:
        finishes = worker.leaving or worker is not self.slots[worker.slot].current
        return f"{worker.slot}-finishing" if finishes else str(worker.slot)

    def _own(self, silent: int) -> list[Family]:
        processes = sum(len(slot.all) for slot in self.slots)
        restarts = sum(slot.restarts for slot in self.slots)
        figures: tuple[tuple[str, Kind, str, float], ...] = (
            ("workers", "gauge", "Slots that serve.", sum(slot.serves for slot in self.slots)),
            ("worker_processes", "gauge", "Worker processes, those that retire too.", processes),
            ("workers_silent", "gauge", "Workers that did not answer this scrape.", silent),
            ("worker_restarts_total", "counter", "Workers that died and were replaced.", restarts),
            ("reloads_total", "counter", "Reloads that replaced every worker.", self.reloads),
            ("shared_keys", "gauge", "Verified keys a new worker is told of.", len(self.keys)),
            ("shared_claims", "gauge", "Keys being verified, or waiting for it.", self.keys.claims),
        )
        return [Family(name, kind, told, "sum", {"": value}) for name, kind, told, value in figures]


@contextmanager
def _metrics_listener(bind: Bind | None) -> Iterator[socket.socket | None]:
    if bind is None:
        yield None
        return
    try:
        listener = listen(bind.host, bind.port)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), f"{bind} for the metrics") from None
    with listener:
        yield listener


@contextmanager
def _listeners(bind: Bind, number: int) -> Iterator[list[socket.socket]]:
    """One for each slot, on one port. Raises `OSError` when it is taken."""
    with ExitStack() as stack:
        # Alone first: shared sockets would share with those of another gateway, too.
        probe = listen(bind.host, bind.port)
        port = probe.getsockname()[1]
        probe.close()
        yield [stack.enter_context(listen(bind.host, port, shared=True)) for _ in range(number)]


def inherited() -> list[int]:
    """Descriptors that whoever started us had us hold open: the workers hold them too."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if int(entry.name) > 2 and os.get_inheritable(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            # The one that the listing itself took.
            continue
    return found
