"""What the control plane does by itself, now and then: lets organizations go whose time has come, shreds
provider keys that were suspended for long and what is left of others, deletes requests that a plan keeps no
longer, brings a release's plans to organizations, forgets the answers that the management API kept for a day,
the webhooks of a month ago and to whom mail was sent a month ago, makes the next months' partitions, signs
where the audit chains end, tells subscribers of changed sub-processors, and tells those who chose it what
they used yesterday.

Each process does it; who comes second finds nothing to do. A round that fails is told and tried again
(`storage.rounds`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import trio

from admin.services import Services
from admin.trust.subscribe import tell_changes
from storage import webhook_deliveries
from storage.audit_chain import sign_heads
from storage.audit_checkpoints import ensure_signing_key
from storage.bridge import Database
from storage.credentials import shred, shred_suspended
from storage.errors import DatabaseBusy, DatabaseUnavailable, StorageError
from storage.idempotency import sweep
from storage.migrate import PARTITION_MONTHS_AHEAD
from storage.model import Actor, ActorKind
from storage.organization_end import end_organization, select_due
from storage.outbox import sweep_ended
from storage.plans import renew_ceilings
from storage.retention import expire_usage
from storage.rounds import Rounds
from storage.sealing import MasterKeys
from storage.webhook_events import emit_usage_of_day

EVERY_SECONDS = 600
FIRST_AFTER_SECONDS = 60
"""Nothing here is urgent, and a start is busy enough."""
ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="housekeeping")
_log = logging.getLogger("karta.admin")


async def keep_house(services: Services) -> None:
    """For ever; cancel it to stop. Without master keys nothing is signed."""
    rounds = Rounds(_log, "housekeeping was cut short")
    telling = Rounds(_log, "subscribers were not told of changed sub-processors")
    await trio.sleep(FIRST_AFTER_SECONDS)
    while True:
        with rounds.one():
            await do_round(services.db, services.loaded_master_keys)
        with telling.one():
            await tell_changes(services, ACTOR)
        await trio.sleep(EVERY_SECONDS)


async def do_round(db: Database, master_keys: MasterKeys | None = None) -> int:
    """Returns how many organizations went. What cannot be done keeps nothing else from being done, or it
    would for ever: its StorageError is raised at the end, the first of several."""
    gone = 0
    failed: list[StorageError] = []

    async def let_go(org_id: UUID) -> None:
        nonlocal gone
        gone += await end_organization(db, ACTOR, org_id)

    steps: list[Callable[[], Awaitable[object]]] = [
        *(partial(let_go, org_id) for org_id in await select_due(db)),
        partial(shred_suspended, db, ACTOR),
        # What had to wait when it was due, as somebody else had the table.
        partial(shred, db),
        partial(renew_ceilings, db, ACTOR),
        partial(expire_usage, db, ACTOR),
        partial(_sweep, db),
        partial(_emit_usage, db),
        partial(db.fetch_value, "SELECT make_partitions($1)", PARTITION_MONTHS_AHEAD),
    ]
    if master_keys is not None:
        steps.append(partial(_sign, db, master_keys))
    for step in steps:
        try:
            await step()
        except StorageError as error:
            if isinstance(error, DatabaseUnavailable) and not isinstance(error, DatabaseBusy):
                raise
            failed.append(error)
    if failed:
        raise failed[0]
    return gone


async def _sweep(db: Database) -> None:
    while await sweep(db) or await webhook_deliveries.sweep(db):
        pass
    while await webhook_deliveries.sweep_deleted(db):
        pass
    while await sweep_ended(db):
        pass


async def _emit_usage(db: Database) -> None:
    # An hour after its end, when late records of the day have mostly come.
    await emit_usage_of_day(db, (datetime.now(UTC) - timedelta(days=1, hours=1)).date())


async def _sign(db: Database, master_keys: MasterKeys) -> None:
    _, problems = await sign_heads(db, await ensure_signing_key(db, ACTOR, master_keys))
    for problem in problems:
        _log.error("the audit log is not as it was written, see `karta audit verify`: %s", problem.text)
