"""A certificate for 127.0.0.1 in two files, of an authority made for one test, as an operator keeps them."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class ServerFiles:
    """`write` puts a new pair into the same two files; `client` trusts all of them."""

    def __init__(self, folder: Path, name: str = "127.0.0.1") -> None:
        self._authority = trustme.CA()
        self._name = name
        self.cert_file = folder / "tls.crt"
        self.key_file = folder / "tls.key"
        self.ca_file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self.serial = self.write()

    def write(self) -> str:
        """The new certificate's serial number, as `ssl` tells it."""
        leaf = self._authority.issue_cert(self._name)
        for pem, file in ((leaf.cert_chain_pems[0], self.cert_file), (leaf.private_key_pem, self.key_file)):
            # By a new file each time, as tools that renew certificates do.
            fresh = file.with_suffix(".new")
            pem.write_to_path(str(fresh))
            fresh.rename(file)
        found = ssl._ssl._test_decode_cert(str(self.cert_file))  # type: ignore[attr-defined]
        self.serial = found["serialNumber"]
        return self.serial

    def client(self, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client's context; with `version` it speaks that one only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context
