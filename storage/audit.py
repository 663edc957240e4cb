"""The audit log: written in the transaction of the change it tells of, chained per organization, checkable
off line.

Strategy. `record` inserts; everything else is the database's doing (migrations/0002_audit_log.sql): the
number, the time, the chain, and the refusal of any later change. Rows belong to an organization's chain, or
to the system's (the nil UUID) when no organization is concerned.

What proves it is elsewhere: `audit_chain` recomputes the chain, `audit_checkpoints` signs its head
now and then, `audit_retention` lets old months go. `audit_vocabulary` says of each event what it means.

`record` takes a lock on the organization's chain until its transaction ends: make it the transaction's last
statement.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from storage.bridge import Transaction
from storage.model import Actor
from storage.queries import Queries, Record

SYSTEM_CHAIN = UUID(int=0)
"""Where rows without an organization go."""
ACTOR_ID_CHARS_MAX = 200
SUBJECT_CHARS_MAX = 200
ADDRESS_CHARS_MAX = 64
USER_AGENT_CHARS_MAX = 512
REQUEST_ID_CHARS_MAX = 128
DETAILS_BYTES_MAX = 16 * 1024
"""As PostgreSQL writes them out; what the column holds."""
PAGE_ROWS_MAX = 1000
"""Rows read at once: bounds memory, whatever the log's length."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ITEMS_MAX = (None, 50, 10, 2)
"""Of each list in a row's details: all, or so many as leave room for the rest."""
COLUMNS = """
    org_id, seq, created_at, event, actor_kind, actor_id, subject, address, user_agent, request_id,
    details::text AS details, prev_hash, hash
"""


