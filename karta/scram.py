"""The stored form of a PostgreSQL password (SCRAM-SHA-256, RFC 5802 and 7677), made on this side.

PostgreSQL accepts it in place of a password, so no statement, and no log of statements, ever holds the
password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

ITERATIONS = 4096
"""PostgreSQL's own default. The passwords are random, so a slower derivation would defend nothing."""
SALT_BYTES = 16


def make_verifier(password: str, salt: bytes | None = None) -> str:
    """`SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` for an ASCII password."""
    if not (password.isascii() and password.isprintable()):
        raise ValueError("only printable ASCII needs no SASLprep: generate the password")
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"
