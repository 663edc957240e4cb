"""What a webhook's `data` holds, as JSON Schema."""

from __future__ import annotations

from typing import Any

from storage.webhook_events import TYPES


def data_schema(name: str) -> dict[str, Any]:
    """`data` of one type, as JSON Schema."""
    event_type = TYPES[name]
    fields = [*((event_type.subject,) if event_type.subject else ()), *event_type.fields]
    properties = {one.name: _kind(one.kind) for one in fields}
    if not name.startswith("incident."):
        properties["org_id"] = {"type": "string", "format": "uuid"}
        if event_type.audit_event is not None:
            properties["audit_seq"] = {"type": "integer"}
            properties["actor"] = {
                "type": "object",
                "properties": {"kind": {"type": "string"}, "id": {"type": ["string", "null"]}},
                "required": ["kind", "id"],
                "additionalProperties": False,
            }
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _kind(kind: str) -> dict[str, Any]:
    return {"type": [kind[:-1], "null"]} if kind.endswith("?") else {"type": kind}
