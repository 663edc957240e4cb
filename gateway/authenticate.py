"""Stage 3: `APIRequest → Caller`. Who is asking.

A key is verified once: checksum, look-up by public id, bcrypt in a thread. After that it is recalled by a
MAC of the token under a key made at start-up and never kept, so memory holds no token and no fast digest
outlives the process. Order of defence on a miss: checksum (garbage costs nothing), memory of wrong tokens,
failure budgets of the address and of the public id (`guessing`), one flight a token however many ask, a
bounded queue before bcrypt, whose thread stands back for the loop. None of these stands before the positive
cache, so nobody can lock out a key that is already verified.

Workers of one host share what they verify (`peers`): the key of the MAC is the same in all of them, one of
them runs bcrypt, and each reads the record for itself: what is shared says nothing about a key's standing.

A flight runs in the worker's nursery, not in its first caller's: a client that leaves takes nobody else's
verification with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NewType

import trio

from gateway.fault import tell
from gateway.guessing import Guesses
from gateway.limits import Limits
from gateway.peers import Alone, Peers, Verdict
from gateway.refusal import Kind, Refusal
from gateway.snapshot import KeyRecord, Snapshot
from gateway.watchdog import Watchdog
from storage import key_format
from storage.errors import StorageError
from storage.key_format import ParsedKey

Caller = NewType("Caller", KeyRecord)
"""A key record whose secret has been verified: only `Authenticator` makes one."""

_BEHIND: Final = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
"""A quarter of what the loops get where cores are scarce, and all of what they leave."""

_log = logging.getLogger("karta.gateway.authenticate")


def unauthenticated() -> Refusal:
    """One answer for unknown, wrong, revoked and expired: which it was is nobody's business."""
    return Refusal(
        Kind.UNAUTHENTICATED,
        "Invalid API key: send a live Karta key (kt_live_… or kt_test_…) as x-api-key "
        "or Authorization: Bearer.",
    )


class Flight:
    """One verification under way: `looked_up` fires when the record is known, `landed` when the verdict
    is."""

    def __init__(self) -> None:
        self.looked_up = trio.Event()
        self.landed = trio.Event()
        self.candidate: KeyRecord | None = None
        """The record the token claims to be, *unverified*: good for preparing, never for answering."""
        self.caller: Caller | None = None
        self.refusal: tuple[Kind, str, int | None] | None = None

    def fail(self, refusal: Refusal) -> None:
        self.refusal = (refusal.kind, refusal.message, refusal.retry_after)

    def verdict(self) -> Caller:
        """The verified caller; raises the `Refusal` otherwise. Call after `landed`."""
        if self.caller is not None:
            return self.caller
        assert self.refusal is not None
        kind, message, retry_after = self.refusal
        raise Refusal(kind, message, retry_after=retry_after)


