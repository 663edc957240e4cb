"""`/.well-known/security.txt` by RFC 9116: whom to tell of a weakness. Written here, or signed by an operator
with OpenPGP and served as it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

EXPIRES_DAYS = 180
"""Counted from the day it is fetched, so that it never expires where Karta runs. Less than a year, as the RFC
recommends."""
FILE_BYTES_MAX = 64 * 1024
_ARMOR = ("BEGIN PGP SIGNED MESSAGE", "BEGIN PGP SIGNATURE", "END PGP SIGNATURE")
_SIGNATURE_TAG = 2


def write(origin: str, contacts: Sequence[str], now: datetime) -> str:
    """The file. `contacts` are mailto: or https: URIs, the preferred one first."""
    expires = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=EXPIRES_DAYS)
    lines = [f"Contact: {contact}" for contact in contacts]
    lines += [
        f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}",
        "Preferred-Languages: en",
        f"Canonical: {origin}/.well-known/security.txt",
        f"Policy: {origin}/security/policy",
    ]
    return "\r\n".join(lines) + "\r\n"


class NotSecurityTxt(ValueError):
    """A file that cannot be served, and why."""


class SignedFile(NamedTuple):
    """One that an operator signed: served byte for byte, until it expires."""

    content: bytes
    expires: datetime


@lru_cache(maxsize=4)
def load(path: Path, origin: str | None) -> SignedFile:
    """Reads a file once; whether it has expired is for the caller to see. Raises `NotSecurityTxt` for one
    that is no security.txt signed in the clear, or that belongs elsewhere than at `origin`."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NotSecurityTxt(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise NotSecurityTxt(f"{path} is larger than {FILE_BYTES_MAX // 1024} KiB")
    try:
        return SignedFile(content, read_signed(content, origin))
    except NotSecurityTxt as error:
        raise NotSecurityTxt(f"{path}: {error}") from None


def read_signed(content: bytes, origin: str | None) -> datetime:
    """When a signed file expires. Raises `NotSecurityTxt`.

    The signature is not verified, since the key is not ours to know: that there is one in the right form is.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise NotSecurityTxt("it is not UTF-8") from None
    try:
        begins, signed, ends = (lines.index(f"-----{line}-----") for line in _ARMOR)
        body = lines[lines.index("", begins, signed) + 1 : signed]
        armored = lines[lines.index("", signed, ends) + 1 : ends]
    except ValueError:
        raise NotSecurityTxt("it is not signed in the clear, as `gpg --clearsign` does") from None
    if begins != 0 or any(lines[ends + 1 :]):
        raise NotSecurityTxt("something stands outside of what is signed")
    _check_signature(armored)
    return _check_fields([line.removeprefix("- ") for line in body], origin)


def _check_signature(armored: list[str]) -> None:
    # The line that begins with = is a checksum.
    text = "".join(line for line in armored if not line.startswith("="))
    try:
        packet = base64.b64decode(text, validate=True)
    except ValueError:
        raise NotSecurityTxt("its signature is damaged") from None
    # The tag of a packet, in its new or its old form.
    first = packet[0] if packet else 0
    tag = first & 0x3F if first & 0x40 else (first & 0x3F) >> 2
    if not first & 0x80 or tag != _SIGNATURE_TAG:
        raise NotSecurityTxt("its signature is not one of OpenPGP")


def _check_fields(lines: list[str], origin: str | None) -> datetime:
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            name, colon, value = line.partition(":")
            if not colon or not value.strip() or not name.replace("-", "").isalnum():
                raise NotSecurityTxt(f"`{line[:40]}` is not a field")
            fields.setdefault(name.lower(), []).append(value.strip())
    if not fields.get("contact"):
        raise NotSecurityTxt("it has no Contact")
    if len(fields.get("expires", [])) != 1:
        raise NotSecurityTxt("it must have one Expires")
    if any(value.startswith("http:") for values in fields.values() for value in values):
        raise NotSecurityTxt("its links must be https")
    here = None if origin is None else f"{origin}/.well-known/security.txt"
    if here is not None and here not in fields.get("canonical", [here]):
        raise NotSecurityTxt(f"its Canonical is not {here}")
    try:
        expires = datetime.fromisoformat(fields["expires"][0])
    except ValueError:
        raise NotSecurityTxt("its Expires is not a time as in 2027-01-31T00:00:00Z") from None
    if expires.tzinfo is None:
        raise NotSecurityTxt("its Expires lacks a time zone, as in 2027-01-31T00:00:00Z")
    return expires
