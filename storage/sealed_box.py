"""Sealing of small things that are no provider keys: a person's TOTP secret, a mail not yet sent.

One layer, AES-256-GCM under a key of the purpose's own (HKDF-SHA256 of a master key), bound to its place: a
box that was moved to another row, or is opened for another purpose, does not open. The form is

    format (1 byte) | master key version (4) | nonce (12) | ciphertext and tag

so all versions of the master key that are given open what they sealed.

Random nonces allow 2^32 boxes of a purpose under one master key: change it long before.
"""

from __future__ import annotations

import os
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import SealError
from storage.sealing import NONCE_BYTES, TAG_BYTES, MasterKeys

CONTENT_BYTES_MAX = 16 * 1024 - 64
_FORMAT = 1
_VERSION_BYTES = 4
_HEADER_BYTES = 1 + _VERSION_BYTES + NONCE_BYTES


class Purpose(StrEnum):
    """What is sealed. Never rename one: what was sealed under it would not open any more."""

    TOTP_SECRET = "totp secret"  # noqa: S105 - names a purpose
    OUTBOX_MESSAGE = "outbox message"
    AUDIT_SIGNING_KEY = "audit signing key"
    HEALTH_KEY = "health key"


def seal_box(master_keys: MasterKeys, purpose: Purpose, place: bytes, content: bytes) -> bytes:
    """Seals under the primary master key. `place` names the row, as its id's bytes.

    Raises SealError when the content is empty or too long.
    """
    if not 0 < len(content) <= CONTENT_BYTES_MAX:
        raise SealError(f"a box holds 1 to {CONTENT_BYTES_MAX} bytes")
    version = master_keys.primary_version
    nonce = os.urandom(NONCE_BYTES)
    prefix = bytes([_FORMAT]) + version.to_bytes(_VERSION_BYTES, "big")
    cipher = AESGCM(master_keys.purpose_key(version, purpose.value))
    return prefix + nonce + cipher.encrypt(nonce, content, prefix + place)


def open_box(master_keys: MasterKeys, purpose: Purpose, place: bytes, box: bytes) -> bytes:
    """What was sealed. Raises SealError when it does not open here."""
    if len(box) < _HEADER_BYTES + TAG_BYTES or box[0] != _FORMAT:
        raise SealError("a sealed box is cut short or of an unknown format")
    prefix, nonce, sealed = (
        box[: 1 + _VERSION_BYTES],
        box[1 + _VERSION_BYTES : _HEADER_BYTES],
        box[_HEADER_BYTES:],
    )
    version = int.from_bytes(prefix[1:], "big")
    cipher = AESGCM(master_keys.purpose_key(version, purpose.value))
    try:
        return cipher.decrypt(nonce, sealed, prefix + place)
    except InvalidTag:
        raise SealError("a sealed box does not open: wrong master key, or moved from its place") from None
