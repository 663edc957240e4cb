"""One worker of several: what `worker` is, on a socket and with keys that its supervisor hands it.

It starts when the supervisor has told it everything, accepts connections when it is able to serve them as
the one before it did, answers scrapes, and ends when it is told to or the supervisor has ended. Keys that
other workers verify are read from the database in the background, so that they are known here before they are
first used, and go on being known if the database goes away.

Bounds: entries that wait to be read are as many as keys are remembered; a claim waits `CLAIM_SECONDS_MAX` at
most, then the worker goes without.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from contextlib import ExitStack, closing

import trio

from gateway.control import (
    ENTRIES_MAX,
    Begin,
    Claim,
    Cover,
    Entry,
    Failed,
    Forget,
    FromWorker,
    Go,
    Known,
    Leaving,
    Line,
    LineBroken,
    Orphaned,
    Retire,
    Scrape,
    Serve,
    Serving,
    ToWorker,
    Verified,
    Wrong,
    figures,
)
from gateway.fault import tell
from gateway.journals import take_journal
from gateway.metric_page import counters
from gateway.peers import Verdict
from gateway.process import prepare_process
from gateway.settings import GatewaySettings
from gateway.worker import Worker, worker_database
from storage import error_reports
from storage.errors import StorageError

# Of a queue that is full, all verified by one worker: longer means that somebody is stuck.
CLAIM_SECONDS_MAX = 60.0
_AWAY_SECONDS = 1.0
_LAST_WORD_SECONDS = 1.0

_log = logging.getLogger("karta.gateway.supervised")


def main(descriptor: int) -> None:
    """Serve as the supervisor at the other end of `descriptor` says, until it or a signal says to stop.

    Raises `SettingsError`, and `SpoolLocked` when there is no journal to be had.
    """
    prepare_process()
    trio.run(serve, socket.socket(fileno=descriptor))


async def serve(sock: socket.socket) -> None:
    """The same inside a Trio run."""
    line = Line(sock)
    try:
        begin, entries = await _hear_beginning(line)
        with ExitStack() as listeners:
            # The supervisor serves the figures of all.
            settings = GatewaySettings.load(**begin.overrides, metrics_bind=None)
            error_reports.begin(settings, "gateway")
            sockets = [
                listeners.enter_context(socket.socket(fileno=descriptor)) for descriptor in begin.listeners
            ]
            await _serve(line, settings, begin, entries, sockets)
    except LineBroken:
        # Nobody to begin for.
        return
    finally:
        line.close()


async def _serve(
    line: Line,
    settings: GatewaySettings,
    begin: Begin,
    entries: list[Entry],
    listeners: list[socket.socket],
) -> None:
    with closing(take_journal(settings.spool_dir)) as spool:
        async with worker_database(settings) as db, trio.open_nursery() as nursery:
            peers = SupervisedPeers(line, begin.secret)
            worker = Worker(settings, spool, db, peers)
            worker.spares = listeners
            worker.on_leaving = lambda: line.send(Leaving())
            supervised = Supervised(line, worker, peers, entries)

            async def hold() -> None:
                await supervised.until_able(begin.patience)

            nursery.start_soon(line.run)
            nursery.start_soon(supervised.run)
            await worker.run(listeners[begin.slot], lambda _url: line.send(Serving()), hold)
            with trio.move_on_after(_LAST_WORD_SECONDS):
                for part in figures(0, counters(worker.metrics.families())):
                    line.send(part)
                await line.flush()
            nursery.cancel_scope.cancel()


async def _hear_beginning(line: Line) -> tuple[Begin, list[Entry]]:
    begin = await line.receive()
    assert isinstance(begin, Begin), "the first word is Begin"
    entries: list[Entry] = []
    while not isinstance(message := await line.receive(), Serve):
        if isinstance(message, Known):
            entries += message.entries
    return begin, entries


class _Answer:
    """To a claim."""

    def __init__(self) -> None:
        self.verdict = Verdict.GO
        self.given = trio.Event()


class SupervisedPeers:
    """The other workers, by way of the supervisor: see `peers.Peers`."""

    def __init__(self, line: Line, secret: bytes) -> None:
        self.secret = secret
        self._line = line
        self._claims: dict[tuple[bytes, bytes], _Answer] = {}

    async def claim(self, mac: bytes, mark: bytes) -> Verdict:
        answer = self._claims[mac, mark] = _Answer()
        self._line.send(Claim(mac, mark))
        try:
            with trio.move_on_after(CLAIM_SECONDS_MAX):
                await answer.given.wait()
        finally:
            del self._claims[mac, mark]
        return answer.verdict

    def verified(self, mac: bytes, mark: bytes, key_id: str) -> None:
        self._line.send(Verified(Entry(mac, mark, key_id)))

    def failed(self, mac: bytes, mark: bytes, *, wrong: bool) -> None:
        self._line.send(Failed(mac, mark, wrong))

    def forget(self, key_ids: list[str]) -> None:
        for at in range(0, len(key_ids), ENTRIES_MAX):
            self._line.send(Forget(key_ids[at : at + ENTRIES_MAX]))

    def answer(self, mac: bytes, mark: bytes, verdict: Verdict) -> bool:
        """Whether anybody had claimed it."""
        answer = self._claims.get((mac, mark))
        if answer is None:
            return False
        answer.verdict = verdict
        answer.given.set()
        return True


class Supervised:
    """What a worker hears and does."""

    def __init__(self, line: Line, worker: Worker, peers: SupervisedPeers, entries: list[Entry]) -> None:
        self._line = line
        self._worker = worker
        self._peers = peers
        self._first = len(entries)
        """Of the entries that wait, how many were told at first."""
        self._entries = deque(entries, maxlen=worker.limits.verified_keys_max)
        self._more = trio.Event()
        self._adopted = trio.Event()
        self._built = trio.Event()

    async def until_able(self, patience: float) -> None:
        """Until the database has been seen and the keys told of at first are known, or so many seconds. The
        worker is built by then.
        """
        self._built.set()
        with trio.move_on_after(patience):
            await self._worker.snapshot.seen.wait()
            while self._first > 0:
                await self._adopted.wait()

    async def run(self) -> None:
        """Hear and do, until cancelled."""
        await self._built.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._adopt)
            try:
                while True:
                    self._do(await self._line.receive())
            except LineBroken:
                # Nobody would start another in its place, or stop it: what is orphaned must not stay.
                self._worker.abandon()

    def _do(self, message: ToWorker | FromWorker) -> None:
        match message:
            case Known(entries):
                for entry in entries:
                    if not self._peers.answer(entry.mac, entry.mark, Verdict.GOOD):
                        self._entries.append(entry)
                        self._more.set()
            case Go(mac, mark):
                if not self._peers.answer(mac, mark, Verdict.GO):
                    self._peers.failed(mac, mark, wrong=False)
            case Wrong(mac, mark):
                self._peers.answer(mac, mark, Verdict.WRONG)
            case Scrape(number):
                for part in figures(number, self._worker.metrics.families()):
                    self._line.send(part)
            case Cover(slots):
                self._worker.cover(slots)
            case Retire():
                self._worker.retire()
            case Orphaned():
                self._worker.leftovers.look()
                self._worker.refill.doubt()

    async def _adopt(self) -> None:
        """Read what others have verified."""
        while True:
            while self._entries:
                batch = [self._entries[at] for at in range(min(len(self._entries), ENTRIES_MAX))]
                try:
                    await self._worker.authenticator.adopt([(one.mac, one.mark, one.key_id) for one in batch])
                except StorageError:
                    await trio.sleep(_AWAY_SECONDS)
                    continue
                except Exception as error:
                    tell(_log, error, "verified keys cannot be taken over")
                for _ in range(min(len(batch), len(self._entries))):
                    self._entries.popleft()
                self._first -= len(batch)
                self._adopted.set()
                self._adopted = trio.Event()
            self._more = trio.Event()
            await self._more.wait()
