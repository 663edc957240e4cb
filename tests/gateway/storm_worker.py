"""A gateway worker's part in a storm, in a process of its own: it reserves, keeps a journal, ships it and
settles what others left; and it may be stopped, killed and lied to about the time.

All but the traffic is the gateway's own: journal, register of what is in flight, shipping, leases. The test
says by a pipe what requests there are, as a supervisor it says who has died. Each admission and each end is
also written to a log of the test's own, which outlives the process: what was admitted, whatever the database
makes of it. The order of those writes is such that a process killed in between has told at least as much to
its journal as to the log.
"""

from __future__ import annotations

import os
import signal
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import trio

from gateway import journals, refill
from gateway.journals import Leftovers, take_journal
from gateway.refill import Refill, wall_us
from gateway.reservation import Reservation
from gateway.ship import Shipper
from gateway.spool import Spool
from gateway.tally import BYTES_PER_TOKEN
from gateway.usage_writer import EPOCH_US, NUMBERS, UsageWriter
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.model import CredentialKind, Limit

PICODOLLARS = 1000
"""What a token costs."""
MODEL = "m"
KEY_ID = "0123456789ab"


class Place(NamedTuple):
    """Where a worker works."""

    database_url: str
    home: Path
    """Of the journals of all workers."""
    logs: Path
    org_id: UUID
    limits: tuple[Limit, ...]


class Running(NamedTuple):
    """An admitted request."""

    request_id: str
    started_us: int
    need: int
    slot: int
    reservation: Reservation


class StormWorker:
    def __init__(self, place: Place, spool: Spool, db: Database) -> None:
        self.limits = place.limits
        self.spool = spool
        self.step_us = 0
        self.refill = Refill(db, spool.owner, turn=spool.turn, clock_us=self.clock_us)
        self.shipper = Shipper(spool, db)
        self.leftovers = Leftovers(place.home, db)
        self.held: list[Running] = []
        self.writer = UsageWriter()
        self.grant: Any = SimpleNamespace(
            caller=SimpleNamespace(key=SimpleNamespace(org_id=place.org_id, key_id=KEY_ID)),
            request=SimpleNamespace(
                operation=SimpleNamespace(path="/v1/messages", metered=True),
                json=True,
                model=MODEL,
                streaming=False,
            ),
            kind=CredentialKind.BYOK,
            provider=SimpleNamespace(name="anthropic"),
            sealed=None,
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(place.logs / uuid4().hex, flags, 0o600)

    def clock_us(self) -> int:
        return wall_us() + self.step_us

    async def lend(self) -> None:
        """As `Worker._refill`."""
        while True:
            try:
                await self.shipper.ship_all()
                await self.refill.release()
                break
            except StorageError:
                await trio.sleep(0.05)
        await self.refill.run()

    async def do(self, message: tuple[Any, ...]) -> object:
        match message:
            case ("burst", requests, hold):
                async with trio.open_nursery() as nursery:
                    for need, percent in requests:
                        nursery.start_soon(self.serve, need, percent, hold)
            case ("end", percent):
                while self.held:
                    running = self.held.pop()
                    self.end(running, running.need * percent // 100)
            case ("step", seconds):
                self.step_us = seconds * 1_000_000
            case ("orphaned",):
                self.leftovers.look()
                self.refill.doubt()
            case ("owner",):
                return self.spool.owner
        return len(self.held)

    async def serve(self, need: int, percent: int, hold: bool) -> None:
        started_us = self.clock_us()
        found = await self.refill.reserve(self.limits, MODEL, started_us, need, need * PICODOLLARS)
        if not isinstance(found, Reservation):
            return
        running = self.begin(found, started_us, need)
        if hold:
            self.held.append(running)
            return
        for _ in range(need % 4):
            await trio.lowlevel.checkpoint()
        self.end(running, need * percent // 100)

    def begin(self, reservation: Reservation, started_us: int, need: int) -> Running:
        request_id = uuid4().hex
        entry = self.writer.entry(
            self.writer.begin(self.grant),
            self.grant.request,
            request_id,
            started_us,
            need * BYTES_PER_TOKEN,
            reservation.picodollars,
        )
        slot = self.spool.in_flight.begin(entry)
        os.write(self._log, f"admitted {request_id} {started_us} {need}\n".encode())
        return Running(request_id, started_us, need, slot, reservation)

    def end(self, running: Running, used: int) -> None:
        """As `Metering.settle`."""
        os.write(self._log, f"ended {running.request_id} {used}\n".encode())
        running.reservation.settle(used, used * PICODOLLARS)
        row = dict.fromkeys(NUMBERS, 0) | {
            "request_id": bytes.fromhex(running.request_id),
            "started_at": running.started_us - EPOCH_US,
            "status": 200,
            "streamed": False,
            "usage_complete": True,
            "input_tokens": used,
            "charged_picodollars": used * PICODOLLARS,
        }
        texts = (MODEL, MODEL, None, "completed", None, None)
        numbers = tuple(row[name] for name in NUMBERS)
        begin = self.writer.begin(self.grant)
        self.spool.append(self.writer.write(begin, texts, used * PICODOLLARS, numbers))
        self.spool.in_flight.end(running.slot)

    async def leave(self) -> None:
        """In order, as `Worker.run` ends."""
        await self.do(("end", 100))
        await self.shipper.ship_all()
        if await self.refill.give_back(whole=self.spool.whole):
            self.spool.settle()


def work(connection: Connection, place: Place) -> None:
    """Until told to leave, or nobody is there to say anything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    journals.LOOK_SECONDS = 0.3
    refill.DOUBT_SECONDS = 0.3
    trio.run(_work, connection, place)


async def _work(connection: Connection, place: Place) -> None:
    with closing(take_journal(place.home)) as spool:
        async with open_database(place.database_url, role="karta_gateway", connections_max=3) as db:
            worker = StormWorker(place, spool, db)
            async with trio.open_nursery() as nursery:
                for service in (worker.lend, worker.shipper.run, worker.leftovers.run):
                    nursery.start_soon(service)
                while (message := await _hear(connection)) is not None:
                    connection.send(await worker.do(message))
                nursery.cancel_scope.cancel()
            await worker.leave()
            connection.send(None)


async def _hear(connection: Connection) -> Any:
    await trio.lowlevel.wait_readable(connection.fileno())
    try:
        return connection.recv()
    except EOFError:
        os._exit(1)
