"""What the data plane knows of keys, organizations and agreed prices, in memory, and how it stays true.

Requests read only this; Postgres is asked on a key's first use and by the tasks here. Two ways keep it
fresh: `NOTIFY` names the key or organization that changed, and its records are read again at once (a
revocation is known within milliseconds); and every record is read again every few seconds anyway, more
often while the listener is down. A record that has not been confirmed for `key_stale_seconds` is no longer
believed.

Bound: only records of verified keys are kept, and `authenticate` bounds those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import trio

from gateway.limits import Limits
from gateway.prices import Prices
from gateway.scope import make_scope
from gateway.watchdog import Watchdog
from storage.api_keys import select_gateway_key, select_gateway_keys
from storage.bridge import Database
from storage.changes import CHANNEL, Change, decode_change
from storage.errors import StorageError
from storage.model import GatewayKey, LimitKind, Mode, OrgStatus, SealedCredential
from storage.plan_terms import Feature, allows
from storage.prices import PriceOverride, select_price_overrides
from storage.sealing import MasterKeys

_REFRESH_SECONDS: Final = 20.0
_REFRESH_SECONDS_UNHEARD: Final = 2.0
_RECONNECT_SECONDS: Final = 0.25
# Keys read again in one query. Its answer is taken in one go, some 25 µs a key, and no request is served
# meanwhile.
_BATCH_MAX: Final = 200
# Changes gathered before they are acted on as one.
_CHANGES_MAX: Final = 1000


class KeyRecord:
    """One key as last read, with what every request asks of it worked out once."""

    __slots__ = (
        "active",
        "allows_byok",
        "confirmed_at",
        "ended",
        "hard_limits",
        "has_budget",
        "has_credit",
        "key",
        "limits_use",
        "own_hard_limits",
        "own_limits",
        "routes",
        "scope",
        "server_timing",
        "simulated",
        "suspended",
        "valid_until",
    )

    def __init__(self, key: GatewayKey, confirmed_at: float) -> None:
        self.set(key, confirmed_at)

    def set(self, key: GatewayKey, confirmed_at: float) -> None:
        self.key = key
        self.confirmed_at = confirmed_at
        """When the reading began: every change committed before is in it."""
        self.valid_until = _seconds(key.expires_at) if key.revoked_at is None else 0.0
        """Seconds since the epoch. What was revoked has ended, whatever time it is here: when that was, the
        database's clock says."""
        self.active = key.org_status is OrgStatus.ACTIVE
        self.ended = key.revoked_at is not None or not self.active
        """Not by its time: what runs for it is to be cut."""
        self.allows_byok = allows(key.plan, Feature.BYOK)
        self.suspended = key.suspended_providers
        """Providers whose keys its plan does not let it use."""
        self.simulated = key.mode is Mode.TEST
        self.server_timing = key.server_timing
        self.routes = None if self.simulated else {route.alias: route for route in key.routes} or None
        """By the name that stands for them; None without any, and for who reaches no provider anyway."""
        self.scope = make_scope(key)
        """None for a key that may use any endpoint from anywhere."""
        self.hard_limits = tuple(limit for limit in key.limits if limit.hard)
        """Those that may refuse."""
        kinds = {limit.kind for limit in self.hard_limits}
        self.has_budget = LimitKind.MONEY in kinds
        self.has_credit = LimitKind.CREDIT in kinds
        """It is paid for in advance what goes up with the platform's keys."""
        self.own_limits = key.limits
        """All limits, and the hard ones, of what goes up with another key than the platform's."""
        self.own_hard_limits = self.hard_limits
        if self.has_credit:
            self.own_limits = tuple(one for one in key.limits if one.kind is not LimitKind.CREDIT)
            self.own_hard_limits = tuple(one for one in self.own_limits if one.hard)
        self.limits_use = self.has_budget or self.has_credit or LimitKind.TOKENS in kinds
        """Some limit depends on what a request may come to."""


def _nobody(_records: list[KeyRecord]) -> None:
    """Nobody has to be told."""


def _seconds(moment: datetime | None) -> float:
    return math.inf if moment is None else moment.timestamp()


