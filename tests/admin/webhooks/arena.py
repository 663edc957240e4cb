"""Delivery workers as processes, to be killed: `karta webhooks` against a receiver on loopback."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import trio
from standardwebhooks import Webhook

from storage.bridge import Database
from storage.model import Actor, ActorKind, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys
from storage.webhook_deliveries import LEASE_SECONDS
from storage.webhook_events import emit
from storage.webhook_log import redeliver
from storage.webhooks import NewEndpoint, create_endpoint
from tests.admin.webhooks.receiver import Received, Receiver, answer
from tests.storage.test_webhook_events import INVOICE

ACTOR = Actor(kind=ActorKind.CLI, actor_id="tester")
KEYS_TEXT = MasterKeys.generate()
KEYS = MasterKeys.parse(KEYS_TEXT)
NETWORKS = "127.0.0.0/8,::1/128"
PHASE_SECONDS_MAX = 600


def environment_of(database_url: str, authority: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
    return {
        **inherited,
        "KARTA_DATABASE_URL": database_url,
        "KARTA_MASTER_KEYS": KEYS_TEXT,
        "KARTA_WEBHOOKS_ALLOWED_NETWORKS": NETWORKS,
        "KARTA_WEBHOOKS_CA_FILE": str(authority),
    }


@asynccontextmanager
async def worker_process(environment: dict[str, str]) -> AsyncIterator[trio.Process]:
    """One worker that works. Killed at the end, if it is not dead yet."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "karta", "webhooks", "--json"], env=environment, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            piece = await process.stdout.receive_some(1024)
            assert piece, "it ended before it was ready"
            line += piece
        assert json.loads(line) == {"ready": True}
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()
            await process.stdout.aclose()  # type: ignore[union-attr]


@dataclass
class FailingReceiver:
    """Takes 70 % of what comes; of the rest some is refused, and some cut off. What it took it notes before
    it says so."""

    secrets: dict[str, str]
    """By the path of the endpoint."""
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    taken: dict[str, int] = field(default_factory=dict)
    """How often, by endpoint's path and invoice."""
    asked: int = 0

    def __call__(self, received: Received) -> bytes:
        self.asked += 1
        told = Webhook(self.secrets[received.target]).verify(received.body, received.headers)
        if self.chance.random() < 0.3:
            return self.chance.choice([answer(500), answer(503), b"", b"HTTP/1.1 20"])
        name = f"{received.target} {told['data']['invoice_id']}"
        self.taken[name] = self.taken.get(name, 0) + 1
        return answer(200)


async def make_endpoints(db: Database, receiver: Receiver, count: int) -> tuple[UUID, dict[str, str]]:
    """In an organization of their own, for paid invoices; their secrets by path."""
    org = await create_organization(db, ACTOR, name="Example", plan=Plan.ENTERPRISE)
    secrets = {}
    for number in range(count):
        path = f"/{number}"
        chosen = NewEndpoint(
            url=receiver.url(path, "localhost"), events=("invoice.paid",), ordered=number == 0
        )
        _, secrets[path] = await create_endpoint(db, ACTOR, KEYS, org.org_id, chosen)
    return org.org_id, secrets


async def emit_invoices(db: Database, org_id: UUID, numbers: range) -> None:
    for number in numbers:
        await emit(db, org_id, "invoice.paid", {**INVOICE, "invoice_id": f"in_{number}"})


async def hurry(db: Database, held_seconds_max: float) -> None:
    """Neither waits for the next try nor for the lease of the dead: those that live hold nothing for so long.
    What a slow one holds longer is sent twice."""
    await db.execute(
        "UPDATE webhook_deliveries SET due_at = now()"
        " WHERE state = 'pending' AND claim IS NULL AND due_at > now()"
    )
    await db.execute(
        "UPDATE webhook_deliveries SET due_at = now()"
        " WHERE claim IS NOT NULL AND due_at < now() + make_interval(secs => $1)",
        LEASE_SECONDS - held_seconds_max,
    )


async def kill_again_and_again(
    environment: dict[str, str], receiver: Receiver, kills: int, of_each: int, done: trio.Event
) -> None:
    """`kills` workers one after the other, each killed while it works, when the receiver has been asked
    `of_each` times more; then one that lives until `done`."""
    for _ in range(kills):
        wanted = len(receiver.received) + of_each
        async with worker_process(environment) as process:
            await receiver.wait_for(wanted, seconds=PHASE_SECONDS_MAX)
            process.send_signal(signal.SIGKILL)
    async with worker_process(environment):
        await done.wait()


async def run_killed(
    db: Database,
    owner_db: Database,
    environment: dict[str, str],
    receiver: Receiver,
    org_id: UUID,
    *,
    messages: int,
    events: int,
    kills: int,
    workers: int = 1,
    held_seconds_max: float = 3.0,
    tell: Callable[[dict[str, int]], None] = lambda _: None,
) -> int:
    """Emits `events` while `workers` are killed, until all of `messages` are delivered. Never is more called
    delivered than has arrived. What was given up after ten tries is sent again, as a person would have it;
    returns how many that were. `tell` is told how many are in which state."""
    failing, done = receiver.respond, trio.Event()
    assert isinstance(failing, FailingReceiver)
    of_each = messages // (kills * workers + 1)
    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(kill_again_and_again, environment, receiver, kills, of_each, done)
        emitted = again = 0
        while not done.is_set():
            following = min(emitted + 5, events)
            await emit_invoices(db, org_id, range(emitted, following))
            emitted = following
            await hurry(owner_db, held_seconds_max)
            rows = await db.fetch("SELECT state, count(*) AS n FROM webhook_deliveries GROUP BY 1")
            states = {row["state"]: row["n"] for row in rows}
            tell(states)
            assert states.get("delivered", 0) <= len(failing.taken)
            if states.get("delivered", 0) == messages:
                done.set()
            if states.get("failed", 0):
                again += await redeliver_failed(db, org_id)
            await trio.sleep(0.05)
    return again


async def redeliver_failed(db: Database, org_id: UUID) -> int:
    rows = await db.fetch("SELECT endpoint_id, delivery_id FROM webhook_deliveries WHERE state = 'failed'")
    for row in rows:
        await redeliver(db, ACTOR, org_id, row["endpoint_id"], row["delivery_id"])
    return len(rows)


async def check_log(db: Database, receiver: Receiver) -> dict[str, int]:
    """That what is called delivered arrived, and was answered by a 2xx; how many there are, by state."""
    failing = receiver.respond
    assert isinstance(failing, FailingReceiver)
    rows = await db.fetch(
        "SELECT e.url, w.body::jsonb #>> '{data,invoice_id}' AS invoice, d.state,"
        "       (SELECT count(*) FROM webhook_attempts a WHERE a.delivery_id = d.delivery_id"
        "           AND a.status BETWEEN 200 AND 299) AS good"
        "  FROM webhook_deliveries d JOIN webhook_endpoints e USING (endpoint_id)"
        "  JOIN webhook_events w ON w.seq = d.event_seq"
    )
    states: dict[str, int] = {}
    for row in rows:
        states[row["state"]] = states.get(row["state"], 0) + 1
        arrived = failing.taken.get(f"/{row['url'].rpartition('/')[2]} {row['invoice']}", 0)
        if row["state"] == "delivered":
            assert min(arrived, row["good"]) >= 1
        else:
            assert row["good"] == 0
    return states
