"""Endpoints of outgoing webhooks, and the secrets their messages are signed with.

An endpoint belongs to an organization. Its secrets (`whsec_…`, as Standard Webhooks writes them) are sealed
like provider keys, and shown once: when the endpoint is made, and when its secret is rotated. After a
rotation both sign until the overlap ends, so that no message is refused while a receiver changes over.

Whether a URL may be called is decided by who calls it (`admin.webhooks.safe_address`); here it is text.
The audit log is told the host of a URL alone, since paths hold tokens.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec

from storage import audit, sealing
from storage.acting import ADMINS, require_role
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import InvalidValue, NotFound
from storage.model import Actor, SealedCredential
from storage.plans import TERMS, Allowance, require_room
from storage.queries import Queries, Record
from storage.sealing import MasterKeys
from storage.webhook_events import CHOICES

ENDPOINTS_MAX = max(terms.webhook_endpoints or 0 for terms in TERMS.values())
"""Of one organization, on the plan that has most. Those there are stay when the plan changes."""
URL_CHARS_MAX = 2048
DESCRIPTION_CHARS_MAX = 200
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
OVERLAP_SECONDS_MAX = 7 * 86400
OVERLAP_SECONDS = 86400

_PLACE = "webhook:secret"
"""Stands where a provider's name does in what is sealed; no provider can be called so."""
_COLUMNS = "endpoint_id, org_id, url, description, events, ordered, state, reason, created_at, failing_since"

Reason = Literal["asked", "gone", "failing"]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as it may be shown."""

    endpoint_id: UUID
    org_id: UUID
    url: str
    description: str
    events: tuple[str, ...]
    ordered: bool
    """One message at a time, in the order of the events."""
    state: Literal["enabled", "disabled"]
    reason: Reason | None
    """Why it is disabled: `asked`, `gone` (it answered 410) or `failing` (nothing else for days)."""
    created_at: datetime
    failing_since: datetime | None
    """When the failures began that no success has followed yet."""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class NewEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is chosen of an endpoint."""

    url: str
    events: tuple[str, ...]
    description: str = ""
    ordered: bool = False