class Event(StrEnum):
    """Everything that is ever recorded: what:happened. Never rename or reuse one: old rows keep theirs."""

    ORGANIZATION_CREATED = "organization:created"
    ORGANIZATION_PLAN_CHANGED = "organization:plan_changed"
    ORGANIZATION_SEATS_CHANGED = "organization:seats_changed"
    ORGANIZATION_CEILINGS_CHANGED = "organization:ceilings_changed"
    ORGANIZATION_BILLING_CHANGED = "organization:billing_changed"
    ORGANIZATION_STATUS_CHANGED = "organization:status_changed"
    USER_CREATED = "user:created"
    USER_DELETED = "user:deleted"
    SIGN_UP_REQUESTED = "sign_up:requested"
    PASSWORD_RESET_REQUESTED = "password:reset_requested"  # noqa: S105 - names an event
    PASSWORD_CHANGED = "password:changed"  # noqa: S105
    EMAIL_CHANGE_REQUESTED = "email:change_requested"
    EMAIL_CHANGED = "email:changed"
    MEMBER_ADDED = "member:added"
    MEMBER_INVITED = "member:invited"
    INVITATION_WITHDRAWN = "invitation:withdrawn"
    MEMBER_REMOVED = "member:removed"
    MEMBER_ROLE_CHANGED = "member:role_changed"
    SIGN_IN_SUCCEEDED = "sign_in:succeeded"
    SIGN_IN_FAILED = "sign_in:failed"
    SESSION_CREATED = "session:created"
    SESSION_ENDED = "session:ended"
    SESSION_STEPPED_UP = "session:stepped_up"
    PROOF_FAILED = "proof:failed"
    FACTOR_ADDED = "factor:added"
    FACTOR_REMOVED = "factor:removed"
    RECOVERY_CODES_MADE = "recovery_codes:made"
    RECOVERY_CODE_USED = "recovery_codes:used"
    ORGANIZATION_RENAMED = "organization:renamed"
    ORGANIZATION_END_REQUESTED = "organization:end_requested"
    ORGANIZATION_END_CANCELLED = "organization:end_cancelled"
    ORGANIZATION_ENDED = "organization:ended"
    ORGANIZATION_MFA_CHANGED = "organization:mfa_changed"
    ORGANIZATION_SERVER_TIMING_CHANGED = "organization:server_timing_changed"
    KEY_MINTED = "api_key:minted"
    KEY_REVOKED = "api_key:revoked"
    KEY_ROTATED = "api_key:rotated"
    KEY_SCOPE_CHANGED = "api_key:scope_changed"
    MANAGEMENT_KEY_MINTED = "management_key:minted"
    MANAGEMENT_KEY_REVOKED = "management_key:revoked"
    CREDENTIAL_SET = "credential:set"
    CREDENTIAL_REPLACED = "credential:replaced"
    CREDENTIAL_ROTATED = "credential:rotated"
    CREDENTIAL_REVOKED = "credential:revoked"
    CREDENTIAL_SUSPENDED = "credential:suspended"
    CREDENTIAL_RESUMED = "credential:resumed"
    CREDIT_ADJUSTED = "credit:adjusted"
    MASTER_KEY_ROTATED = "master_key:rotated"
    STAFF_GRANTED = "staff:granted"
    STAFF_REVOKED = "staff:revoked"
    STAFF_VIEWED = "staff:viewed"
    PRICE_SET = "price:set"
    PRICE_REMOVED = "price:removed"
    LIMIT_SET = "limit:set"
    LIMIT_REMOVED = "limit:removed"
    ROUTE_SET = "route:set"
    ROUTE_REMOVED = "route:removed"
    AUDIT_EXPORTED = "audit:exported"
    AUDIT_DROPPED = "audit:dropped"
    AUDIT_MOVED = "audit:moved"
    AUDIT_SIGNING_KEY_MADE = "audit:signing_key_made"
    USAGE_EXPORTED = "usage:exported"
    USAGE_DROPPED = "usage:dropped"
    USAGE_REBUILT = "usage:rebuilt"
    SUBSCRIPTION_REQUESTED = "subscription:requested"
    SUBSCRIPTION_CONFIRMED = "subscription:confirmed"
    SUBSCRIPTION_ENDED = "subscription:ended"
    SUB_PROCESSORS_ANNOUNCED = "sub_processors:announced"
    ABUSE_REPORTED = "abuse:reported"
    ABUSE_CLOSED = "abuse:closed"
    INCIDENT_OPENED = "incident:opened"
    INCIDENT_UPDATED = "incident:updated"
    INCIDENT_RESOLVED = "incident:resolved"
    MAINTENANCE_PLANNED = "maintenance:planned"
    MAINTENANCE_CANCELLED = "maintenance:cancelled"
    MAIL_SUPPRESSED = "mail:suppressed"
    MAIL_SUPPRESSION_LIFTED = "mail:suppression_lifted"
    MAIL_PREFERENCES_CHANGED = "mail:preferences_changed"
    PAYMENT_CUSTOMER_MADE = "payment:customer_made"
    PAYMENT_CUSTOMER_GONE = "payment:customer_gone"
    PAYMENT_TAX_IDS_CHANGED = "payment:tax_ids_changed"
    PAYMENT_CHECKOUT_BEGUN = "payment:checkout_begun"
    PAYMENT_CHECKOUT_CHANGED = "payment:checkout_changed"
    PAYMENT_SUBSCRIPTION_CHANGED = "payment:subscription_changed"
    PAYMENT_END_REQUESTED = "payment:end_requested"
    PAYMENT_END_CANCELLED = "payment:end_cancelled"
    PAYMENT_INVOICE_CHANGED = "payment:invoice_changed"
    PAYMENT_STATE_CHANGED = "payment:state_changed"
    PAYMENT_EVENT_REPLAYED = "payment:event_replayed"
    PAYMENT_REPORT_SETTLED = "payment:report_settled"
    WEBHOOK_CREATED = "webhook:created"
    WEBHOOK_CHANGED = "webhook:changed"
    WEBHOOK_ENABLED = "webhook:enabled"
    WEBHOOK_DISABLED = "webhook:disabled"
    WEBHOOK_DELETED = "webhook:deleted"
    WEBHOOK_SECRET_ROTATED = "webhook:secret_rotated"  # noqa: S105
    WEBHOOK_TESTED = "webhook:tested"
    WEBHOOK_REDELIVERED = "webhook:redelivered"
    BUDGET_THRESHOLD_REACHED = "budget:threshold_reached"
    """Written by the database itself (migrations/0007_rollups.sql), where usage is accounted for."""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it is kept; `details` is PostgreSQL's text of the JSON, which the hash covers byte for
    byte."""

    org_id: UUID
    seq: int
    created_at: datetime
    event: str
    actor_kind: str
    actor_id: str
    subject: str
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: str
    prev_hash: bytes
    hash: bytes


async def record(
    tx: Transaction, actor: Actor, event: Event, org_id: UUID | None, subject: str, details: Mapping[str, Any]
) -> None:
    """Appends one row in the transaction of the change.

    Args:
      org_id: whose chain; None for the system's.
      subject: the id of what was changed. Never a secret.
      details: JSON values; of secrets the last four characters at most. Where they are more than a row holds,
        lists are cut, and it is told how much they lack.
    """
    await record_each(tx, actor, event, org_id, [(subject, details)])


async def record_each(
    tx: Transaction,
    actor: Actor,
    event: Event,
    org_id: UUID | None,
    changes: Sequence[tuple[str, Mapping[str, Any]]],
) -> None:
    """The same of several changes of one kind (subject and details of each): a row each, in their order."""
    await tx.execute(
        """
        INSERT INTO audit_log
               (org_id, event, actor_kind, actor_id, address, user_agent, request_id, subject, details)
        SELECT $1, $2, $3, $4, $5, $6, $7, changed.subject, changed.details::jsonb
          FROM unnest($8::text[], $9::text[]) WITH ORDINALITY AS changed (subject, details, place)
         ORDER BY place
        """,
        org_id or SYSTEM_CHAIN,
        event.value,
        actor.kind.value,
        printable(actor.actor_id, ACTOR_ID_CHARS_MAX),
        printable(actor.address, ADDRESS_CHARS_MAX),
        printable(actor.user_agent, USER_AGENT_CHARS_MAX),
        printable(actor.request_id, REQUEST_ID_CHARS_MAX),
        [printable(subject, SUBJECT_CHARS_MAX) for subject, _ in changes],
        [_encode(details) for _, details in changes],
    )


async def select_audit_rows(
    db: Queries, org_id: UUID | None, *, after_seq: int = 0, limit: int = PAGE_ROWS_MAX
) -> list[AuditRow]:
    """One chain's rows in order, `limit` at most, from behind `after_seq`."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM audit_log WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",  # noqa: S608
        org_id or SYSTEM_CHAIN,
        after_seq,
        min(limit, PAGE_ROWS_MAX),
    )
    return [to_row(row) for row in rows]


