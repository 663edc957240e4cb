"""Whether the secret of a management key is right, without a bcrypt for each call.

A secret that was verified is remembered by a MAC of it and of its digest, under a key made at start and never
kept: memory holds no secret, and a remembered proof is one of exactly that row. Nothing is remembered of
whether the key is alive: the database is asked with each call.

Bounds: one bcrypt at a time, so many waiting, so many remembered, for so long. Calls that wait for the same
secret wait for one bcrypt.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b

import trio

from admin.accounts.password_check import TooManyChecks
from storage import key_format

REMEMBERED_MAX = 1000
REMEMBERED_SECONDS = 3600.0
WAITING_MAX = 16
"""Different secrets: the last one waits some five seconds."""


class _Flight:
    def __init__(self) -> None:
        self.landed = trio.Event()
        self.right: bool | None = None


class KeyCheck:
    """Made once for a process."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX, waiting_max: int = WAITING_MAX) -> None:
        self._key = secrets.token_bytes(32)
        self._remembered_max = remembered_max
        self._waiting_max = waiting_max
        self._proved: dict[bytes, float] = {}
        self._flights: dict[bytes, _Flight] = {}
        self._turn = trio.CapacityLimiter(1)
        self.bcrypt_runs = 0

    def remembers(self, secret: bytes, digest: bytes) -> bool:
        """Whether this secret was found to be that of this digest, not long ago."""
        return self._proved.get(self._mac(secret, digest), -1.0) > trio.current_time()

    async def verify(self, secret: bytes, digest: bytes) -> bool:
        """Whether `digest` was made of `secret`. Raises `TooManyChecks`."""
        mac = self._mac(secret, digest)
        while not self.remembers(secret, digest):
            flight = self._flights.get(mac)
            if flight is None:
                return await self._fly(mac, secret, digest)
            await flight.landed.wait()
            if flight.right is not None:
                return flight.right
            # Who flew was cancelled: the next one does.
        return True

    async def _fly(self, mac: bytes, secret: bytes, digest: bytes) -> bool:
        if len(self._flights) >= self._waiting_max:
            raise TooManyChecks
        flight = self._flights[mac] = _Flight()
        try:
            self.bcrypt_runs += 1
            right = await trio.to_thread.run_sync(key_format.verify, secret, digest, limiter=self._turn)
            if right:
                self._remember(mac)
            flight.right = right
            return right
        finally:
            del self._flights[mac]
            flight.landed.set()

    def _remember(self, mac: bytes) -> None:
        if len(self._proved) >= self._remembered_max:
            # The oldest: dicts keep their order.
            del self._proved[next(iter(self._proved))]
        self._proved[mac] = trio.current_time() + REMEMBERED_SECONDS

    def _mac(self, secret: bytes, digest: bytes) -> bytes:
        # The digest has a length of its own (60 bytes), so the two cannot run into each other.
        return blake2b(digest + secret, key=self._key, digest_size=32).digest()
