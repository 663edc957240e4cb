"""What the control plane posts to the ledger by itself: the usage of hours that have ended, and each month's
included credit.

Each process does it; who comes second finds nothing to do, since an hour is posted in the transaction that
marks it. A round that fails is told and tried again (`storage.rounds`).
"""

from __future__ import annotations

import logging

import trio

from storage.bridge import Database
from storage.rounds import Rounds
from storage.usage_charges import charge_usage, turn_month

EVERY_SECONDS = 120
FIRST_AFTER_SECONDS = 30
_log = logging.getLogger("karta.admin")


async def keep_books(db: Database) -> None:
    """For ever; cancel it to stop."""
    rounds = Rounds(_log, "posting to the ledger was cut short")
    await trio.sleep(FIRST_AFTER_SECONDS)
    while True:
        with rounds.one():
            await post_due(db)
        await trio.sleep(EVERY_SECONDS)


async def post_due(db: Database) -> int:
    """One round; returns how many hours were charged. Usage comes before the month's turn, so that what was
    used of the last month is taken from that month's credit."""
    charged = await charge_usage(db)
    await turn_month(db)
    return charged