def first_hash(org_id: UUID) -> bytes:
    """What row 1 of a chain follows."""
    return hashlib.sha256(field("karta audit log") + field(str(org_id))).digest()


def hash_row(row: AuditRow) -> bytes:
    """The hash a row must have: SHA-256 over its fields in canonical form, the previous row's hash first.

    Each field is its length in bytes (4 bytes, big-endian, -1 for NULL) and its UTF-8 text; the time is
    microseconds since 1970.
    """
    return hashlib.sha256(
        field(row.prev_hash)
        + field(str(row.org_id))
        + field(str(row.seq))
        + field(str((row.created_at - _EPOCH) // timedelta(microseconds=1)))
        + field(row.event)
        + field(row.actor_kind)
        + field(row.actor_id)
        + field(row.subject)
        + field(row.address)
        + field(row.user_agent)
        + field(row.request_id)
        + field(row.details)
    ).digest()


def field(value: str | bytes | None) -> bytes:
    """One value in canonical form."""
    if value is None:
        return b"\xff\xff\xff\xff"
    content = value.encode() if isinstance(value, str) else value
    return len(content).to_bytes(4, "big") + content


def to_row(row: Record) -> AuditRow:
    """From any row with `COLUMNS`."""
    return AuditRow(
        org_id=row["org_id"],
        seq=row["seq"],
        created_at=row["created_at"],
        event=row["event"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        subject=row["subject"],
        address=row["address"],
        user_agent=row["user_agent"],
        request_id=row["request_id"],
        details=row["details"],
        prev_hash=row["prev_hash"],
        hash=row["hash"],
    )


def printable(text: str | None, chars_max: int) -> Any:
    r"""Text that can be kept and shown. It cannot forge a line, reverse its neighbours or hide: such
    characters become `\u` escapes."""
    if text is None:
        return None
    # Cut before escaping as well, so that a megabyte of header costs nothing.
    shown = "".join(
        char if char.isprintable() and unicodedata.category(char) != "Cf" else f"\\u{ord(char):04x}"
        for char in text[:chars_max]
    )
    return shown[:chars_max]


def _encode(details: Mapping[str, Any]) -> str:
    """Details as JSON that fits. A key may be for two hundred models, and a change tells of before and
    after."""
    encoded = b""
    for items_max in _ITEMS_MAX:
        encoded = msgspec.json.encode(_clean(details, items_max))
        # PostgreSQL puts a space behind each comma and colon.
        if len(encoded) + encoded.count(b",") + encoded.count(b":") <= DETAILS_BYTES_MAX:
            break
    return encoded.decode()


def _clean(value: Any, items_max: int | None) -> Any:
    """Details as JSON holds them: jsonb takes neither NUL nor lone surrogates, and readers want no control
    characters."""
    if isinstance(value, str):
        return printable(value, SUBJECT_CHARS_MAX)
    if isinstance(value, Mapping):
        return {
            printable(str(name), SUBJECT_CHARS_MAX): _clean(inner, items_max) for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        kept = [_clean(inner, items_max) for inner in value[:items_max]]
        return kept if len(kept) == len(value) else [*kept, f"… and {len(value) - len(kept)} more"]
    return value