async def create_endpoint(
    db: Database, actor: Actor, master_keys: MasterKeys, org_id: UUID, chosen: NewEndpoint
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret, which is never again to be had.

    Raises NotFound for an unknown organization, InvalidValue for events that there are not or a description
    that cannot be kept, CheckFailed for a URL that is not https, PlanRefused when the plan allows no more,
    NotAllowed.
    """
    events = _require(chosen)
    endpoint_id = uuid4()
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            "SELECT salt FROM organizations WHERE org_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
            org_id,
        )
        if row is None:
            raise NotFound(f"there is no organization {org_id}")
        await require_role(tx, actor, org_id, ADMINS)
        count = await tx.fetch_value(
            "SELECT count(*) FROM webhook_endpoints WHERE org_id = $1 AND deleted_at IS NULL", org_id
        )
        await require_room(tx, org_id, Allowance.WEBHOOK_ENDPOINTS, count)
        made = await tx.fetch_row(
            f"""
            INSERT INTO webhook_endpoints (endpoint_id, org_id, url, description, events, ordered)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_COLUMNS}
            """,  # noqa: S608
            endpoint_id,
            org_id,
            chosen.url,
            chosen.description,
            events,
            chosen.ordered,
        )
        endpoint = _to_endpoint(made)
        secret = await _insert_secret(tx, master_keys, endpoint, row["salt"])
        await audit.record(tx, actor, Event.WEBHOOK_CREATED, org_id, str(endpoint_id), _describe(endpoint))
    return endpoint, secret


async def change_endpoint(
    db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID, chosen: NewEndpoint
) -> Endpoint:
    """Raises as `create_endpoint`."""
    events = _require(chosen)
    async with db.transaction() as tx:
        before = await _lock(tx, org_id, endpoint_id)
        await require_role(tx, actor, org_id, ADMINS)
        row = await tx.fetch_row(
            f"""
            UPDATE webhook_endpoints SET url = $2, description = $3, events = $4, ordered = $5
             WHERE endpoint_id = $1 RETURNING {_COLUMNS}
            """,  # noqa: S608
            endpoint_id,
            chosen.url,
            chosen.description,
            events,
            chosen.ordered,
        )
        after = _to_endpoint(row)
        if after != before:
            details = {"before": _describe(before), "after": _describe(after)}
            if after.url != before.url:
                details["url_changed"] = {"host": after.host}
            await audit.record(tx, actor, Event.WEBHOOK_CHANGED, org_id, str(endpoint_id), details)
    return after


async def rotate_secret(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    org_id: UUID,
    endpoint_id: UUID,
    *,
    overlap_seconds: int = OVERLAP_SECONDS,
) -> tuple[Endpoint, str]:
    """Another secret, shown this once. The one before signs as well until the overlap ends; one from an
    earlier rotation ends now. Raises NotFound, NotAllowed, InvalidValue for an overlap out of bounds."""
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        raise InvalidValue(f"an overlap is 0 to {OVERLAP_SECONDS_MAX} seconds")
    async with db.transaction() as tx:
        endpoint = await _lock(tx, org_id, endpoint_id)
        await require_role(tx, actor, org_id, ADMINS)
        salt = await tx.fetch_value("SELECT salt FROM organizations WHERE org_id = $1", org_id)
        await tx.execute(
            "DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND (ends_at IS NOT NULL OR $2 = 0)",
            endpoint_id,
            overlap_seconds,
        )
        await tx.execute(
            "UPDATE webhook_secrets SET ends_at = now() + make_interval(secs => $2) WHERE endpoint_id = $1",
            endpoint_id,
            overlap_seconds,
        )
        secret = await _insert_secret(tx, master_keys, endpoint, salt)
        details = {"host": endpoint.host, "overlap_seconds": overlap_seconds}
        await audit.record(tx, actor, Event.WEBHOOK_SECRET_ROTATED, org_id, str(endpoint_id), details)
    return endpoint, secret


async def enable_endpoint(db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID) -> Endpoint:
    """Switches it on; what was pending goes out now. Again changes nothing. Raises NotFound."""
    async with db.transaction() as tx:
        before = await _lock(tx, org_id, endpoint_id)
        if before.state == "enabled":
            return before
        row = await tx.fetch_row(
            f"""
            UPDATE webhook_endpoints
               SET state = 'enabled', reason = NULL, failing_since = NULL, failures = 0
             WHERE endpoint_id = $1 RETURNING {_COLUMNS}
            """,  # noqa: S608
            endpoint_id,
        )
        await tx.execute(
            "UPDATE webhook_deliveries SET due_at = now() WHERE endpoint_id = $1 AND state = 'pending'"
            " AND claim IS NULL",
            endpoint_id,
        )
        details = {"host": before.host, "was": before.reason}
        await audit.record(tx, actor, Event.WEBHOOK_ENABLED, org_id, str(endpoint_id), details)
    return _to_endpoint(row)


async def disable_endpoint(db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID) -> Endpoint:
    """Switches it off because somebody asked; what is pending waits. Raises NotFound."""
    async with db.transaction() as tx:
        before = await _lock(tx, org_id, endpoint_id)
        if before.state == "disabled":
            return before
        return await switch_off(tx, actor, before, "asked")


async def switch_off(tx: Transaction, actor: Actor, endpoint: Endpoint, reason: Reason) -> Endpoint:
    """The same within a transaction that holds the endpoint."""
    row = await tx.fetch_row(
        f"""
        UPDATE webhook_endpoints SET state = 'disabled', reason = $2 WHERE endpoint_id = $1
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        endpoint.endpoint_id,
        reason,
    )
    details = {"host": endpoint.host, "reason": reason}
    subject = str(endpoint.endpoint_id)
    await audit.record(tx, actor, Event.WEBHOOK_DISABLED, endpoint.org_id, subject, details)
    return _to_endpoint(row)


async def delete_endpoint(db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID) -> None:
    """With its secrets, its log and what was still to be sent. Raises NotFound."""
    async with db.transaction() as tx:
        before = await _lock(tx, org_id, endpoint_id)
        await hide_endpoints(tx, org_id, endpoint_id)
        details = {"host": before.host}
        await audit.record(tx, actor, Event.WEBHOOK_DELETED, org_id, str(endpoint_id), details)


async def hide_endpoints(tx: Transaction, org_id: UUID, endpoint_id: UUID | None = None) -> None:
    """Deletes one, or all of an organization's, as far as anybody can see: nothing is sent, nothing is found,
    and secrets and URL are gone. The rows of the log may be very many: `webhook_deliveries.sweep_deleted`
    takes them."""
    rows = await tx.fetch(
        """
        UPDATE webhook_endpoints
           SET state = 'disabled', reason = coalesce(reason, 'asked'), deleted_at = now(),
               url = 'https://deleted.invalid/', description = ''
         WHERE org_id = $1 AND ($2::uuid IS NULL OR endpoint_id = $2) AND deleted_at IS NULL
        RETURNING endpoint_id
        """,
        org_id,
        endpoint_id,
    )
    await tx.execute(
        "DELETE FROM webhook_secrets WHERE endpoint_id = ANY ($1)", [row["endpoint_id"] for row in rows]
    )


