"""The delivery worker: spreads events, takes deliveries that are due, sends them, and says what came of each.

    spread loop     events → deliveries (of several workers one does it at a time)
    claim loop      takes as many as there is room for; one task sends each
    settle loop     writes what came of them, all that has gathered in one transaction

Any number of workers may run, in the admin process or by `karta webhooks`. One that is killed loses nothing:
what it held falls due again when its lease ends. One that is stopped gives back what it holds.

Bounds: `CONCURRENT_MAX` messages under way, `OF_ENDPOINT_MAX` of them to one endpoint. While the database
does not answer nothing is taken; what came of tries meanwhile is kept for as long as their leases last.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import trio

from admin.webhooks.dialing import Dialer, Undelivered
from admin.webhooks.message import shown_headers, write_headers
from storage.bridge import Database
from storage.errors import DatabaseUnavailable, StorageError
from storage.model import Actor, ActorKind
from storage.sealing import MasterKeys
from storage.webhook_deliveries import (
    EXCERPT_BYTES_MAX,
    LEASE_SECONDS,
    Attempt,
    Claimed,
    Settlement,
    claim,
    release,
    settle,
    spread,
)
from storage.webhook_log import switch_off_failing
from storage.webhook_schedule import GONE, decide
from storage.webhooks import select_secrets

CONCURRENT_MAX = 128
OF_ENDPOINT_MAX = 16
"""A slow receiver keeps an eighth of a worker at most."""
CLAIM_MAX = 64
"""At once: their secrets are opened, and their leases run, from then on."""
IDLE_SECONDS = 1.0
"""Between looks for work when there was none."""
SETTLE_MAX = 100
RELEASE_SECONDS_MAX = 3.0
ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="webhooks")
NO_SECRET = "no_secret"  # noqa: S105 - a reason
LEFT = "stopped without telling the database: webhooks under way fall due again within %d s"
_log = logging.getLogger("karta.webhooks")


@dataclass
class Worker:
    """One of them. `run` it."""

    db: Database
    master_keys: MasterKeys
    dialer: Dialer
    idle_seconds: float = IDLE_SECONDS
    worker_id: UUID = field(default_factory=uuid4)
    _under_way: int = 0
    _room: trio.Event = field(default_factory=trio.Event)
    _settlements: list[Settlement] = field(default_factory=list)
    _settling: trio.Event = field(default_factory=trio.Event)
    _changed: trio.Event = field(default_factory=trio.Event)
    """Set, and made anew, when events were spread or tries settled: there may be more to take."""

    async def run(self) -> None:
        """For ever; cancel it to stop."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._spread_for_ever)
                nursery.start_soon(self._settle_for_ever)
                await self._claim_for_ever(nursery)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(RELEASE_SECONDS_MAX) as leaving:
                await self._leave()
            if leaving.cancelled_caught:
                _log.warning(LEFT, LEASE_SECONDS)

    async def _spread_for_ever(self) -> None:
        while True:
            count = 0
            try:
                count = await spread(self.db)
            except StorageError as error:
                _log.warning("webhooks wait: %s", error)
            if count:
                self._tell_change()
            else:
                await trio.sleep(self.idle_seconds)

    async def _claim_for_ever(self, nursery: trio.Nursery) -> None:
        """At once while there is work, and when something has changed; else now and then."""
        while True:
            await self._wait_for_room()
            changed = self._changed
            try:
                if await self._claim(nursery):
                    continue
            except StorageError as error:
                _log.warning("webhooks wait: %s", error)
                changed = trio.Event()
            with trio.move_on_after(self.idle_seconds):
                await changed.wait()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_for_room(self) -> None:
        while self._under_way >= CONCURRENT_MAX:
            self._room = trio.Event()
            await self._room.wait()

    async def _claim(self, nursery: trio.Nursery) -> int:
        room = min(CONCURRENT_MAX - self._under_way, CLAIM_MAX)
        # A stop waits for it, as long as a statement may take: one left under way could be done after what is
        # held was given back, and would keep that from everybody until the lease ends.
        with trio.CancelScope(shield=True):
            claimed = await claim(self.db, self.worker_id, limit=room, of_endpoint_max=OF_ENDPOINT_MAX)
        if claimed:
            wanted = {one.endpoint_id for one in claimed}
            secrets = await select_secrets(self.db, self.master_keys, wanted)
            for one in claimed:
                self._under_way += 1
                nursery.start_soon(self._deliver, one, secrets.get(one.endpoint_id, []))
        return len(claimed)

    async def _deliver(self, claimed: Claimed, secrets: Sequence[str]) -> None:
        try:
            self._settlements.append(await try_once(self.dialer, claimed, secrets))
            self._settling.set()
        finally:
            self._under_way -= 1
            self._room.set()

    async def _settle_for_ever(self) -> None:
        while True:
            await self._settling.wait()
            self._settling = trio.Event()
            while self._settlements:
                try:
                    await self._settle_some()
                except StorageError as error:
                    _log.warning("what came of webhooks is not kept yet: %s", error)
                    self._forget_old()
                    await trio.sleep(self.idle_seconds)

    async def _settle_some(self) -> None:
        batch = self._settlements[:SETTLE_MAX]
        failing = set(await settle(self.db, self.worker_id, batch))
        del self._settlements[: len(batch)]
        self._tell_change()
        gone = {one.endpoint_id for one in batch if one.attempt.status == GONE}
        for endpoint_id in failing | gone:
            await self._switch_off(endpoint_id, gone=endpoint_id in gone)

    async def _switch_off(self, endpoint_id: UUID, *, gone: bool) -> None:
        endpoint = await switch_off_failing(self.db, ACTOR, endpoint_id, gone=gone)
        if endpoint is not None:
            _log.info("webhook endpoint %s was switched off (%s)", endpoint_id, endpoint.reason)

    def _forget_old(self) -> None:
        """What is older than its lease is somebody else's by now."""
        since = time.time() - LEASE_SECONDS
        self._settlements = [one for one in self._settlements if one.attempt.started_at.timestamp() > since]

    async def _leave(self) -> None:
        try:
            while self._settlements:
                await self._settle_some()
            await release(self.db, self.worker_id)
        except DatabaseUnavailable:
            # As when the database was stopped first: how the connection ended helps nobody.
            _log.warning(LEFT, LEASE_SECONDS)
        except StorageError as error:
            _log.warning(f"{LEFT}: %s", LEASE_SECONDS, error)


