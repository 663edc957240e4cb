"""Where Stripe's events may come from: the release's list, one in the settings, or a file that is read again
when it changes.

Stripe publishes the addresses (https://docs.stripe.com/ips) and tells of changes a week before, on its
mailing list. The signature is what proves an event; this is a second lock, and one that may go stale. So an
event with a right signature from an address that is not here is an error in the log: either the list is old,
or a secret is known to somebody.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from storage.settings import Network

FILE_BYTES_MAX = 64 * 1024
ADDRESSES_MAX = 1000
STALE_DAYS = 365


class NotAddresses(ValueError):
    """A file is no list of addresses; the text says where and how."""


class AllowedAddresses:
    """`given` or `file`, else the release's list. Raises `NotAddresses` for a file that is none."""

    def __init__(self, given: Sequence[Network] = (), file: Path | None = None) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self.as_of: date | None = None
        """When the list was made, where it says so."""
        self.problem: str | None = None
        """What was wrong with the file when it was last read; the list before it holds."""
        self.networks = tuple(given)
        if file is not None:
            self._stamp = _stamp(file)
            self.networks, self.as_of = read_file(file)
        elif not given:
            self.networks, self.as_of = parse(_shipped())

    def __contains__(self, address: str | None) -> bool:
        try:
            parsed = ipaddress.ip_address((address or "").partition("%")[0])
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any((mapped or parsed) in network for network in self.networks)

    def refresh(self) -> bool:
        """Reads the file again if it has changed; true if it has. A file that is broken changes nothing."""
        if self._file is None:
            return False
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.networks, self.as_of = read_file(self._file)
            self.problem = None
        except NotAddresses as error:
            self.problem = str(error)
        return True

    def days_old(self, today: date) -> int | None:
        return None if self.as_of is None else (today - self.as_of).days


def read_file(file: Path) -> tuple[tuple[Network, ...], date | None]:
    """Raises `NotAddresses`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise NotAddresses(f"cannot read {file} ({error.strerror})") from None
    if len(content) > FILE_BYTES_MAX:
        raise NotAddresses(f"{file} is larger than {FILE_BYTES_MAX} bytes, so no list of addresses")
    return parse(content)


def parse(content: bytes) -> tuple[tuple[Network, ...], date | None]:
    """Stripe's JSON (`{"WEBHOOKS": […]}`), or one address a line. Raises `NotAddresses`."""
    try:
        text = content.decode()
        if text.lstrip().startswith("{"):
            document = json.loads(text)
            texts, told = document["WEBHOOKS"], document.get("as_of")
            as_of = date.fromisoformat(told) if told else None
        else:
            texts, as_of = [line.strip() for line in text.splitlines() if line.strip()], None
        networks = tuple(ipaddress.ip_network(one.strip(), strict=False) for one in texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotAddresses(
            'it is neither {"WEBHOOKS": ["192.0.2.1", …]} nor a list of addresses, one a line'
        ) from None
    if not 0 < len(networks) <= ADDRESSES_MAX:
        raise NotAddresses(f"it has {len(networks)} addresses: 1 to {ADDRESSES_MAX} are expected")
    return networks, as_of


def _shipped() -> bytes:
    """The release's list: in a wheel beside this module, in a checkout in config/."""
    here = Path(__file__).parent
    packaged = here / "stripe_ips.json"
    return (packaged if packaged.exists() else here.parent / "config" / "stripe_ips.json").read_bytes()


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
