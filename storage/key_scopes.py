"""What a key may be used for: which models, which endpoints, from which networks. Chosen when it is minted,
and changed here; gateways learn of it at commit.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.errors import InvalidValue, NotFound
from storage.model import Actor, KeyScope

ENTRIES_MAX = 100
"""Of endpoints and of networks each; of models it is 200. A gateway holds them with the key."""
_ENDPOINT = re.compile(r"[a-z_]{1,40}")


def parse_endpoints(given: Iterable[str]) -> tuple[str, ...] | None:
    """First segments of paths behind `/v1/`, like `messages`; None when none are given, which means any.

    Raises InvalidValue.
    """
    endpoints = tuple(dict.fromkeys(given))
    if len(endpoints) > ENTRIES_MAX or not all(_ENDPOINT.fullmatch(one) for one in endpoints):
        raise InvalidValue(f"name up to {ENTRIES_MAX} endpoints by what follows /v1/, like messages")
    return endpoints or None


def parse_networks(given: Iterable[str]) -> tuple[str, ...] | None:
    """Networks like `192.0.2.0/24`, or single addresses; None when none are given, which means any.

    Raises InvalidValue, also for a network with bits set behind its prefix: it would be somebody's mistake.
    """
    try:
        networks = tuple(dict.fromkeys(str(ipaddress.ip_network(one)) for one in given))
    except ValueError:
        raise InvalidValue("write networks like 192.0.2.0/24 or 2001:db8::/32, or single addresses") from None
    if len(networks) > ENTRIES_MAX:
        raise InvalidValue(f"name up to {ENTRIES_MAX} networks")
    return networks or None


async def set_scope(db: Database, actor: Actor, org_id: UUID, key_id: str, scope: KeyScope) -> None:
    """In place of what the key had. Raises NotFound for no key of that organization, CheckFailed for too many
    entries, or none, of one kind."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            """
            SELECT allowed_models, allowed_endpoints, allowed_networks::text[] AS allowed_networks
              FROM api_keys WHERE key_id = $1 AND org_id = $2 FOR NO KEY UPDATE
            """,
            key_id,
            org_id,
        )
        if row is None:
            raise NotFound("there is no such key")
        before = KeyScope(
            models=to_tuple(row["allowed_models"]),
            endpoints=to_tuple(row["allowed_endpoints"]),
            networks=to_tuple(row["allowed_networks"]),
        )
        if before == scope:
            return
        await tx.execute(
            """
            UPDATE api_keys
               SET allowed_models = $2, allowed_endpoints = $3, allowed_networks = $4::text[]::cidr[]
             WHERE key_id = $1
            """,
            key_id,
            *to_arguments(scope),
        )
        details = {"before": describe(before), "after": describe(scope)}
        await audit.record(tx, actor, Event.KEY_SCOPE_CHANGED, org_id, key_id, details)


def to_tuple(array: Sequence[str] | None) -> tuple[str, ...] | None:
    """An array of the database."""
    return None if array is None else tuple(array)


def to_arguments(scope: KeyScope) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """Models, endpoints and networks as the database takes them."""
    models, endpoints, networks = (
        None if one is None else list(one) for one in (scope.models, scope.endpoints, scope.networks)
    )
    return models, endpoints, networks


def describe(scope: KeyScope) -> dict[str, object]:
    """For the audit log."""
    return {"models": scope.models, "endpoints": scope.endpoints, "networks": scope.networks}