async def select_endpoints(db: Queries, org_id: UUID) -> list[Endpoint]:
    """An organization's, oldest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE org_id = $1 AND deleted_at IS NULL"  # noqa: S608
        " ORDER BY created_at, endpoint_id LIMIT $2",
        org_id,
        ENDPOINTS_MAX,
    )
    return [_to_endpoint(row) for row in rows]


async def select_endpoint(db: Queries, org_id: UUID, endpoint_id: UUID) -> Endpoint:
    """Raises NotFound."""
    return _found(await _select(db, org_id, endpoint_id))


async def select_secrets(
    db: Queries, master_keys: MasterKeys, endpoint_ids: Collection[UUID]
) -> dict[UUID, list[str]]:
    """The secrets that sign now, by endpoint, the current one first. One that does not open is left out."""
    rows = await db.fetch(
        """
        SELECT s.secret_id, s.endpoint_id, e.org_id, o.salt, s.master_key_version, s.wrapped_key, s.ciphertext
          FROM webhook_secrets s JOIN webhook_endpoints e USING (endpoint_id) JOIN organizations o USING
          (org_id)
         WHERE s.endpoint_id = ANY ($1) AND (s.ends_at IS NULL OR s.ends_at > now())
         ORDER BY s.ends_at NULLS FIRST
        """,
        list(endpoint_ids),
    )
    found: dict[UUID, list[str]] = {}
    for row in rows:
        try:
            opened = sealing.open_sealed(master_keys, sealed_secret(row))
        except sealing.SealError:
            continue
        found.setdefault(row["endpoint_id"], []).append(_spell(opened))
        sealing.wipe(opened)
    return found


def sealed_secret(row: Record) -> SealedCredential:
    """From a row with the secret's columns, the organization's id and salt."""
    return SealedCredential(
        credential_id=row["secret_id"],
        org_id=row["org_id"],
        provider=_PLACE,
        master_key_version=row["master_key_version"],
        org_salt=row["salt"],
        wrapped_key=row["wrapped_key"],
        ciphertext=row["ciphertext"],
    )


async def _insert_secret(tx: Transaction, master_keys: MasterKeys, endpoint: Endpoint, salt: bytes) -> str:
    secret_id, secret = uuid4(), bytearray(secrets.token_bytes(SECRET_BYTES))
    version, wrapped_key, ciphertext = sealing.seal(
        master_keys,
        org_id=endpoint.org_id,
        org_salt=salt,
        provider=_PLACE,
        credential_id=secret_id,
        plaintext=secret,
    )
    await tx.execute(
        """
        INSERT INTO webhook_secrets (secret_id, endpoint_id, master_key_version, wrapped_key, ciphertext)
        VALUES ($1, $2, $3, $4, $5)
        """,
        secret_id,
        endpoint.endpoint_id,
        version,
        wrapped_key,
        ciphertext,
    )
    try:
        return _spell(secret)
    finally:
        sealing.wipe(secret)


def _spell(secret: bytearray) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def _require(chosen: NewEndpoint) -> list[str]:
    if not chosen.events or not set(chosen.events) <= set(CHOICES):
        raise InvalidValue("choose one event at least, of those that there are")
    if len(chosen.description) > DESCRIPTION_CHARS_MAX or not (chosen.description or "-").isprintable():
        raise InvalidValue(f"a description has {DESCRIPTION_CHARS_MAX} printable characters at most")
    if len(chosen.url) > URL_CHARS_MAX:
        raise InvalidValue(f"a URL has {URL_CHARS_MAX} characters at most")
    return sorted(set(chosen.events))


async def _lock(tx: Transaction, org_id: UUID, endpoint_id: UUID) -> Endpoint:
    return _found(await _select(tx, org_id, endpoint_id, " FOR NO KEY UPDATE"))


async def _select(db: Queries, org_id: UUID, endpoint_id: UUID, lock: str = "") -> Record | None:
    return await db.fetch_row(
        f"SELECT {_COLUMNS} FROM webhook_endpoints"  # noqa: S608
        f" WHERE org_id = $1 AND endpoint_id = $2 AND deleted_at IS NULL{lock}",
        org_id,
        endpoint_id,
    )


def _found(row: Record | None) -> Endpoint:
    if row is None:
        raise NotFound("there is no such webhook endpoint")
    return _to_endpoint(row)


def _describe(endpoint: Endpoint) -> dict[str, object]:
    return {
        "host": endpoint.host,
        "events": list(endpoint.events),
        "ordered": endpoint.ordered,
        "description": endpoint.description,
    }


def _to_endpoint(row: Record | None) -> Endpoint:
    assert row is not None
    return Endpoint(
        endpoint_id=row["endpoint_id"],
        org_id=row["org_id"],
        url=row["url"],
        description=row["description"],
        events=tuple(row["events"]),
        ordered=row["ordered"],
        state=row["state"],
        reason=row["reason"],
        created_at=row["created_at"],
        failing_since=row["failing_since"],
    )
