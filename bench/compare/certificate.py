"""A certificate for the simulated provider on loopback, and its authority, for one comparison.

P-256, as real providers have it.  An authority of its own, because not every client takes a certificate that
is its own authority; whoever trusts it trusts nothing else by it, and its private key is kept nowhere.
"""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST_NAME = "localhost"
"""The certificate's name besides 127.0.0.1, for clients that look for names only."""
_DAYS = 2


class Certificate(NamedTuple):
    """Paths of PEM files: whom to trust, what the server shows, and its private key."""

    authority: Path
    chain: Path
    private_key: Path


def _build(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(
            x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def write_certificate(directory: Path) -> Certificate:
    """Write a certificate of 127.0.0.1 and what belongs to it; return the paths."""
    name = "Karta bench"
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _build(name, name, authority_key, authority=True).sign(authority_key, hashes.SHA256())
    here: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName(HOST_NAME),
    ]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    leaf = (
        _build(HOST_NAME, name, key, authority=False)
        .add_extension(x509.SubjectAlternativeName(here), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    made = Certificate(directory / "authority.pem", directory / "provider.pem", directory / "provider.key")
    pems = [one.public_bytes(serialization.Encoding.PEM) for one in (leaf, authority)]
    made.authority.write_bytes(pems[1])
    made.chain.write_bytes(b"".join(pems))
    made.private_key.touch(mode=0o600)
    made.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made
