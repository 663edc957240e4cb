"""Where a client is, as trusted proxies before Karta tell it: its failures are counted there, and some
keys may be used from some networks only.

Behind a proxy all clients come from its address: one of them that tries out keys would use up the budget of
all, and no new key of anybody would be verified. So `X-Forwarded-For` is believed from a peer that
KARTA_TRUSTED_PROXIES names, and of it only the last entry that is no such proxy itself: what stands to its
left is whatever a client wrote. An IPv6 client is counted by its /64: every household has one and can use all
of its addresses.

Asked on a key's first use, and for keys that may be used from some networks only. By the same rule a proxy is
believed that a client did not speak TLS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from gateway.refusal import Kind, Refusal
from gateway.request_reader import Inbound

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PLAIN = (
    "This came over plain HTTP, and so did its key: use an https:// URL, and replace the key, which others "
    "may have read on the way."
)

HOPS_MAX = 16
"""More entries than any chain of real proxies adds; the rest is noise."""
_V6_PREFIX = 64


def client_address(peer: str, inbound: Inbound, trusted: Sequence[Network]) -> Address | None:
    """The client's own address; `peer` is its connection's other end. None where that is none."""
    address = parse_address(peer)
    if address is not None and is_trusted(address, trusted):
        for hop in reversed(_hops(inbound)):
            told = parse_address(hop)
            if told is None:
                break
            address = told
            if not is_trusted(address, trusted):
                break
    return address


def client_network(peer: str, inbound: Inbound, trusted: Sequence[Network]) -> str:
    """The network to count the client of this request by."""
    address = client_address(peer, inbound, trusted)
    if address is None:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, _V6_PREFIX), strict=False))
    return str(address)


def refuse_plain(peer: str, trusted: Sequence[Network]) -> None:
    """Of a request about which a proxy says that it came without TLS. Raises `Refusal` if that proxy is to be
    believed; there is no redirect, since the key has been sent by then."""
    address = parse_address(peer)
    if address is not None and is_trusted(address, trusted):
        raise Refusal(Kind.FORBIDDEN, _PLAIN)


def _hops(inbound: Inbound) -> list[str]:
    fields = [value for name, value in inbound.headers if name.lower() == b"x-forwarded-for"]
    return [hop.strip() for hop in b",".join(fields).decode("latin-1").split(",")[-HOPS_MAX:]]


def parse_address(text: str) -> Address | None:
    """An address as it is written without port; None for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # ::ffff:10.0.0.1 is 10.0.0.1, met on a dual-stack socket.
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """True for a proxy before Karta."""
    return any(address in network for network in trusted)
