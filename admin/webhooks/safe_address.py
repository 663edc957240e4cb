"""Where a webhook may go: which URLs are taken, and which addresses are connected to. Nothing here does I/O.

A URL that a customer gives is a wish to make this server send something somewhere. So it is read by one
strict grammar, narrower than the standards', and nothing is mended: `https`, a name of plain letters (no
address in any spelling, no user, no escape, no dot at the end), a port of `PORTS`. What the name stands for
is another question, asked at each delivery (`dialing`): every address of the answer must be one of the public
internet, or nothing is connected to.

Addresses are refused by tables of our own, from the special-purpose registries of IANA, since Python's
`is_global` lets several dangerous kinds pass, by version. For IPv6 the rule is the other way round: what is
not in 2000::/3 is refused unseen, which leaves out mapped, translated and embedded IPv4 addresses, and the
rest by name. A translation prefix of an operator's own (RFC 6052) within 2000::/3 cannot be told from any
other network: who runs such a NAT64 must filter there.

`allowed_networks` opens private networks, for people who run Karta within one and for tests. They also free
the port.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = frozenset({443, 8443})
URL_CHARS_MAX = 2048
HOST_CHARS_MAX = 253

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATH = r"(/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~]*)?(\?[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]*)?"
"""And query; what RFC 3986 allows there."""
_URL = re.compile(
    # The last label begins with a letter, as all top-level domains do: no number, of whatever base, is one.
    rf"https://((?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?)(?::([1-9][0-9]{{0,4}}))?" + _PATH,
    re.ASCII,
)
_LOCAL = re.compile(rf"https://((?=[a-z]){_LABEL})(?::([1-9][0-9]{{0,4}}))?{_PATH}", re.ASCII)
"""A name of one label, which only a private network has."""
_PRIVATE = (
    "that name is of no receiver on the public internet; a private network is reached only where those who "
    "run Karta have opened it (KARTA_WEBHOOKS_ALLOWED_NETWORKS)"
)
_PRIVATE_SUFFIXES = (
    *("localhost", "local", "internal", "intranet", "private", "corp", "home", "lan", "localdomain"),
    *("home.arpa", "onion", "test", "invalid", "example", "in-addr.arpa", "ip6.arpa", "alt", "svc", "consul"),
)
"""Names that are nobody's on the public internet (RFC 6761, RFC 9476, ICANN's list of collisions)."""

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The first half of an interface id that holds an IPv4 address (RFC 5214)."""


class UnsafeURL(Exception):
    """A URL that is not called; says how to write one that is."""


class UnsafeAddress(Exception):
    """A name stands for an address that is not connected to. It tells no address: that is the network's."""


@dataclass(frozen=True)
class Rules:
    """`own_hosts` are our own servers' names: a webhook must not come back to us."""

    allowed_networks: tuple[Network, ...] = ()
    own_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Target:
    """A URL that may be called, taken apart. `path` is never empty, and has the query."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


def parse(url: str, rules: Rules) -> Target:
    """Raises UnsafeURL."""
    if len(url) > URL_CHARS_MAX:
        raise UnsafeURL(f"a URL has {URL_CHARS_MAX} characters at most")
    if not url.startswith("https://"):
        raise UnsafeURL("write it as https://hooks.example.com/path")
    local = "." not in url.split("/")[2] and _LOCAL.fullmatch(url)
    if local and not rules.allowed_networks:
        raise UnsafeURL(_PRIVATE)
    found = local or _URL.fullmatch(url)
    if found is None:
        raise UnsafeURL(
            "write it as https://hooks.example.com/path: a name in small letters (an international one in "
            "its xn-- form), no address, no user, no fragment, and ASCII alone"
        )
    host, port = found[1], int(found[2] or 443)
    if len(host) > HOST_CHARS_MAX:
        raise UnsafeURL(f"a name has {HOST_CHARS_MAX} characters at most")
    if host in rules.own_hosts:
        raise UnsafeURL("that is Karta itself: name a receiver of your own")
    if port > 65535 or (port not in PORTS and not rules.allowed_networks):
        raise UnsafeURL(f"the port is {' or '.join(map(str, sorted(PORTS)))}")
    if not rules.allowed_networks and _is_private_name(host):
        raise UnsafeURL(_PRIVATE)
    return Target(host, port, (found[3] or "/") + (found[4] or ""))


def _is_private_name(host: str) -> bool:
    return any(host == suffix or host.endswith("." + suffix) for suffix in _PRIVATE_SUFFIXES)


def check_answer(texts: Iterable[str], rules: Rules) -> list[Address]:
    """The addresses of a resolver's whole answer, to be tried in order. One that is refused refuses all:
    whoever mixes them means us to take the wrong one. Raises UnsafeAddress, also for an empty answer."""
    addresses = [_read(text) for text in dict.fromkeys(texts)]
    if not addresses or not all(is_safe(address, rules) for address in addresses):
        raise UnsafeAddress("the name does not stand for addresses of the public internet alone")
    return addresses


def is_safe(address: Address, rules: Rules) -> bool:
    """Whether it may be connected to."""
    if any(address.version == network.version and address in network for network in rules.allowed_networks):
        return getattr(address, "scope_id", None) is None
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return (
        address.scope_id is None
        and address in _GLOBAL_V6
        and not any(address in network for network in _REFUSED_V6)
        and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP
    )


def _read(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise UnsafeAddress("the resolver answered with no address") from None
