"""Who a proxy speaks for, told by the PROXY protocol before the first byte of a connection (sans-IO).

Both versions of https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, as strictly as it is written:
what is not exactly a header is an error and ends the connection, since a receiver that guesses can be told
anything by anybody. Feed it what has arrived; it says how many of those bytes are its own, and what follows
them (TLS or HTTP) is left for others. The extensions behind the addresses of version 2 are skipped.

Bounds: 107 bytes of version 1, as the document says; `V2_BYTES_MAX` of version 2.
"""

from __future__ import annotations

import ipaddress
import re
import socket

V1_BYTES_MAX = 107
V2_BYTES_MAX = 4096
"""The addresses are 36 bytes at most; a client's certificate among the extensions is a few kilobytes."""
BYTES_MAX = max(V1_BYTES_MAX, V2_BYTES_MAX)

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD_BYTES = 16
_PORT = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")
_PORT_MAX = 65_535

_VERSION = 0x20
_LOCAL, _PROXY = 0, 1
_UNSPECIFIED, _INET, _INET6, _UNIX = 0, 1, 2, 3
_STREAM = 1
# The source stands first; the whole is two addresses and two ports.
_FAMILIES = {_INET: (socket.AF_INET, 4, 12), _INET6: (socket.AF_INET6, 16, 36)}


class ProxyHeaderError(Exception):
    """These bytes are not a header of the PROXY protocol."""


class ProxyHeader:
    """One header. `source` is the client's address; None when the proxy speaks for itself, as in a check."""

    __slots__ = ("_held", "done", "source")

    def __init__(self) -> None:
        self._held = b""
        self.done = False
        self.source: str | None = None

    def feed(self, data: bytes) -> int:
        """Take what has arrived: how many bytes of `data` belong to the header. Raises `ProxyHeaderError`."""
        held = self._held + data
        if held.startswith(_V2[: len(held)]):
            end = self._read_v2(held)
        elif held.startswith(_V1[: len(held)]):
            end = self._read_v1(held)
        else:
            raise ProxyHeaderError("a proxy that shall speak the PROXY protocol did not")
        taken = end - len(self._held)
        self._held = held[:end]
        return taken

    def _read_v1(self, held: bytes) -> int:
        end = held.find(b"\r\n", 0, V1_BYTES_MAX)
        if end < 0:
            if len(held) >= V1_BYTES_MAX:
                raise ProxyHeaderError("a header of version 1 is too long")
            return len(held)
        words = held[:end].decode("latin-1").split(" ")
        if words[1] != "UNKNOWN":
            self.source = _source_of(words)
        self.done = True
        return end + len(b"\r\n")

    def _read_v2(self, held: bytes) -> int:
        if len(held) < _V2_HEAD_BYTES:
            return len(held)
        if held[12] & 0xF0 != _VERSION:
            raise ProxyHeaderError("a header of a version that is not known")
        end = _V2_HEAD_BYTES + int.from_bytes(held[14:16], "big")
        if end > V2_BYTES_MAX:
            raise ProxyHeaderError("a header of version 2 is too long")
        if len(held) < end:
            return len(held)
        self.source = _source_of_v2(held[12] & 0x0F, held[13], held[_V2_HEAD_BYTES:end])
        self.done = True
        return end


def _source_of(words: list[str]) -> str:
    """`PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, and the same with TCP6."""
    kinds: dict[str, type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]] = {
        "TCP4": ipaddress.IPv4Address,
        "TCP6": ipaddress.IPv6Address,
    }
    kind = kinds.get(words[1])
    if kind is None or len(words) != 6:
        raise ProxyHeaderError("a header of version 1 that does not parse")
    try:
        source, _ = kind(words[2]), kind(words[3])
    except ValueError:
        raise ProxyHeaderError("an address that does not parse") from None
    if not all(_PORT.match(port) and int(port) <= _PORT_MAX for port in words[4:]):
        raise ProxyHeaderError("a port that does not parse")
    return str(source)


def _source_of_v2(command: int, kind: int, rest: bytes) -> str | None:
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("a command that is not known")
    if command == _LOCAL:
        return None
    family, transport = kind >> 4, kind & 0x0F
    if family in (_UNSPECIFIED, _UNIX):
        return None
    if family not in _FAMILIES or transport != _STREAM:
        raise ProxyHeaderError("a kind of address that is not TCP's")
    number, size, size_min = _FAMILIES[family]
    if len(rest) < size_min:
        raise ProxyHeaderError("addresses that are cut short")
    return str(ipaddress.ip_address(socket.inet_ntop(number, rest[:size])))
