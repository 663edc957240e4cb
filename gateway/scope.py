"""Which endpoints a key may ask, and from where: what its scope says besides models.

Most keys have no such scope, and the lane asks for no more than that: a request of one that has goes to the
pipeline, which knows the client's address behind proxies and asks here, once the key is verified.

An endpoint is named by what follows `/v1/`. The networks are those of the client as `client_address` finds
it: a forwarded header counts from a trusted proxy only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from gateway.client_address import Network, client_address
from gateway.operations import Operation
from gateway.refusal import Kind, Refusal
from gateway.request_reader import Inbound
from storage.model import GatewayKey


class Scope:
    """What one key may, worked out once."""

    __slots__ = ("_endpoints", "_networks")

    def __init__(self, endpoints: Sequence[str] | None, networks: Sequence[str] | None) -> None:
        self._endpoints = None if endpoints is None else frozenset(endpoints)
        self._networks = None if networks is None else [ipaddress.ip_network(one) for one in networks]

    def check(self, operation: Operation, inbound: Inbound, peer: str, trusted: Sequence[Network]) -> None:
        """Raises `Refusal`. `peer` is the other end of the connection, `trusted` the proxies before Karta."""
        if self._endpoints is not None and endpoint_of(operation) not in self._endpoints:
            raise Refusal(Kind.FORBIDDEN, "This key may not use that endpoint; its scope names others.")
        if self._networks is None:
            return
        address = client_address(peer, inbound, trusted)
        # Who cannot be placed is nowhere.
        if address is None or not any(address in network for network in self._networks):
            raise Refusal(
                Kind.FORBIDDEN, "This key may not be used from that address; its scope names others."
            )


def make_scope(key: GatewayKey) -> Scope | None:
    """None for a key that may use any endpoint from anywhere."""
    if key.allowed_endpoints is None and key.allowed_networks is None:
        return None
    return Scope(key.allowed_endpoints, key.allowed_networks)


def endpoint_of(operation: Operation) -> str:
    """`messages` for `/v1/messages/batches/{id}`."""
    return operation.path.split("/", 3)[2]
