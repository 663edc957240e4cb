"""Sealing of provider keys at rest: AES-256-GCM in two layers, bound to their place.

    master key (versioned, outside the database)
      └ HKDF-SHA256, salt = the organization's own → organization key
          └ wraps a random 32-byte data key, one per credential      → wrapped_key
              └ encrypts the provider's key                           → ciphertext

Each layer authenticates what it belongs to (purpose, format, organization, provider, credential; the wrapping
also the master key's version), so a row or column that was moved elsewhere does not open. Both columns are
`format (1 byte) | nonce (12) | ciphertext and tag`.

Changing the master key rewraps the data key only; the ciphertext stays as it is. Data keys and plaintexts
live in bytearrays, wiped here or by the caller. (Python may have made copies inside its C libraries; those
are freed at once but not wiped. No more can be promised in this language.) What outlives a call is, of
credentials in use, the data key's cipher within OpenSSL: it opens nothing that the master key and the wrapped
key in the same memory would not.

GCM's limit of 2^32 messages for one key with random nonces is far away: a data key encrypts once, and an
organization key wraps as many data keys as the organization ever has credentials.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.errors import SealError as SealError
from storage.model import SealedCredential

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
PLAINTEXT_BYTES_MAX: Final = 4096
"""Provider keys are about 100 bytes; service-account documents are about 2,400."""
MASTER_KEYS_MAX: Final = 16
"""Two are needed while one is being replaced."""
FILE_BYTES_MAX: Final = 4096
OPENERS_MAX: Final = 4096
"""Credentials whose opening is prepared, about a kilobyte each; the oldest is forgotten first."""

_FORMAT: Final = 1
_HEADER_BYTES: Final = 1 + NONCE_BYTES
_WRAPPED_KEY_PURPOSE: Final = b"karta provider credential: data key"
_CIPHERTEXT_PURPOSE: Final = b"karta provider credential: secret"


class MasterKeys:
    """The keys that everything sealed hangs on, by version; the highest version seals, all of them open.

    Immutable. Its repr tells the versions only, and it refuses to be pickled or copied.
    """

    __slots__ = ("_keys", "openers", "primary_version")

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not 0 < len(keys) <= MASTER_KEYS_MAX:
            raise SealError(
                f"there must be 1 to {MASTER_KEYS_MAX} master keys; make one by `karta master-key`"
            )
        for version, key in keys.items():
            if version < 1 or version > 2**31 - 1:
                raise SealError("a master key's version is a number from 1 up")
            if len(key) != KEY_BYTES:
                raise SealError(f"master key {version} must be {KEY_BYTES} bytes in base64")
        if len(set(keys.values())) != len(keys):
            raise SealError("two versions hold the same master key: make a new one")
        self._keys = dict(keys)
        self.openers: dict[int, _Opener] = {}
        """What `open_sealed` has worked out, by the number of the credential's id (a UUID's own hash is
        slow). Internal to sealing."""
        self.primary_version = max(keys)

    @classmethod
    def parse(cls, text: str) -> MasterKeys:
        """From `1:<base64 of 32 bytes>,2:<…>`. Raises SealError, which never quotes the text."""
        keys: dict[int, bytes] = {}
        for part in text.strip().split(","):
            version, colon, encoded = part.strip().partition(":")
            if not colon or not (version.isascii() and version.isdigit()) or len(version) > 10:
                raise SealError("master keys are written as 1:<base64 of 32 bytes>,2:<…>")
            if int(version) in keys:
                raise SealError(f"master key version {int(version)} is given twice")
            try:
                keys[int(version)] = base64.b64decode(encoded.strip(), validate=True)
            except (binascii.Error, ValueError):
                raise SealError(f"master key {int(version)} is not base64") from None
        return cls(keys)

    @staticmethod
    def generate(version: int = 1) -> str:
        """The text of one new master key, as `parse` reads it."""
        return f"{version}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"

    @classmethod
    def load_file(cls, path: Path) -> MasterKeys:
        """From a file that holds what `parse` reads (newlines may stand for commas) and that only its owner
        can read."""
        try:
            # The descriptor is what is checked and read: the name may be made to point elsewhere in between.
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise SealError(f"{path} is not a file")
                if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise SealError(f"{path} can be read by others: run `chmod 600 {path}`")
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as exc:
            raise SealError(f"the master key file {path} cannot be read: {exc.strerror}") from None
        if len(content) > FILE_BYTES_MAX or not content.isascii():
            raise SealError(f"{path} does not hold master keys")
        try:
            return cls.parse(",".join(content.decode().split()))
        except SealError as error:
            raise SealError(f"{path}: {error}") from None

    @property
    def versions(self) -> tuple[int, ...]:
        """All versions that can be opened, lowest first."""
        return tuple(sorted(self._keys))

    def forget(self, credential_id: UUID) -> None:
        """Of a credential that is gone, or is another now, nothing stays prepared."""
        self.openers.pop(credential_id.int, None)

    def forget_but(self, known: Collection[int]) -> None:
        """The same of all whose numbers are not among these."""
        for number in [one for one in self.openers if one not in known]:
            del self.openers[number]

    def org_key(self, version: int, org_id: UUID, org_salt: bytes) -> bytes:
        """The organization's key under one master key. Internal to sealing."""
        key = self._key(version)
        if len(org_salt) != SALT_BYTES:
            raise SealError(f"an organization's salt is {SALT_BYTES} bytes")
        info = _lengthened(b"karta organization key", bytes([_FORMAT]), org_id.bytes)
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=org_salt, info=info).derive(key)

    def purpose_key(self, version: int, purpose: str) -> bytes:
        """The key of one purpose under one master key. Internal to sealed_box."""
        info = _lengthened(b"karta box", bytes([_FORMAT]), purpose.encode())
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key(version))

    def _key(self, version: int) -> bytes:
        key = self._keys.get(version)
        if key is None:
            raise SealError(f"master key version {version} is not among those given ({self.versions})")
        return key

    def __repr__(self) -> str:
        return f"MasterKeys(versions={self.versions})"

    def __reduce__(self) -> str:
        raise TypeError("master keys are not to be copied or serialized")


