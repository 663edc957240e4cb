"""Lists of Stripe's addresses: the release's, given ones, files in Stripe's forms that change."""

from __future__ import annotations

import ipaddress
import os
from datetime import date
from pathlib import Path

import pytest

from admin.allowed_addresses import FILE_BYTES_MAX, AllowedAddresses, NotAddresses, parse


def test_the_release_has_a_list_of_its_own() -> None:
    shipped = AllowedAddresses()
    assert "3.18.12.63" in shipped
    assert "::ffff:54.187.216.72" in shipped
    for stranger in ("192.0.2.1", "", None, "3.18.12.63, 1.2.3.4", "fe80::1%eth0"):
        assert stranger not in shipped
    assert shipped.as_of is not None
    assert shipped.days_old(date(2027, 11, 26)) == 365


def test_given_addresses_stand_instead() -> None:
    given = AllowedAddresses((ipaddress.ip_network("198.51.100.0/24"),))
    assert "198.51.100.7" in given
    assert "3.18.12.63" not in given
    assert not given.refresh()
    assert given.days_old(date(2027, 1, 1)) is None


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "ips.txt"
    file.write_text("192.0.2.1\n192.0.2.2\n")
    addresses = AllowedAddresses((), file)
    assert "192.0.2.2" in addresses
    assert not addresses.refresh()
    file.write_text('{"WEBHOOKS": ["192.0.2.3"], "as_of": "2026-11-01"}')
    os.utime(file, ns=(1, 1))
    assert addresses.refresh()
    assert "192.0.2.3" in addresses
    assert "192.0.2.2" not in addresses
    # A broken one changes nothing, and is told.
    file.write_text("what?")
    assert addresses.refresh()
    assert "192.0.2.3" in addresses
    assert addresses.problem is not None
    file.unlink()
    assert addresses.refresh()
    assert "192.0.2.3" in addresses


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"WEBHOOKS": []}',
        b'{"WEBHOOKS": [7]}',
        b'{"WEBHOOKS": "1.2.3.4"}',
        b"one\ntwo",
        b"\xff",
        b"{",
    ],
)
def test_what_is_no_list(content: bytes) -> None:
    with pytest.raises(NotAddresses):
        parse(content)


def test_a_file_that_is_too_large_or_missing(tmp_path: Path) -> None:
    with pytest.raises(NotAddresses, match="cannot read"):
        AllowedAddresses((), tmp_path / "none")
    (tmp_path / "large").write_bytes(b"1" * (FILE_BYTES_MAX + 1))
    with pytest.raises(NotAddresses, match="larger"):
        AllowedAddresses((), tmp_path / "large")