async def try_once(dialer: Dialer, claimed: Claimed, secrets: Sequence[str]) -> Settlement:
    """Sends one message once."""
    attempt_id, started_at, began = uuid4(), datetime.now(UTC), trio.current_time()
    headers = write_headers(claimed.event_id, attempt_id, claimed.body, secrets, started_at)
    status = retry_after = reason = None
    excerpt = b""
    try:
        if not secrets:
            raise Undelivered(NO_SECRET)
        answer = await dialer.post(claimed.url, headers, claimed.body.encode())
        status, retry_after, excerpt = answer.status, answer.retry_after_seconds, answer.excerpt
    except Undelivered as error:
        reason = error.reason
    following = decide(claimed.tries + 1, status, retry_after, random.random)
    return Settlement(
        delivery_id=claimed.delivery_id,
        endpoint_id=claimed.endpoint_id,
        state=following.state,
        delay_seconds=following.delay_seconds,
        attempt=Attempt(
            attempt_id=attempt_id,
            started_at=started_at,
            duration_ms=round((trio.current_time() - began) * 1000),
            status=status,
            reason=reason,
            headers=shown_headers(headers),
            excerpt=readable(excerpt),
        ),
    )


def readable(excerpt: bytes) -> str:
    """Text that can be kept and shown, of what may be anything."""
    text = excerpt[:EXCERPT_BYTES_MAX].decode(errors="replace")
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
