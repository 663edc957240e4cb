"""Run one plan against a script in this process, and give the tally."""

import threading

import msgspec
import pytest
import uvloop

from bench.load.connection import LoadConnection
from bench.load.plan import LoadPlan
from bench.load.tally import Tally
from bench.load.worker import Parent, run_plan
from tests.bench.scripted_server import Script, scripted_server


def plan_for(base_url: str, **changes: object) -> LoadPlan:
    """A short plan; `changes` are its fields."""
    quick = LoadPlan(base_url=base_url, keys=["k"], warmup_seconds=0.0, seconds=0.1, answer_seconds_max=5.0)
    return msgspec.structs.replace(quick, **changes)


def tally_of(plan: LoadPlan, parent: Parent | None = None) -> Tally:
    tally = Tally()
    tally.add(uvloop.run(run_plan(plan, parent or Parent())))
    return tally


class Ear:
    """Counts what the generator has read.  A script that waits for it before it goes on is never ahead of the
    generator, however the machine divides its time: no two of its pieces come in one read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard = 0
        self._reads = threading.Semaphore(0)
        receive = LoadConnection.data_received

        def data_received(connection: LoadConnection, data: bytes) -> None:
            receive(connection, data)
            self.heard += 1
            self._reads.release()

        monkeypatch.setattr(LoadConnection, "data_received", data_received)

    def begin(self) -> None:
        """Forget the reads so far: a new question has come, so all of them are over."""
        while self._reads.acquire(blocking=False):
            continue

    def wait(self) -> None:
        """Until one more piece was read, and what follows from it was done."""
        assert self._reads.acquire(timeout=30), "the generator reads nothing"


def tally_against(script: Script, **changes: object) -> Tally:
    """Run a short plan against the script."""
    with scripted_server(script) as server:
        return tally_of(plan_for(server.base_url, **changes))
