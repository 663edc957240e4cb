"""The health job: once a minute, however many run, it looks at each part of Karta, keeps what it found, and
opens or resolves incidents by it.

A failure must last before an incident is opened, and be over for longer before it is resolved, so that the
page does not flicker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import httpx
import trio

from karta import health_probes
from karta.health_probes import Targets, look

if TYPE_CHECKING:
    from storage.bridge import Database
    from storage.health import Recent, Sample, State
    from storage.health_key import HealthKey
    from storage.model import Actor
    from storage.sealing import MasterKeys

OPENS_AFTER = 3
"""Samples in a row that are down."""
RESOLVES_AFTER = 5
"""Samples in a row that are up."""
_log = logging.getLogger("karta.health")


async def run_round(db: Database, targets: Targets, master_keys: MasterKeys | None) -> list[Sample] | None:
    """The round of this minute, unless somebody else does it (None). Raises StorageError when the database
    is away: then nothing is kept, which the page shows as unknown."""
    from storage.health import claim_round, insert_samples, select_recent, this_minute

    minute = this_minute()
    if not await claim_round(db, minute):
        return None
    samples = await take_samples(db, targets, await _key(db, master_keys))
    await insert_samples(db, minute, samples)
    for recent in await select_recent(db, minute):
        await judge(db, recent)
    return samples


async def _key(db: Database, master_keys: MasterKeys | None) -> HealthKey | None:
    from storage.health_key import ensure_health_key

    return None if master_keys is None else await ensure_health_key(db, _actor(), master_keys)


async def take_samples(db: Database, targets: Targets, key: HealthKey | None) -> list[Sample]:
    """Looks at everything at once."""
    from storage.health import Sample

    samples: list[Sample] = []

    async def add(component: str, probe: Callable[[], Awaitable[State]]) -> None:
        samples.append(await look(component, probe))

    # Before this round's own request, whose record is still on its way.
    usage = None if key is None else await health_probes.probe_usage(db, key)
    if usage is not None and targets.gateway_url is not None:
        samples.append(Sample("usage", usage))
    async with (
        httpx.AsyncClient(trust_env=False, timeout=health_probes.SECONDS_MAX) as client,
        trio.open_nursery() as nursery,
    ):
        gateway, admin = targets.gateway_url, targets.admin_url
        if gateway is not None:
            nursery.start_soon(add, "gateway", lambda: health_probes.probe_gateway(client, gateway, key))
        if admin is not None:
            nursery.start_soon(add, "admin", lambda: health_probes.probe_admin(client, admin))
        nursery.start_soon(add, "database", lambda: health_probes.probe_database(db))
        if targets.sends_mail:
            nursery.start_soon(add, "email", lambda: health_probes.probe_email(db))
        nursery.start_soon(add, "webhooks", lambda: health_probes.probe_webhooks(db))
        if targets.takes_payments:
            nursery.start_soon(add, "payments", lambda: health_probes.probe_payments(db))
        for name, endpoint in targets.providers.items():
            nursery.start_soon(add, f"provider-{name}", partial(health_probes.probe_provider, endpoint))
    return sorted(samples, key=lambda sample: sample.component)


def decide(states: Sequence[State], *, has_incident: bool) -> str | None:
    """`open`, `resolve` or None, by the newest samples of a component, the newest first."""
    from storage.health import State

    if not has_incident and len(states) >= OPENS_AFTER and set(states[:OPENS_AFTER]) == {State.DOWN}:
        return "open"
    if has_incident and len(states) >= RESOLVES_AFTER and set(states[:RESOLVES_AFTER]) == {State.UP}:
        return "resolve"
    return None


async def judge(db: Database, recent: Recent) -> None:
    """Opens or resolves the incident of one component."""
    from admin.status.report import label
    from storage.errors import Conflict
    from storage.incidents import Stage, find_automatic, open_incident, update_incident

    incident_id = await find_automatic(db, recent.component)
    decision = decide(recent.states, has_incident=incident_id is not None)
    name = label(recent.component)
    try:
        if decision == "open":
            message = f"{name} does not answer our checks. We are looking into it."
            await open_incident(db, _actor(), f"{name} is down", [recent.component], message, automatic=True)
        elif decision == "resolve" and incident_id is not None:
            message = f"{name} has answered all checks of the last {RESOLVES_AFTER} minutes."
            await update_incident(db, _actor(), incident_id, Stage.RESOLVED, message)
    except Conflict:
        pass  # Somebody was first.


async def run_every_minute(
    db: Database, targets: Targets, master_keys: MasterKeys | None, *, first_after: float = 5.0
) -> None:
    """For ever; cancel it to stop. A round that fails is told, and the next one comes (`storage.rounds`)."""
    from storage.health import this_minute
    from storage.rounds import Rounds

    rounds = Rounds(_log, "this minute's health was not kept")
    await trio.sleep(first_after)
    while True:
        with rounds.one():
            await run_round(db, targets, master_keys)
        await trio.sleep(_until_next(this_minute().timestamp()))


def _until_next(minute: float) -> float:
    """Seconds until a little after the next minute begins."""
    return max(1.0, minute + 61 - time.time())


def _actor() -> Actor:
    from storage.model import Actor, ActorKind

    return Actor(kind=ActorKind.SYSTEM, actor_id="health")
