"""One supervised child process: started, awaited until it is ready, started again if it dies, stopped in
order.

`running(program)` is a context: inside it the process is kept alive, and leaving it, in whatever way,
stops the process before anything outside goes on. So nested contexts stop in the opposite order of their
start, and a child that cannot be kept alive ends everything with one clear error.

Children are started in a session of their own, so that Ctrl-C in a terminal reaches only `karta up`,
which stops them in order. Their stdin is their lifeline (see `lifeline`).
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from karta.terminal import CommandError, print_error

READY_SECONDS_MAX = 60.0
"""From start to ready. A cold start on a slow disk takes a few seconds; a minute means that it hangs."""
STOP_SECONDS_MAX = 20.0
"""From SIGTERM to SIGKILL, for a program that names no time of its own."""
RESTARTS_MAX = 3
RESTART_WINDOW_SECONDS = 60.0
"""A program that dies oftener than `RESTARTS_MAX` times within this does not get better by another start."""
READY_LINE_BYTES_MAX = 4096


@dataclass(frozen=True)
class Launch:
    """How a process is started. Secrets go by the environment, never by the command."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path | None = None


@dataclass(frozen=True)
class Program:
    """What to run. `launch` is given the URL of an earlier start, so that a restart keeps its port."""

    name: str
    launch: Callable[[str | None], Launch]
    wait_ready: Callable[[trio.Process], Awaitable[str | None]]
    """Returns the program's URL, or None when the process ended before it was ready."""
    log: Path | None = None
    """Where stderr goes, begun anew at each start; None: to our own."""
    hold: Sequence[int] = ()
    """Descriptors that stay open in the process for as long as it lives."""
    stop_seconds_max: float = STOP_SECONDS_MAX
    first_starts_max: int = 1
    """How often to try the first start; more than one only where it may fail by bad luck (a port just
    taken)."""


class ServiceFailed(CommandError):
    """A child could not be started, or not be kept alive."""


class Service:
    """A program being run. Made by `running`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.url: str | None = None
        self.process: trio.Process | None = None
        self._ready = trio.Event()
        self._ended: deque[float] = deque(maxlen=RESTARTS_MAX)

    async def ready(self) -> str:
        """The URL, once the program serves it."""
        await self._ready.wait()
        if self.url is None:
            raise AssertionError("ready without a URL")
        return self.url

    async def keep(self) -> None:
        """Runs the process for ever. Raises `ServiceFailed` when it does not stay alive; cancel it to
        stop."""
        first_starts = 0
        while True:
            code = await self._run_once()
            first_starts += 1
            ended = f"the {self.program.name} ended ({_describe_exit(code)})"
            if self.url is None:
                if first_starts < self.program.first_starts_max:
                    continue
                raise ServiceFailed(f"{ended} before it was ready; {self._where_to_look()}")
            now = trio.current_time()
            if len(self._ended) == RESTARTS_MAX and now - self._ended[0] < RESTART_WINDOW_SECONDS:
                raise ServiceFailed(f"{ended} once more; {self._where_to_look()}")
            self._ended.append(now)
            print_error(f"{ended}; starting it again")

    def _where_to_look(self) -> str:
        return f"see {self.program.log}" if self.program.log else "its messages are above"

    async def _run_once(self) -> int:
        launch = self.program.launch(self.url)
        stderr = self.program.log.open("wb") if self.program.log else None
        try:
            process = await trio.lowlevel.open_process(
                list(launch.command),
                env=dict(launch.environment),
                cwd=launch.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                pass_fds=tuple(self.program.hold),
            )
        finally:
            if stderr is not None:
                stderr.close()
        self.process = process
        try:
            return await self._attend(process)
        finally:
            with trio.CancelScope(shield=True):
                await self._stop(process)

    async def _attend(self, process: trio.Process) -> int:
        with trio.move_on_after(READY_SECONDS_MAX) as waiting:
            url = await self.program.wait_ready(process)
        if waiting.cancelled_caught:
            raise ServiceFailed(
                f"the {self.program.name} was not ready within {READY_SECONDS_MAX:.0f} s; "
                f"{self._where_to_look()}"
            )
        if url is not None:
            self.url = url
            self._ready.set()
        # A child that went on writing to a full pipe would hang: what comes after the ready line is dropped.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, process)
            code = await process.wait()
            nursery.cancel_scope.cancel()
        return code

    async def _stop(self, process: trio.Process) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(self.program.stop_seconds_max):
                await process.wait()
        if process.poll() is None:
            print_error(f"the {self.program.name} did not stop in time and is killed")
            process.kill()
            await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[Service]:
    """Keep `program` running inside the context. It has been started, but await `ready()` before using it."""
    service = Service(program)
    # A cancellation from outside reaches all nested contexts at once, and must not stop a program while those
    # inside still need it: the gateway's last usage, for one, goes to the database.
    kept = trio.CancelScope(shield=True)

    async def keep() -> None:
        with kept:
            await service.keep()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        try:
            yield service
        finally:
            kept.cancel()


def ready_line(key: str) -> Callable[[trio.Process], Awaitable[str | None]]:
    """For a program that prints one JSON line when it is ready: the string under `key` in it."""

    async def wait_ready(process: trio.Process) -> str | None:
        line = b""
        while not line.endswith(b"\n"):
            chunk = await _receive(process, READY_LINE_BYTES_MAX)
            line += chunk
            if not chunk or len(line) > READY_LINE_BYTES_MAX:
                return None
        url = json.loads(line)[key]
        return url if isinstance(url, str) else None

    return wait_ready


async def _drain(process: trio.Process) -> None:
    while await _receive(process, 65536):
        pass


async def _receive(process: trio.Process, bytes_max: int) -> bytes:
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    return bytes(await process.stdout.receive_some(bytes_max))


def _describe_exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
