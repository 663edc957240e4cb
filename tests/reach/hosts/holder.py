"""A gateway in the middle of a transaction.

`python -m tests.reach.hosts.holder LIMIT WINDOW` borrows one of that limit's window from the database at
KARTA_DATABASE_URL, says so, and never commits.
"""

from __future__ import annotations

import os
import sys
import uuid

import trio

from storage.bridge import open_database
from storage.leases import LeaseRequest, settle_leases


async def hold(limit_id: int, window_start: int) -> None:
    request = LeaseRequest(limit_id, window_start, opened=1, acquired=0, unspent=0, wanted=1, minimum=1)
    async with (
        open_database(os.environ["KARTA_DATABASE_URL"], role="karta_gateway") as db,
        db.transaction() as tx,
    ):
        (answer,) = await settle_leases(tx, uuid.uuid4(), 1, [request])
        print("holding", answer.granted, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(hold, int(sys.argv[1]), int(sys.argv[2]))
