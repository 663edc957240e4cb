"""Whose failures are counted, told by trusted proxies and by nobody else."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.client_address import client_network
from gateway.request_reader import Inbound

TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def asked_with(*forwarded: str) -> Inbound:
    inbound = Inbound()
    inbound.lines = [b"Host: karta", *(f"X-Forwarded-For: {one}".encode() for one in forwarded)]
    return inbound


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # Whoever is no proxy of ours says what it likes.
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        # What a client wrote itself stands to the left of what our proxy saw.
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["198.51.100.7" + ", 10.1.1.1" * 100], "10.1.1.1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("unix", ["198.51.100.7"], "unix"),
    ],
)
def test_who_is_counted(peer: str, forwarded: list[str], counted: str) -> None:
    assert client_network(peer, asked_with(*forwarded), TRUSTED) == counted
