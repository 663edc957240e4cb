"""What organizations can be told of by webhooks: the types of events as data, and the outbox they go into.

The body of a message is `{"type", "timestamp", "data"}`, as Standard Webhooks has it. `data` holds ids and
what may be known of the change; never a secret, a name of a person or a mail address.

Most events are rows of the audit log: a trigger (migrations/0026_webhooks.sql) puts them into the outbox in
the row's own transaction, whoever wrote it, also the database itself. What leaves no audit row calls `emit`
in the transaction that causes it. An event that no endpoint has chosen is not kept.

To add one: a row in `TYPES`; if it comes from the audit log, also one in the table `webhook_sources`, by a
migration. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec

from storage.audit import SYSTEM_CHAIN, Event
from storage.queries import Queries

EVERYBODY = SYSTEM_CHAIN
"""The organization of what concerns all of them."""
TEST = "webhook.test"
"""Sent to one endpoint when somebody asks for a trial; it cannot be chosen."""
_NAMED_ACTORS = {"user", "management_key"}
"""Whose ids the organization knows. Others are the platform's own."""


class Field(msgspec.Struct, frozen=True):
    """One field of `data`: its name, its JSON type (as JSON Schema says it; `?` behind it: or null), and what
    it is."""

    name: str
    kind: str
    meaning: str
    source: str | None = None
    """Its name in the audit row's details, where that is another."""


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One type. `subject` is what an audit row's subject is called in `data` (empty: it is not told)."""

    meaning: str
    fields: tuple[Field, ...]
    audit_event: Event | None = None
    subject: Field | None = None


def _row(event: Event, meaning: str, subject: Field | None, *fields: Field) -> EventType:
    return EventType(meaning=meaning, audit_event=event, subject=subject, fields=fields)


_KEY = Field("key_id", "string", "The API key's public id.")
_CREDENTIAL = Field("credential_id", "string", "The provider key's id.")
_LIMIT = Field("limit_id", "string", "The limit's id.")
_USER = Field("user_id", "string", "The member's id.")
_INCIDENT = Field("incident_id", "string", "The incident's id, as on the status page.")
_LAST_FOUR = Field("last_four", "string", "Its last four characters.")
_NAME = Field("name", "string", "Its name.")
_MODE = Field("mode", "string", "`live` or `test`.")
_PROVIDER = Field("provider", "string", "The provider.")
_ROLE = Field("role", "string", "The role.")
_STAGE = Field("stage", "string", "What it has come to: `identified`, `monitoring`, `resolved` and so on.")
_LIMIT_FIELDS = (
    Field("key_id", "string?", "The API key it is for; null: the whole organization."),
    Field("model", "string?", "The model it is for; null: all."),
    Field("kind", "string", "`money`, `requests`, `tokens` or `concurrent`."),
    Field("period", "string", "`minute`, `day`, `month` or `none`."),
    Field("amount", "integer", "How much; money is in picodollars (1e-12 USD)."),
    Field("hard", "boolean", "Whether requests above it are refused."),
)
_INVOICE_FIELDS = (
    Field("invoice_id", "string", "The invoice's id."),
    Field("number", "string?", "Its number, once it has one."),
    Field("status", "string", "Its status now."),
    Field("currency", "string", "Three letters."),
    Field("total", "integer", "In the currency's smallest unit."),
    Field("due", "integer", "What is still to be paid, in the currency's smallest unit."),
)


def _invoice(meaning: str) -> EventType:
    return EventType(meaning=meaning, fields=_INVOICE_FIELDS)


