"""A supervisor in the test's own Trio run, and its workers as real processes: so that what it knows can be
looked at, and they can be killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import trio

from gateway.accept import listen
from gateway.limits import Limits
from gateway.slot import Launch
from gateway.supervisor import Supervisor
from tests.support.gateway import POLL_SECONDS
from tests.support.gateway_process import gateway_environment
from tests.support.raw_client import RawClient

# Each worker is a Python that starts, and the machine has other things to do.
PATIENCE_SECONDS = 60.0
TEST_SECONDS_MAX = 120.0


class SupervisedGateway:
    """`port` is where its workers serve."""

    def __init__(self, supervisor: Supervisor, port: int) -> None:
        self.supervisor = supervisor
        self.port = port
        self.stopped = trio.Event()

    async def client(self) -> RawClient:
        return RawClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    def pids(self) -> list[int]:
        """Of those that serve, by slot."""
        return [pid for slot in self.supervisor.slots if (pid := _pid(slot.current)) is not None]

    async def figure(self, name: str) -> float:
        """Of all workers together."""
        families = {family.name: family for family in await self.supervisor.families()}
        return sum(families[name].samples.values())

    async def observed(self, stage: str) -> float:
        """Requests in that stage's histogram, of all workers together."""
        families = {family.name: family for family in await self.supervisor.families()}
        by_labels = families["stage_seconds"].counts.items()
        return sum(sum(numbers[:-1]) for labels, numbers in by_labels if f'stage="{stage}"' in labels)

    async def until_figure(self, name: str, value: float) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while await self.figure(name) != value:
                await trio.sleep(POLL_SECONDS)

    async def until_all_serve(self) -> None:
        await patiently(self, lambda: all(slot.serves for slot in self.supervisor.slots))

    async def reload(self) -> None:
        """As an operator does it; returns when every worker has been replaced."""
        reloads = self.supervisor.reloads
        signal.raise_signal(signal.SIGHUP)
        await patiently(self, lambda: self.supervisor.reloads > reloads)

    def kill(self, slot: int) -> None:
        """As the kernel does it when memory runs out."""
        os.kill(self.pids()[slot], signal.SIGKILL)


def _pid(worker: object) -> int | None:
    process = getattr(worker, "process", None)
    return None if process is None else int(process.pid)


async def patiently(gateway: SupervisedGateway, condition: object) -> None:
    """Wait until `condition()` is true, at most a fixed and generous time."""
    assert callable(condition)
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():
            await trio.sleep(POLL_SECONDS)


@asynccontextmanager
async def supervised_gateway(
    database_url: str,
    spool_dir: Path,
    *,
    provider_url: str,
    workers: int = 2,
    limits: Limits | None = None,
    master_keys: str = "",
    **variables: str,
) -> AsyncIterator[SupervisedGateway]:
    """A gateway of several workers, whose providers are all at `provider_url`."""
    environment = gateway_environment(
        database_url, spool_dir, provider_url=provider_url, master_keys=master_keys, **variables
    )
    with ExitStack() as stack, trio.fail_after(TEST_SECONDS_MAX):
        first = stack.enter_context(listen("127.0.0.1", 0, shared=True))
        port = first.getsockname()[1]
        listeners = [
            first,
            *(stack.enter_context(listen("127.0.0.1", port, shared=True)) for _ in range(workers - 1)),
        ]
        command = [sys.executable, "-P", "-m", "karta", "gateway", "--stop-with-stdin", "--control"]
        launch = Launch(command, environment, {}, [one.fileno() for one in listeners])
        supervisor = Supervisor(limits or Limits(), launch, listeners, None)
        gateway = SupervisedGateway(supervisor, port)
        ready = trio.Event()

        async def run() -> None:
            await supervisor.run(lambda _url: ready.set())
            gateway.stopped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await ready.wait()
            yield gateway
            nursery.cancel_scope.cancel()
