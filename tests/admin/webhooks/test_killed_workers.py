"""Workers that are killed, and a receiver that fails three times in ten: each message arrives, none is called
delivered that did not. (`tox -e webhook-load` does it at length.)"""

from __future__ import annotations

from pathlib import Path

import trio

from storage.bridge import Database
from tests.admin.webhooks.arena import (
    FailingReceiver,
    check_log,
    environment_of,
    make_endpoints,
    run_killed,
)
from tests.admin.webhooks.receiver import running_receiver

EVENTS, ENDPOINTS, KILLS = 30, 2, 2


async def test_nothing_is_lost_and_nothing_is_called_delivered_that_was_not(
    admin_db: Database, owner_db: Database, database_url: str, tmp_path: Path
) -> None:
    async with running_receiver() as receiver:
        org_id, secrets = await make_endpoints(admin_db, receiver, ENDPOINTS)
        receiver.respond = FailingReceiver(secrets)
        environment = environment_of(database_url, receiver.write_authority(tmp_path))
        messages = EVENTS * ENDPOINTS
        with trio.fail_after(200):
            await run_killed(
                admin_db,
                owner_db,
                environment,
                receiver,
                org_id,
                messages=messages,
                events=EVENTS,
                kills=KILLS,
            )
        states = await check_log(admin_db, receiver)
        assert states == {"delivered": messages}
        assert len(receiver.received) > messages