TYPES: dict[str, EventType] = {
    "key.minted": _row(Event.KEY_MINTED, "An API key was minted.", _KEY, _NAME, _MODE, _LAST_FOUR),
    "key.rotated": _row(
        Event.KEY_ROTATED,
        "An API key has a successor, and ends after the overlap.",
        _KEY,
        Field("successor", "string", "The new key's public id."),
        Field("overlap_seconds", "integer", "How long both work."),
    ),
    "key.scope_changed": _row(Event.KEY_SCOPE_CHANGED, "What an API key may be used for was changed.", _KEY),
    "key.revoked": _row(Event.KEY_REVOKED, "An API key was revoked.", _KEY, _NAME, _LAST_FOUR),
    "byok.set": _row(Event.CREDENTIAL_SET, "A provider key was brought.", _CREDENTIAL, _PROVIDER, _LAST_FOUR),
    "byok.replaced": _row(
        Event.CREDENTIAL_REPLACED,
        "A provider key was brought in place of another.",
        _CREDENTIAL,
        _PROVIDER,
        _LAST_FOUR,
    ),
    "byok.rotated": _row(
        Event.CREDENTIAL_ROTATED,
        "A provider key has new material.",
        _CREDENTIAL,
        _PROVIDER,
        Field("last_four", "string", "Its last four characters, now.", "after"),
    ),
    "byok.revoked": _row(
        Event.CREDENTIAL_REVOKED,
        "A provider key was revoked, and its material destroyed.",
        _CREDENTIAL,
        _PROVIDER,
        _LAST_FOUR,
    ),
    "budget.set": _row(Event.LIMIT_SET, "A budget or limit was set or changed.", _LIMIT, *_LIMIT_FIELDS),
    "budget.removed": _row(Event.LIMIT_REMOVED, "A budget or limit was removed.", _LIMIT, *_LIMIT_FIELDS),
    "budget.threshold_reached": _row(
        Event.BUDGET_THRESHOLD_REACHED,
        "Spending passed a part of a budget; told once in each of its periods.",
        _LIMIT,
        Field("key_id", "string?", "The API key it is for; null: the whole organization."),
        Field("threshold", "integer", "The part, in percent."),
        Field("window_start", "string", "When the period began."),
        Field("settled_picodollars", "integer", "Spent in it so far (1e-12 USD)."),
        Field("amount_picodollars", "integer", "The budget (1e-12 USD)."),
    ),
    "member.invited": _row(Event.MEMBER_INVITED, "Somebody was invited.", None, _ROLE),
    "member.added": _row(Event.MEMBER_ADDED, "Somebody became a member.", _USER, _ROLE),
    "member.role_changed": _row(
        Event.MEMBER_ROLE_CHANGED,
        "A member has another role.",
        _USER,
        Field("before", "string", "The role before."),
        Field("after", "string", "The role now."),
    ),
    "member.removed": _row(Event.MEMBER_REMOVED, "Somebody is no longer a member.", _USER, _ROLE),
    "plan.changed": _row(
        Event.ORGANIZATION_PLAN_CHANGED,
        "The organization's plan was changed.",
        None,
        Field("before", "string", "The plan before."),
        Field("after", "string", "The plan now."),
    ),
    "plan.payment_state_changed": _row(
        Event.PAYMENT_STATE_CHANGED,
        "A payment is late, was given up, or is in order again.",
        None,
        Field("before", "string?", "`past_due`, `unpaid` or `incomplete`; null: in order."),
        Field("after", "string?", "The same, now."),
    ),
    "invoice.created": _invoice("An invoice was made, as a draft."),
    "invoice.finalized": _invoice("An invoice is final, and due."),
    "invoice.paid": _invoice("An invoice was paid."),
    "invoice.uncollectible": _invoice("An invoice was given up as not to be paid."),
    "invoice.voided": _invoice("An invoice was voided."),
    "audit.checkpoint": EventType(
        meaning="The end of the organization's audit chain was signed. Keep it: it proves what the log was.",
        fields=(
            Field("seq", "integer", "The row's number."),
            Field("hash", "string", "The row's hash, in hexadecimal."),
            Field("signed_at", "string", "When it was signed, with microseconds."),
            Field("key_id", "string", "The signing key's id."),
            Field("signature", "string", "Ed25519, in hexadecimal."),
        ),
    ),
    "incident.opened": _row(
        Event.INCIDENT_OPENED,
        "An incident was opened on the status page.",
        _INCIDENT,
        Field("title", "string", "Its title."),
        Field("components", "array", "The parts of Karta it concerns."),
    ),
    "incident.updated": _row(Event.INCIDENT_UPDATED, "More was told of an incident.", _INCIDENT, _STAGE),
    "incident.resolved": _row(Event.INCIDENT_RESOLVED, "An incident was resolved.", _INCIDENT, _STAGE),
    "incident.maintenance_planned": _row(
        Event.MAINTENANCE_PLANNED,
        "Maintenance was announced.",
        _INCIDENT,
        Field("title", "string", "Its title."),
        Field("starts_at", "string", "When it begins."),
        Field("ends_at", "string", "When it ends."),
    ),
    "incident.maintenance_cancelled": _row(
        Event.MAINTENANCE_CANCELLED, "Announced maintenance was cancelled.", _INCIDENT
    ),
    "usage.daily": EventType(
        meaning="What was used on a day (UTC), as it was known an hour after the day's end.",
        fields=(
            Field("day", "string", "The day, like `2026-11-25`."),
            Field("requests", "integer", "Requests."),
            Field("input_tokens", "integer", "Input tokens, without those of caches."),
            Field("output_tokens", "integer", "Output tokens."),
            Field("cost_picodollars", "integer", "Their cost (1e-12 USD)."),
        ),
    ),
    TEST: EventType(
        meaning="A trial, sent when somebody asks for it. It cannot be chosen.",
        fields=(Field("endpoint_id", "string", "The endpoint that is tried."),),
    ),
}
CHOICES = tuple(name for name in TYPES if name != TEST)
"""What an endpoint can be told of."""


