"""`/.well-known/security.txt` by RFC 9116: whom to tell of a weakness."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

EXPIRES_DAYS = 180
"""Counted from the day it is fetched, so that it never expires where Karta runs. Less than a year, as the RFC
recommends."""


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