def seal(
    master_keys: MasterKeys,
    *,
    org_id: UUID,
    org_salt: bytes,
    provider: str,
    credential_id: UUID,
    plaintext: bytearray,
) -> tuple[int, bytes, bytes]:
    """Seals under the primary master key. Returns (master_key_version, wrapped_key, ciphertext).

    The plaintext stays the caller's to wipe. Raises SealError when it is empty or too long.
    """
    if not 0 < len(plaintext) <= PLAINTEXT_BYTES_MAX:
        raise SealError(f"a provider key is 1 to {PLAINTEXT_BYTES_MAX} bytes")
    version = master_keys.primary_version
    place = _lengthened(org_id.bytes, provider.encode(), credential_id.bytes)
    data_key = bytearray(secrets.token_bytes(KEY_BYTES))
    try:
        org_key = master_keys.org_key(version, org_id, org_salt)
        wrapped_key = _encrypt(org_key, data_key, _wrapping_data(version, place))
        return version, wrapped_key, _encrypt(data_key, plaintext, _lengthened(_CIPHERTEXT_PURPOSE, place))
    finally:
        wipe(data_key)


def open_sealed(master_keys: MasterKeys, sealed: SealedCredential) -> bytearray:
    """The provider's key. The caller must `wipe` it, in a `finally`. Raises SealError when it does not open
    here."""
    number = sealed.credential_id.int
    opener = master_keys.openers.get(number)
    if opener is None or opener.sealed is not sealed:
        opener = _Opener(master_keys, sealed)
        if len(master_keys.openers) >= OPENERS_MAX:
            del master_keys.openers[next(iter(master_keys.openers))]
        master_keys.openers[number] = opener
    return opener.open()


class _Opener:
    """One credential, with all that opening it needs worked out: the data plane opens it for every request.
    What it holds, the data key within OpenSSL, the master key and the wrapped key beside it give anyway.
    """

    __slots__ = ("_cipher", "_ciphertext", "sealed")

    def __init__(self, master_keys: MasterKeys, sealed: SealedCredential) -> None:
        self.sealed = sealed
        self._ciphertext = _Parts(sealed.ciphertext, _lengthened(_CIPHERTEXT_PURPOSE, _place(sealed)))
        data_key = _unwrap(master_keys, sealed)
        try:
            self._cipher = AESGCM(data_key)
        finally:
            wipe(data_key)

    def open(self) -> bytearray:
        return self._ciphertext.decrypt(self._cipher)


class _Parts:
    """Sealed material taken apart: what `_encrypt` put together, and what it was bound to."""

    __slots__ = ("_associated", "_content", "_nonce", "size")

    def __init__(self, sealed: bytes, associated: bytes) -> None:
        self.size = len(sealed) - _HEADER_BYTES - TAG_BYTES
        if self.size < 0 or sealed[0] != _FORMAT:
            raise SealError("sealed material is cut short or of an unknown format")
        self._nonce = sealed[1:_HEADER_BYTES]
        self._content = sealed[_HEADER_BYTES:]
        self._associated = sealed[:1] + associated

    def decrypt(self, cipher: AESGCM) -> bytearray:
        opened = bytearray(self.size)
        try:
            cipher.decrypt_into(self._nonce, self._content, self._associated, opened)
        except InvalidTag:
            wipe(opened)
            raise SealError(
                "sealed material does not open: wrong master key, or moved from its place"
            ) from None
        return opened


def rewrap(master_keys: MasterKeys, sealed: SealedCredential) -> tuple[int, bytes]:
    """The same data key under the primary master key: (master_key_version, wrapped_key). The ciphertext
    stays."""
    version = master_keys.primary_version
    data_key = _unwrap(master_keys, sealed)
    try:
        org_key = master_keys.org_key(version, sealed.org_id, sealed.org_salt)
        return version, _encrypt(org_key, data_key, _wrapping_data(version, _place(sealed)))
    finally:
        wipe(data_key)


def wipe(buffer: bytearray) -> None:
    """Overwrites with zeros, in place."""
    buffer[:] = bytes(len(buffer))


def _unwrap(master_keys: MasterKeys, sealed: SealedCredential) -> bytearray:
    org_key = master_keys.org_key(sealed.master_key_version, sealed.org_id, sealed.org_salt)
    wrapping = _wrapping_data(sealed.master_key_version, _place(sealed))
    data_key = _Parts(sealed.wrapped_key, wrapping).decrypt(AESGCM(org_key))
    if len(data_key) != KEY_BYTES:
        wipe(data_key)
        raise SealError("a wrapped key has the wrong length")
    return data_key


def _place(sealed: SealedCredential) -> bytes:
    return _lengthened(sealed.org_id.bytes, sealed.provider.encode(), sealed.credential_id.bytes)


def _wrapping_data(version: int, place: bytes) -> bytes:
    return _lengthened(_WRAPPED_KEY_PURPOSE, version.to_bytes(4, "big"), place)


def _encrypt(key: bytes | bytearray, plaintext: bytearray, associated: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    header = bytes([_FORMAT]) + nonce
    return header + AESGCM(key).encrypt(nonce, plaintext, header[:1] + associated)


def _lengthened(*parts: bytes) -> bytes:
    """The parts, each after its length: no two different lists give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