class Snapshot:
    """Records of verified keys, by key id."""

    def __init__(self, db: Database, limits: Limits, watchdog: Watchdog, prices: Prices) -> None:
        self._db = db
        self._prices = prices
        self._limits = limits
        self._watchdog = watchdog
        self._records: dict[str, KeyRecord] = {}
        self._overrides: list[PriceOverride] = []
        self.master_keys: MasterKeys | None = None
        """By which the credentials of the records are opened, and what is kept ready for that."""
        self.listening = False
        self._unheard = trio.Event()
        """Fires when listening ends."""
        self.seen = trio.Event()
        """The database has answered, once at least."""
        self.epoch = 0
        """Grows with every change heard of, and with every gap in hearing."""
        self.on_ended: Callable[[list[KeyRecord]], None] = _nobody
        """Told of keys whose running answers are to be cut."""
        self.database_seen_at = -math.inf
        """When Postgres last answered, on the watchdog's clock."""

    @property
    def ready(self) -> bool:
        """The database has been seen lately enough for new keys to be verified."""
        return self.database_seen_at + self._limits.key_fresh_seconds > self._watchdog.now

    async def read(self, key_id: str) -> KeyRecord | None:
        """One key from Postgres, not yet kept. Raises `DatabaseUnavailable`."""
        read_at = trio.current_time()
        key = await select_gateway_key(self._db, key_id)
        self._seen()
        return None if key is None else KeyRecord(key, read_at)

    async def read_many(self, key_ids: Iterable[str]) -> dict[str, KeyRecord]:
        """Many keys at once, not yet kept. Raises `DatabaseUnavailable`."""
        ids, records = list(key_ids), {}
        for start in range(0, len(ids), _BATCH_MAX):
            read_at = trio.current_time()
            for key in await select_gateway_keys(self._db, ids[start : start + _BATCH_MAX]):
                records[key.key_id] = KeyRecord(key, read_at)
            self._seen()
        return records

    def keep(self, record: KeyRecord) -> None:
        self._records[record.key.key_id] = record

    def forget(self, record: KeyRecord) -> None:
        if self._records.get(record.key.key_id) is record:
            del self._records[record.key.key_id]

    def believed(self, record: KeyRecord) -> bool:
        """Confirmed recently enough to act on although the database may be away."""
        return record.confirmed_at + self._limits.key_stale_seconds > self._watchdog.now

    async def run(self) -> None:
        """Keep the records true until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            nursery.start_soon(self._refresh_regularly)

    async def _refresh_regularly(self) -> None:
        while True:
            try:
                await self.refresh(list(self._records))
                await self._refresh_prices()
                await self._sweep_credentials()
                if not self._records:
                    await self._db.fetch_value("SELECT 1")
                    self._seen()
            except StorageError:
                # Away: the records grow stale by themselves, and readiness tells.
                pass
            if self.listening:
                with trio.move_on_after(_REFRESH_SECONDS):
                    await self._unheard.wait()
            else:
                await trio.sleep(_REFRESH_SECONDS_UNHEARD)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._db.listen(CHANNEL) as changes:
                    # Whatever was said before we listened was missed, also by keys being verified now.
                    self.epoch += 1
                    await self.refresh(list(self._records))
                    await self._refresh_prices()
                    self.listening = True
                    self._unheard = trio.Event()
                    async for payload in changes:
                        batch = [payload]
                        while len(batch) < _CHANGES_MAX:
                            try:
                                batch.append(changes.receive_nowait())
                            except (trio.WouldBlock, trio.EndOfChannel):
                                break
                        changes_heard = [decode_change(one) for one in batch]
                        await self.refresh(self._touched(changes_heard))
                        if any(change.table == "price_overrides" for change in changes_heard):
                            await self._refresh_prices()
            except StorageError:
                pass
            finally:
                self.listening = False
                self._unheard.set()
            await trio.sleep(_RECONNECT_SECONDS)

    def _touched(self, changes: Iterable[Change]) -> list[str]:
        """The ids of kept keys that any of the changes concerns."""
        key_ids: set[str] = set()
        org_ids: set[UUID] = set()
        self.epoch += 1
        for change in changes:
            if change.key_id is not None:
                key_ids.add(change.key_id)
            elif change.org_id is not None:
                org_ids.add(change.org_id)
        if org_ids:
            key_ids.update(key_id for key_id, record in self._records.items() if record.key.org_id in org_ids)
        return [key_id for key_id in key_ids if key_id in self._records]

    async def refresh(self, key_ids: list[str]) -> None:
        """Read these keys again. One that has vanished is no longer valid."""
        for start in range(0, len(key_ids), _BATCH_MAX):
            batch = key_ids[start : start + _BATCH_MAX]
            read_at = trio.current_time()
            found = {key.key_id: key for key in await select_gateway_keys(self._db, batch)}
            self._seen()
            ended = []
            for key_id in batch:
                record = self._records.get(key_id)
                if record is None or record.confirmed_at > read_at:
                    # Another reading overtook this one, and knows better.
                    continue
                before, credentials = record.ended, record.key.credentials
                if key_id in found:
                    record.set(found[key_id], read_at)
                    self._forget_credentials(credentials, record.key.credentials)
                else:
                    record.valid_until = 0.0
                    record.confirmed_at = read_at
                    record.ended = True
                    self._forget_credentials(credentials, ())
                if record.ended and not before:
                    ended.append(record)
            if ended:
                self.on_ended(ended)

    def _forget_credentials(
        self, before: Sequence[SealedCredential], now: Sequence[SealedCredential]
    ) -> None:
        """What was revoked, rotated or suspended is not kept ready to be opened."""
        if self.master_keys is None or before == now:
            return
        for credential in before:
            if credential not in now:
                self.master_keys.forget(credential.credential_id)

    async def _sweep_credentials(self) -> None:
        """The same of those that no kept key has: it was pushed out, or never verified, or a request that had
        begun opened one once more. What is dropped too soon is prepared again by the next request."""
        if self.master_keys is None or not self.master_keys.openers:
            return
        known: set[int] = set()
        for at, record in enumerate(list(self._records.values()), 1):
            known.update(one.credential_id.int for one in record.key.credentials)
            if at % _BATCH_MAX == 0:
                await trio.lowlevel.checkpoint()
        self.master_keys.forget_but(known)

    async def _refresh_prices(self) -> None:
        """Read the price overrides of everybody again: there are few."""
        overrides = await select_price_overrides(self._db)
        if overrides != self._overrides:
            self._overrides = overrides
            self._prices.set_overrides(overrides)

    def _seen(self) -> None:
        self.database_seen_at = trio.current_time()
        self.seen.set()