async def emit(
    db: Queries, org_id: UUID, name: str, data: Mapping[str, Any], *, once: str | None = None
) -> bool:
    """Puts an event into the outbox, in the transaction that causes it.

    Args:
      org_id: whose endpoints are told.
      name: a type of `TYPES` that has no audit event.
      data: exactly its fields.
      once: names the cause, where it may be met twice (a Stripe event's id, say): the second is no event.

    Returns whether an event was made: not if no endpoint has chosen it, nor if it is a repetition.
    """
    event_type = TYPES[name]
    if event_type.audit_event is not None or set(data) != {one.name for one in event_type.fields}:
        raise ValueError(f"{name} is emitted with exactly the fields of storage.webhook_events.TYPES")
    made: bool = await db.fetch_value(
        "SELECT emit_webhook($1, $2, $3::text::jsonb, $4)",
        org_id,
        name,
        msgspec.json.encode(data).decode(),
        None if once is None else f"{name} {once}",
    )
    return made


def render(name: str, org_id: UUID, created_at: datetime, data: Mapping[str, Any]) -> str:
    """The body that is sent. `data` is as the outbox holds it: of an audit row the whole row, of others what
    `emit` was given."""
    event_type = TYPES[name]
    told: dict[str, Any] = {} if org_id == EVERYBODY else {"org_id": str(org_id)}
    if event_type.audit_event is None:
        told |= {one.name: data.get(one.name) for one in event_type.fields}
    else:
        if event_type.subject is not None:
            told[event_type.subject.name] = data["subject"]
        details = data["details"]
        told |= {one.name: details.get(one.source or one.name) for one in event_type.fields}
        if org_id != EVERYBODY:
            kind = data["actor_kind"]
            told["actor"] = {"kind": kind, "id": data["actor_id"] if kind in _NAMED_ACTORS else None}
            told["audit_seq"] = data["seq"]
    return msgspec.json.encode({"type": name, "timestamp": _moment(created_at), "data": told}).decode()


async def emit_usage_of_day(db: Queries, day: date) -> int:
    """Tells every organization that chose it what it used on a day (UTC); how many were told. Doing it again
    tells nobody twice."""
    rows = await db.fetch(
        """
        SELECT e.org_id, count(h.hour) AS hours, coalesce(sum(h.requests), 0)::bigint AS requests,
               coalesce(sum(h.input_tokens), 0)::bigint AS input_tokens,
               coalesce(sum(h.output_tokens), 0)::bigint AS output_tokens,
               coalesce(sum(h.cost_picodollars), 0)::bigint AS cost_picodollars
          FROM (SELECT DISTINCT org_id FROM webhook_endpoints
                 WHERE state = 'enabled' AND 'usage.daily' = ANY (events)) e
          LEFT JOIN usage_hourly h
            ON h.org_id = e.org_id AND h.hour >= $1 AND h.hour < $1 + interval '1 day'
         WHERE NOT EXISTS (SELECT FROM webhook_events w
                            WHERE w.once = 'usage.daily ' || e.org_id || ' ' || $2)
         GROUP BY e.org_id
         LIMIT 10000
        """,
        datetime(day.year, day.month, day.day, tzinfo=UTC),
        day.isoformat(),
    )
    told = 0
    for row in rows:
        data = {name: row[name] for name in ("requests", "input_tokens", "output_tokens", "cost_picodollars")}
        once = f"{row['org_id']} {day.isoformat()}"
        told += await emit(db, row["org_id"], "usage.daily", {"day": day.isoformat(), **data}, once=once)
    return told


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
