"""Tokens nobody minted, each right in all but one thing."""

from __future__ import annotations

from storage import key_format
from storage.model import Mode

_ID_AT = len("kt_live_")
_SECRET_AT = _ID_AT + key_format.KEY_ID_CHARS + 1


def unknown(mode: Mode = Mode.LIVE) -> str:
    """Well formed, with an id that no database has."""
    return key_format.mint(mode).token


def forge(token: str) -> str:
    """The same key id with another secret and a right checksum: all a thief of ids could do."""
    return _with_checksum(token[:_SECRET_AT] + unknown()[_SECRET_AT : -key_format.CHECKSUM_CHARS])


def with_id(token: str, key_id: str) -> str:
    """The same secret under another key id."""
    return _with_checksum(token[:_ID_AT] + key_id + token[_SECRET_AT - 1 : -key_format.CHECKSUM_CHARS])


def disguise(token: str) -> str:
    """The same id and secret, as a key of the other mode."""
    other = "kt_test_" if token.startswith("kt_live_") else "kt_live_"
    return _with_checksum(other + token[_ID_AT : -key_format.CHECKSUM_CHARS])


def _with_checksum(body: str) -> str:
    token = body + key_format._checksum(body.encode())
    assert key_format.parse(token.encode()) is not None
    return token


GARBAGE = (
    "kt_live_",
    "kt_live_short",
    "sk-ant-api03-something",
    unknown()[:-1],
    unknown()[:-1] + "!",
    unknown() + "a",
    "kt_prod_" + unknown()[_ID_AT:],
    unknown()[:-3] + "000",
    "kt_live_" + "a" * 4000,
)
"""What is no key at all, told by shape or checksum."""
