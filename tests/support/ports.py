"""Ports for what must be told one before it listens, or shall find that nobody does."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_FIRST = 10_000
_GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Other processes begin elsewhere.
_numbers = itertools.count(os.getpid() * 101)


def free_port() -> int:
    """A port that nobody has, and that nobody gets who does not ask for it.

    One of those that the kernel gives to whoever leaves the choice to it would soon be another test's, and a
    provider that is to be dead would be one that says nothing.
    """
    end = max(int(_GIVEN_AWAY.read_text().split()[0]), 2 * _FIRST)
    for number in _numbers:
        port = _FIRST + number % (end - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("numbers do not end")
