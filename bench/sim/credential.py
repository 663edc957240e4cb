"""The key rule of the simulated provider.

It refuses, as the real ones do, a call without a credential; and it refuses Karta's own keys wherever they
turn up, so that a gateway which leaks one fails its tests. Given a list of keys it takes only those. Both
header styles are read, whatever the dialect: which one carried the key is in the ledger.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KARTA_KEY = re.compile(rb"kt_(?:live|test)_")
KARTA_PREFIX = b"kt_"
BEARER = b"bearer "


class Credential(NamedTuple):
    """What a request carried: the credential ("" when none), its header, and why it is refused (None:
    accepted)."""

    value: str
    header: str | None
    refused: str | None
    leaks: tuple[str, ...] = ()
    """Names of the places, besides the credential itself, where a Karta key was seen."""


class KeyRule:
    """Decides on credentials; `keys` is None for "any but Karta's own"."""

    def __init__(self, keys: Sequence[str] | None) -> None:
        self._accepted = None if keys is None else frozenset(key.encode() for key in keys)

    def judge(self, headers: Mapping[bytes, bytes], target: bytes) -> Credential:
        """The credential of a request with these (lower-case) header names, and whether it is refused."""
        value, header = b"", None
        if (given := headers.get(b"x-api-key")) is not None:
            value, header = given, "x-api-key"
        if (given := headers.get(b"authorization")) is not None:
            bearer = given[:7].lower() == BEARER
            if header is None:
                value, header = (given[7:].strip() if bearer else given), "authorization"
            elif KARTA_KEY.search(given):
                return Credential(value.decode("latin-1"), header, "karta_key", ("authorization",))
        leaks = self._leaks(headers, target)
        return Credential(value.decode("latin-1"), header, self._refusal(value, leaks), leaks)

    def _refusal(self, value: bytes, leaks: tuple[str, ...]) -> str | None:
        if not value:
            return "missing_key"
        if leaks or value.startswith(KARTA_PREFIX):
            return "karta_key"
        if self._accepted is not None and value not in self._accepted:
            return "unknown_key"
        return None

    @staticmethod
    def _leaks(headers: Mapping[bytes, bytes], target: bytes) -> tuple[str, ...]:
        """Where else a Karta key stands. One search over all values joined: the clean case is nearly every
        case."""
        if KARTA_KEY.search(b"\n".join(headers.values()) + target) is None:
            return ()
        places = [
            name.decode("latin-1")
            for name, value in headers.items()
            if name not in (b"authorization", b"x-api-key") and KARTA_KEY.search(value)
        ]
        if KARTA_KEY.search(target):
            places.append(":target")
        return tuple(places)