class Authenticator:
    """Verified keys of one worker, and the way to verify more."""

    def __init__(
        self,
        snapshot: Snapshot,
        limits: Limits,
        watchdog: Watchdog,
        nursery: trio.Nursery,
        peers: Peers | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._limits = limits
        self._watchdog = watchdog
        self._nursery = nursery
        self._peers = peers or Alone()
        self._secret = self._peers.secret
        self._keyed = blake2b(key=self._secret, digest_size=32)
        self._verified: dict[bytes, Caller] = {}
        self._refused: dict[bytes, float] = {}
        self._flights: dict[bytes, Flight] = {}
        self.guesses = Guesses(limits, watchdog)
        self._threads = trio.CapacityLimiter(limits.bcrypt_threads)
        self.bcrypt_runs = 0
        self.recalled = 0
        """Requests of the task way whose key was known; all of the lane's are."""
        self.vouched = 0
        """Keys that another worker has verified."""

    @property
    def verified(self) -> int:
        return len(self._verified)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def bcrypt_running(self) -> int:
        return self._threads.borrowed_tokens

    @property
    def bcrypt_waiting(self) -> int:
        """Verifications that wait for a thread."""
        return self._threads.statistics().tasks_waiting

    def mac(self, token: bytes | memoryview) -> bytes:
        """Keyed BLAKE2b (RFC 7693): a MAC by construction, in a third of HMAC-SHA256's time."""
        # A copy of one that has taken in its key: the key's own block is not worked through each time.
        keyed = self._keyed.copy()
        keyed.update(token)
        return keyed.digest()

    def recall(self, token: bytes) -> Caller | None:
        """The caller, if this token was verified before. Never waits."""
        caller = self.recall_mac(self.mac(token))
        if caller is not None:
            self.recalled += 1
        return caller

    def recall_mac(self, mac: bytes) -> Caller | None:
        """The same by the token's MAC, for those who do not keep tokens."""
        caller = self._verified.get(mac)
        if caller is not None and not self._snapshot.believed(caller):
            raise Refusal(Kind.UNAVAILABLE, "Karta's key database has been away for too long.", retry_after=5)
        return caller

    def begin(self, token: bytes, address: str) -> Flight:
        """Start (or join) the verification of a token that is not recalled. Raises `Refusal` at once where
        it can.
        """
        mac = self.mac(token)
        flight = self._flights.get(mac)
        if flight is not None:
            return flight
        parsed = key_format.parse(token)
        refusal = self._dismissal(mac, parsed, address)
        if refusal is not None:
            raise refusal
        assert parsed is not None
        if len(self._flights) >= self._limits.bcrypt_queue_max:
            raise Refusal(Kind.UNAVAILABLE, "Too many keys are being verified; try again.", retry_after=2)
        self.guesses.begin(address, parsed.key_id)
        flight = self._flights[mac] = Flight()
        self._nursery.start_soon(self._fly, mac, parsed, address, flight)
        return flight

    def dismissal(self, token: bytes, address: str) -> Refusal | None:
        """What a token is refused with that would not even be looked up; None for all others."""
        mac = self.mac(token)
        if mac in self._verified or mac in self._flights:
            return None
        return self._dismissal(mac, key_format.parse(token), address)

    def _dismissal(self, mac: bytes, parsed: ParsedKey | None, address: str) -> Refusal | None:
        if parsed is None or self._refused.get(mac, 0.0) > self._watchdog.now:
            return unauthenticated()
        return self.guesses.refusal(address, parsed.key_id)

    async def _fly(self, mac: bytes, parsed: ParsedKey, address: str, flight: Flight) -> None:
        wrong = False
        try:
            await self._verify(mac, parsed, flight)
        except Refusal as refusal:
            flight.fail(refusal)
            wrong = refusal.kind is Kind.UNAUTHENTICATED
            if wrong:
                self._remember_wrong(mac)
        except StorageError:
            flight.fail(Refusal(Kind.UNAVAILABLE, "Karta's key database is away; try again.", retry_after=2))
        except Exception as error:
            # A fault of Karta's own. This task has no caller to end with it: those who wait are told.
            tell(_log, error, "key %s cannot be verified", parsed.key_id)
            flight.fail(Refusal(Kind.INTERNAL, "Karta failed to verify this key."))
        else:
            assert flight.candidate is not None
            flight.caller = self._remember(mac, flight.candidate)
        finally:
            if flight.caller is None and flight.refusal is None:
                flight.fail(Refusal(Kind.UNAVAILABLE, "The gateway is stopping.", retry_after=1))
            del self._flights[mac]
            self.guesses.end(address, parsed.key_id, wrong=wrong)
            flight.looked_up.set()
            flight.landed.set()

    async def _verify(self, mac: bytes, parsed: ParsedKey, flight: Flight) -> None:
        epoch = self._snapshot.epoch
        record = await self._snapshot.read(parsed.key_id)
        if record is None or record.key.mode is not parsed.mode:
            raise unauthenticated()
        flight.candidate = record
        flight.looked_up.set()
        if not await self._fits(mac, parsed, record):
            raise unauthenticated()
        # Kept before it is asked about again, so that no change can fall between.
        self._snapshot.keep(record)
        if epoch != self._snapshot.epoch:
            # Something changed while bcrypt ran, and nobody would have told this record.
            try:
                await self._snapshot.refresh([parsed.key_id])
            except BaseException:
                self._snapshot.forget(record)
                raise

    async def _fits(self, mac: bytes, parsed: ParsedKey, record: KeyRecord) -> bool:
        """Whether the token is the record's: by bcrypt, here or in another worker."""
        mark = self._mark(record)
        verdict = await self._peers.claim(mac, mark)
        if verdict is not Verdict.GO:
            self.vouched += verdict is Verdict.GOOD
            return verdict is Verdict.GOOD
        self.bcrypt_runs += 1
        try:
            good = await trio.to_thread.run_sync(
                _verify_behind, parsed.secret, record.key.secret_digest, limiter=self._threads
            )
        except BaseException:
            self._peers.failed(mac, mark, wrong=False)
            raise
        if good:
            self._peers.verified(mac, mark, parsed.key_id)
        else:
            self._peers.failed(mac, mark, wrong=True)
        return good

    def _mark(self, record: KeyRecord) -> bytes:
        """Stands for the digest that a token was verified under."""
        return blake2b(record.key.secret_digest, key=self._secret, digest_size=16).digest()

    async def adopt(self, entries: Sequence[tuple[bytes, bytes, str]]) -> None:
        """Remember keys that others have verified (MAC, mark and key id of each), as far as that holds here.

        Raises `StorageError`.
        """
        new = [entry for entry in entries if entry[0] not in self._verified]
        epoch = self._snapshot.epoch
        records = await self._snapshot.read_many({key_id for _, _, key_id in new})
        adopted = []
        for mac, mark, key_id in new:
            record = records.get(key_id)
            if record is not None and self._mark(record) == mark and mac not in self._verified:
                adopted.append((mac, self._remember(mac, record)))
        self.vouched += len(adopted)
        if epoch != self._snapshot.epoch:
            # As in `_verify`.
            try:
                await self._snapshot.refresh([caller.key.key_id for _, caller in adopted])
            except BaseException:
                for mac, caller in adopted:
                    self._verified.pop(mac, None)
                    self._snapshot.forget(caller)
                raise

    def _remember(self, mac: bytes, record: KeyRecord) -> Caller:
        caller = Caller(record)
        if len(self._verified) >= self._limits.verified_keys_max:
            oldest = next(iter(self._verified))
            self._snapshot.forget(self._verified.pop(oldest))
        self._verified[mac] = caller
        self._snapshot.keep(record)
        return caller

    def _remember_wrong(self, mac: bytes) -> None:
        if len(self._refused) >= self._limits.refused_tokens_max:
            del self._refused[next(iter(self._refused))]
        self._refused[mac] = self._watchdog.now + self._limits.refused_seconds


def _verify_behind(secret: bytes, digest: bytes) -> bool:
    """In a thread that stands back for the event loops: a quarter of a second of bcrypt would keep a loop
    that wakes on the same core waiting for a slice at a time.

    The thread keeps its place, since only root may take one back. What else such threads do can wait as well.
    """
    with contextlib.suppress(OSError):
        # Of this thread alone, on Linux.
        os.setpriority(os.PRIO_PROCESS, 0, _BEHIND)
    return key_format.verify(secret, digest)
