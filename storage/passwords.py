"""Digests of people's passwords: bcrypt over a pre-hash, so that every character of a long password counts.

bcrypt takes 72 bytes and stops at NUL. So the password (as NFKC, in UTF-8) goes through HMAC-SHA-384 first;
base64 of that is 64 bytes without NUL. The HMAC's key is no secret: it keeps these pre-hashes from being
looked up among digests stolen elsewhere (password shucking).

Both functions block for a quarter of a second: call them in a thread.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata

from storage import key_format
from storage.errors import InvalidValue

PASSWORD_CHARS_MAX = 1024
"""Far above any password manager's; bounds the work before the hash."""
REFERENCE_DIGEST = b"$2b$12$Qb8xLW1/gnerV3rfrhiCH.OR91xTlmNymGibjPEDu914NxCFNPwHG"
"""Of a random string nobody kept: no password matches it."""

_PREHASH_KEY = b"karta password pre-hash 1"


def digest_password(password: str) -> bytes:
    """The digest to store, 60 bytes. Raises InvalidValue for an empty or overlong password."""
    if not 0 < len(password) <= PASSWORD_CHARS_MAX:
        raise InvalidValue(f"a password is 1 to {PASSWORD_CHARS_MAX} characters")
    return key_format.digest(_prehash(password))


def verify_password(password: str, digest: bytes) -> bool:
    """Whether `digest` was made of `password`. Never raises.

    Where there is no such user, verify against `REFERENCE_DIGEST`: it takes as long, so the answer's time
    tells nothing.
    """
    if not 0 < len(password) <= PASSWORD_CHARS_MAX:
        # Costs the same as a wrong password does.
        password, digest = " ", REFERENCE_DIGEST
    return key_format.verify(_prehash(password), digest)


def _prehash(password: str) -> bytes:
    # Lone surrogates cannot be encoded otherwise, and a form on the web can send them.
    content = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(_PREHASH_KEY, content, "sha384"))
