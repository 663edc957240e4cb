"""What delivery of webhooks stands: `python -m tests.webhook_load`, or `tox -e webhook-load`.

First how many messages a second one worker delivers, to a receiver in a process of its own, over TLS and with
a connection for each, the database one that keeps what it confirms. Then workers are killed again and again
while a receiver fails three times in ten: each message ends, what is called delivered arrived, and nothing is
lost. `--messages 0` goes to the killing at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil
import trio

from storage.bridge import Database, open_database
from storage.migrate import migrate
from storage.webhook_deliveries import spread
from tests.admin.webhooks.arena import (
    FailingReceiver,
    check_log,
    emit_invoices,
    environment_of,
    make_endpoints,
    run_killed,
    worker_process,
)
from tests.admin.webhooks.receiver import Receiver, running_receiver
from tests.support import postgres
from tests.support.postgres import PostgresServer, running_server

DELIVERIES_A_SECOND = 200
ENDPOINTS = 10
HELD_SECONDS_MAX = 15.0
"""A worker on a busy machine holds what it sends for some seconds."""
PROGRESS_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=4000, help="of the measurement")
    parser.add_argument("--events", type=int, default=1000, help="while workers are killed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5, help="of each worker")
    parser.add_argument("--minutes", type=float, default=30, help="so long at most it may take")
    parser.add_argument("--receive", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive is not None:
        trio.run(_receive, given.receive)
        return
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        postgres._SETTINGS[setting] = "on"
    postgres._fast_folder = lambda: None
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        for name in ("rate", "kills"):
            server.sql(f"CREATE DATABASE {name}")
            trio.run(migrate, server.url(name))
        rate = trio.run(_measure, server, given.messages, Path(folder)) if given.messages else None
        trio.run(_kill, server, given, Path(folder))
    if rate is not None and rate < DELIVERIES_A_SECOND / 10:
        sys.exit(f"{rate:.0f} deliveries a second are far from {DELIVERIES_A_SECOND}")


async def _receive(folder: Path) -> None:
    async with running_receiver() as receiver:
        receiver.write_authority(folder)
        print(receiver.port, flush=True)
        await trio.sleep_forever()


async def _measure(server: PostgresServer, messages: int, folder: Path) -> float:
    with ExitStack() as stack:
        command = [sys.executable, "-m", "tests.webhook_load", "--receive", str(folder)]
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - returns at once
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        receiver = Receiver(int(await trio.to_thread.run_sync(process.stdout.readline)), None)  # type: ignore[arg-type]
        async with open_database(server.url("rate"), role="karta_admin") as db:
            org_id, _ = await make_endpoints(db, receiver, ENDPOINTS)
            await db.execute("UPDATE webhook_endpoints SET ordered = false")
            await emit_invoices(db, org_id, range(messages // ENDPOINTS))
            while await spread(db):
                pass
            async with worker_process(environment_of(server.url("rate"), folder / "receivers.pem")) as worker:
                started = psutil.Process(worker.pid).cpu_times()
                while await _pending(db):
                    await trio.sleep(0.5)
                ended = psutil.Process(worker.pid).cpu_times()
            row = await db.fetch_row(
                "SELECT count(*) AS n, count(*) FILTER (WHERE status = 200) AS good,"
                "       extract(epoch FROM max(started_at) - min(started_at))::float8 AS seconds"
                "  FROM webhook_attempts"
            )
    assert row is not None
    rate: float = row["good"] / row["seconds"]
    cpu = ended.user + ended.system - started.user - started.system
    print(
        f"one worker: {row['good']} of {row['n']} delivered in {row['seconds']:.1f} s, {rate:.0f} a second; "
        f"{cpu * 1000 / row['good']:.2f} ms of CPU each"
    )
    return rate


async def _pending(db: Database) -> bool:
    found: bool = await db.fetch_value(
        "SELECT EXISTS (SELECT FROM webhook_deliveries WHERE state = 'pending')"
    )
    return found


async def _kill(server: PostgresServer, given: argparse.Namespace, folder: Path) -> None:
    url = server.url("kills")
    messages = given.events * ENDPOINTS
    async with (
        open_database(url, role="karta_admin") as db,
        open_database(url, role=None) as owner_db,
        running_receiver() as receiver,
    ):
        org_id, secrets = await make_endpoints(db, receiver, ENDPOINTS)
        receiver.respond = FailingReceiver(secrets)
        environment = environment_of(url, receiver.write_authority(folder))
        began = trio.current_time()
        with trio.fail_after(given.minutes * 60):
            again = await run_killed(
                db,
                owner_db,
                environment,
                receiver,
                org_id,
                messages=messages,
                events=given.events,
                kills=given.kills,
                workers=given.workers,
                held_seconds_max=HELD_SECONDS_MAX,
                tell=_Progress(receiver).tell,
            )
        seconds = trio.current_time() - began
        states = await check_log(db, receiver)
        taken = receiver.respond.taken
    assert states == {"delivered": messages}
    twice = sum(count > 1 for count in taken.values())
    print(
        f"{given.workers} workers, each killed {given.kills} times: of {messages} messages {states} in "
        f"{seconds:.0f} s; {len(receiver.received)} tries, {twice} arrived more than once; {again} were "
        "given up after ten tries and sent again by hand"
    )


class _Progress:
    """A line now and then."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._next = trio.current_time() + PROGRESS_SECONDS

    def tell(self, states: dict[str, int]) -> None:
        if trio.current_time() >= self._next:
            self._next = trio.current_time() + PROGRESS_SECONDS
            print(f"{states}, {len(self._receiver.received)} tries", flush=True)


if __name__ == "__main__":
    main()
