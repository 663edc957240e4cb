"""`karta admin` in several processes on one port: starts them, starts again what died, stops all together.

This process serves nothing. It opens the listening socket, which each of them inherits and accepts from: so
while one is away the others take its connections, and none is refused. All that they have in common is in
the database. A process that keeps dying ends everything, with its reason (see `service`); and if this one
dies, they end by their lifelines.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import trio

from admin.server import STOP_SECONDS_MAX, listen
from admin.settings import AdminSettings
from gateway.supervisor import inherited
from karta.children import karta_command
from karta.service import Launch, Program, ready_line, running

FLAG = "--listener"
"""Tells one process the descriptor that it accepts from."""
STOP_MARGIN_SECONDS = 4.0


def main(
    settings: AdminSettings,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    on_ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, by processes with these arguments and this environment. `on_ready` is
    called once with the URL, when all of them serve.

    Raises `OSError` when the port is taken, `ServiceFailed` (in a group) when they cannot be kept alive.
    """
    with listen(settings.admin_bind, settings.admin_stalled_seconds) as listener:
        held = (listener.fileno(), *inherited())
        command = karta_command("admin", *arguments, FLAG, str(listener.fileno()))
        programs = [
            Program(
                f"admin process {number}",
                lambda _: Launch(command, environment),
                ready_line("admin_url"),
                hold=held,
                stop_seconds_max=STOP_SECONDS_MAX + STOP_MARGIN_SECONDS,
            )
            for number in range(1, settings.admin_processes + 1)
        ]
        trio.run(_run, programs, on_ready)


async def _run(programs: list[Program], on_ready: Callable[[str], None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, nursery.cancel_scope)
            urls: list[str] = []
            async with trio.open_nursery() as starting:
                for program in programs:
                    starting.start_soon(_start, nursery, program, urls)
            on_ready(urls[0])


async def _start(nursery: trio.Nursery, program: Program, urls: list[str]) -> None:
    urls.append(await nursery.start(_keep, program))


async def _keep(program: Program, task_status: trio.TaskStatus[str]) -> None:
    async with running(program) as service:
        task_status.started(await service.ready())
        await trio.sleep_forever()


async def _heed(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
