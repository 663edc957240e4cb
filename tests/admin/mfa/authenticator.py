"""An authenticator in software, which can also do what a good one never does. ES256, no attestation."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from html import unescape
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def options_of(page: str) -> dict[str, Any]:
    """What a page would give its browser."""
    found = re.search(r'data-options="([^"]+)"', page)
    assert found is not None, page
    options: dict[str, Any] = json.loads(unescape(found[1]))
    return options


class Authenticator:
    """One passkey. `origin` is what the browser would say it was asked by."""

    def __init__(self, origin: str, rp_id: str = "localhost") -> None:
        self.origin = origin
        self.rp_id = rp_id
        self.credential_id = secrets.token_bytes(16)
        self.handle = b""
        self.count = 0
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any], **client: Any) -> str:
        """The answer to a registration."""
        self.handle = base64url_to_bytes(options["user"]["id"])
        numbers = self._key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id
        data = self._data(PRESENT | VERIFIED | ATTESTED) + attested + cbor2.dumps(key)
        answer = {
            "clientDataJSON": self._client("webauthn.create", options, client),
            "attestationObject": bytes_to_base64url(
                cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
            ),
        }
        return self._credential(answer)

    def sign(
        self,
        options: dict[str, Any],
        *,
        flags: int = PRESENT | VERIFIED,
        handle: bytes | None = None,
        grow: int = 1,
        **client: Any,
    ) -> str:
        """The answer to a request for a signature. `grow` is what the counter does before."""
        self.count += grow
        client_data = self._client("webauthn.get", options, client)
        data = self._data(flags)
        signed = data + hashlib.sha256(base64url_to_bytes(client_data)).digest()
        answer = {
            "clientDataJSON": client_data,
            "authenticatorData": bytes_to_base64url(data),
            "signature": bytes_to_base64url(self._key.sign(signed, ec.ECDSA(SHA256()))),
            "userHandle": bytes_to_base64url(self.handle if handle is None else handle),
        }
        return self._credential(answer)

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client(self, kind: str, options: dict[str, Any], extra: dict[str, Any]) -> str:
        told = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return bytes_to_base64url(json.dumps(told | extra).encode())

    def _credential(self, response: dict[str, str]) -> str:
        told = bytes_to_base64url(self.credential_id)
        return json.dumps(
            {
                "id": told,
                "rawId": told,
                "type": "public-key",
                "response": response,
                "clientExtensionResults": {},
            }
        )
