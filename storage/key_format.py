"""The customer's key: its shape, minting, reading, and the digest that is kept of it.

    kt_live_<key id: 12>_<secret: 28><checksum: 6>        letters and digits (base62), 55 characters in all

Keys of the management API have the same shape, and begin with `kt_mgmt_`; neither passes for the other.

The key id names the row and is safe to show. The secret holds 166 random bits; of it, only a bcrypt digest is
ever stored. The checksum (CRC-32 of all that goes before it, in base62) is no secret: it lets a mistyped or
invented key be refused, and a leaked one be recognized by scanners, without a look-up and without spending a
bcrypt.
"""

from __future__ import annotations

import re
import secrets
import zlib

import bcrypt
import msgspec

from storage.model import Mode

COST_MIN = 12
"""bcrypt's work factor (the promise in /security): about a quarter of a second of one core."""
COST_MAX = 16
"""Above this a digest would block a thread for many seconds; nobody mints one."""
TOKEN_BYTES_MAX = 64
"""Longer input is no key, and is told so before anything looks at it."""
KEY_ID_CHARS = 12
SECRET_CHARS = 28
"""62^28 is 2^166: beyond guessing, and below bcrypt's 72 bytes."""
CHECKSUM_CHARS = 6
"""62^6 exceeds 2^32, so every CRC-32 has exactly one spelling."""

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(rb"kt_(live|test)_([0-9A-Za-z]{12})_([0-9A-Za-z]{28})([0-9A-Za-z]{6})")
_MANAGEMENT_TOKEN = re.compile(rb"kt_mgmt_([0-9A-Za-z]{12})_([0-9A-Za-z]{28})([0-9A-Za-z]{6})")
_DIGEST = re.compile(rb"\$2b\$([0-9]{2})\$[./0-9A-Za-z]{53}")
_SECRET_BYTES_MAX = 72
"""What bcrypt takes in; version 5 raises above it instead of cutting silently."""
_MODES = {b"live": Mode.LIVE, b"test": Mode.TEST}


class MintedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key, the only time its secret is seen. Its repr tells the key id alone."""

    token: str
    key_id: str
    secret: bytes
    last_four: str

    def __repr__(self) -> str:
        return f"MintedKey({self.key_id!r})"


class ParsedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was presented, with a good checksum; whether it is genuine is for `verify` to say."""

    mode: Mode
    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ParsedKey({self.key_id!r})"


class ParsedManagementKey(msgspec.Struct, frozen=True, kw_only=True):
    """The same of the management API."""

    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ParsedManagementKey({self.key_id!r})"


def mint(mode: Mode) -> MintedKey:
    """A new key of that mode, from the system's random source."""
    return _mint(mode.value)


def mint_management() -> MintedKey:
    """A new key of the management API."""
    return _mint("mgmt")


def _mint(kind: str) -> MintedKey:
    key_id = _random_base62(KEY_ID_CHARS)
    secret = _random_base62(SECRET_CHARS)
    body = f"kt_{kind}_{key_id}_{secret}"
    token = body + _checksum(body.encode())
    return MintedKey(token=token, key_id=key_id, secret=secret.encode(), last_four=token[-4:])


def parse(token: bytes) -> ParsedKey | None:
    """The parts of a presented key, or None when it is not one. Takes microseconds and never raises."""
    if len(token) > TOKEN_BYTES_MAX:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None or _checksum(token[:-CHECKSUM_CHARS]) != match[4].decode():
        return None
    return ParsedKey(mode=_MODES[match[1]], key_id=match[2].decode(), secret=match[3])


def parse_management(token: bytes) -> ParsedManagementKey | None:
    """The same of a key of the management API."""
    if len(token) > TOKEN_BYTES_MAX:
        return None
    match = _MANAGEMENT_TOKEN.fullmatch(token)
    if match is None or _checksum(token[:-CHECKSUM_CHARS]) != match[3].decode():
        return None
    return ParsedManagementKey(key_id=match[1].decode(), secret=match[2])


def digest(secret: bytes, cost: int = COST_MIN) -> bytes:
    """The bcrypt digest to store, 60 bytes. Blocks for a quarter of a second: call it in a thread.

    Raises ValueError for a cost outside `COST_MIN` to `COST_MAX`, or a secret bcrypt cannot take whole.
    """
    if not COST_MIN <= cost <= COST_MAX:
        raise ValueError(f"bcrypt cost must be {COST_MIN} to {COST_MAX}, not {cost}")
    if not 0 < len(secret) <= _SECRET_BYTES_MAX or b"\0" in secret:
        raise ValueError(f"a secret is 1 to {_SECRET_BYTES_MAX} bytes without NUL")
    return bcrypt.hashpw(secret, bcrypt.gensalt(cost))


def verify(secret: bytes, digest: bytes) -> bool:
    """Whether `digest` was made of `secret`. Blocks like `digest` does; compares in constant time; never
    raises.

    False for anything malformed, and for digests of a cost that is never minted: too low to trust, too high
    to run.
    """
    shape = _DIGEST.fullmatch(digest)
    if shape is None or not COST_MIN <= int(shape[1]) <= COST_MAX:
        return False
    if not 0 < len(secret) <= _SECRET_BYTES_MAX or b"\0" in secret:
        return False
    try:
        return bcrypt.checkpw(secret, digest)
    except ValueError:
        # The 53 characters fit the alphabet but are not a digest (their unused bits are set).
        return False


def _random_base62(chars: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(chars))


def _checksum(body: bytes) -> str:
    number = zlib.crc32(body)
    chars = []
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, 62)
        chars.append(_BASE62[digit])
    return "".join(reversed(chars))
