"""What the control plane does by itself, now and then: lets organizations go whose time has come, and forgets
the answers that the management API kept for a day.

Each process does it; who comes second finds nothing to do. A round that fails is told and tried again.
"""

from __future__ import annotations

import logging

import trio

from storage.bridge import Database
from storage.errors import StorageError
from storage.idempotency import sweep
from storage.model import Actor, ActorKind
from storage.organization_end import end_organization, select_due

EVERY_SECONDS = 600
ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="housekeeping")
_log = logging.getLogger("karta.admin")


async def keep_house(db: Database) -> None:
    """For ever; cancel it to stop."""
    while True:
        try:
            await do_round(db)
        except StorageError as error:
            _log.warning("housekeeping was cut short: %s", error)
        await trio.sleep(EVERY_SECONDS)


async def do_round(db: Database) -> int:
    """Returns how many organizations went."""
    gone = 0
    for org_id in await select_due(db):
        gone += await end_organization(db, ACTOR, org_id)
    while await sweep(db):
        pass
    return gone
