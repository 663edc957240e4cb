"""bcrypt at a small part of its cost, for tests that are not about it.

A digest costs a quarter of a second of one core, by intent, and most tests make some and verify some. What is
verified is remembered: what the real function said of a secret and a digest it would say again. What is made
costs `COST` and says that it cost what was asked for. Only this process knows such a digest: a program that a
test starts takes it for one of another secret, so tests that start programs make real ones.
"""

from __future__ import annotations

from functools import lru_cache

import bcrypt

COST = 4
"""bcrypt's least: a millisecond."""
_PREFIX = len(b"$2b$12$")


class RememberingBcrypt:
    """The functions that storage calls. Digests are made in full."""

    gensalt = staticmethod(bcrypt.gensalt)
    hashpw = staticmethod(bcrypt.hashpw)
    checkpw = staticmethod(lru_cache(maxsize=4096)(bcrypt.checkpw))


class QuickBcrypt(RememberingBcrypt):
    """Digests cost next to nothing, too."""

    def __init__(self) -> None:
        self._made: set[bytes] = set()

    def hashpw(self, secret: bytes, salt: bytes) -> bytes:  # type: ignore[override]
        digest = salt[:_PREFIX] + bcrypt.hashpw(secret, _cheap(salt))[_PREFIX:]
        self._made.add(digest)
        return digest

    def checkpw(self, secret: bytes, digest: bytes) -> bool:  # type: ignore[override]
        if digest in self._made:
            return bcrypt.checkpw(secret, _cheap(digest))
        return RememberingBcrypt.checkpw(secret, digest)


def _cheap(text: bytes) -> bytes:
    """A salt or a digest under the least cost."""
    return b"$2b$%02d$" % COST + text[_PREFIX:]


REMEMBERING = RememberingBcrypt()
QUICK = QuickBcrypt()
