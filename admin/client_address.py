"""Where a request really came from, when trusted proxies stand in between.

`X-Forwarded-For` and `X-Forwarded-Proto` are believed only from a peer that KARTA_TRUSTED_PROXIES names,
and of the former only the last entry that is no such proxy itself: what stands to its left is whatever a
client wrote.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from quart import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOPS_MAX = 16
"""More entries than any chain of real proxies adds; the rest is noise."""


def address(request: Request, trusted: Sequence[Network]) -> str | None:
    """The client's address, or None when there is none (a Unix socket)."""
    peer = request.remote_addr
    if not _is_trusted(peer, trusted):
        return peer
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")[-HOPS_MAX:]
    for hop in reversed([hop.strip() for hop in hops]):
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            break
        peer = hop
        if not _is_trusted(hop, trusted):
            break
    return peer


def scheme(request: Request, trusted: Sequence[Network]) -> str:
    """`https` or `http`, as the client spoke it."""
    told = request.headers.get("X-Forwarded-Proto", "").strip().lower()
    if told in ("http", "https") and _is_trusted(request.remote_addr, trusted):
        return told
    spoken: str = request.scheme
    return spoken


def _is_trusted(address: str | None, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    # ::ffff:10.0.0.1 is 10.0.0.1, met on a dual-stack socket.
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in trusted)
