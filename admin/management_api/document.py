"""The OpenAPI 3.1 document, made from the table of operations, their forms, and the table of rights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from admin import api_path
from admin.authorization import TABLE
from admin.management_api.call import Operation
from admin.management_api.idempotency import HEADER, NAME_CHARS_MAX, REPLAYED
from admin.management_api.operations import OPERATIONS
from admin.management_api.problems import CONTENT_TYPE, KINDS, REQUEST_ID, ProblemDetails
from storage.management_keys import Scope
from storage.model import Role

VERSION = "1"
_REF = "#/components/schemas/{name}"
_ALWAYS = (401, 403, 408, 421, 429, 500, 503)
_IDS = {
    "org_id": ("The organization's id.", {"type": "string", "format": "uuid"}),
    "user_id": ("A member's id.", {"type": "string", "format": "uuid"}),
    "invitation_id": ("An invitation's id.", {"type": "string", "format": "uuid"}),
    "credential_id": ("A provider key's id.", {"type": "string", "format": "uuid"}),
    "key_id": (
        "An API key's id: its part between mode and secret.",
        {"type": "string", "pattern": "^[0-9A-Za-z]{12}$"},
    ),
    "request_id": (
        "A request's id: the gateway's header `x-karta-request-id`.",
        {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    ),
    "endpoint_id": ("A webhook endpoint's id.", {"type": "string", "format": "uuid"}),
    "delivery_id": ("A message's id.", {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}),
    "limit_id": ("A limit's id.", {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}),
}
_INTRODUCTION = f"""
What the pages of an organization do, for programs. Each call carries a management key, minted in the browser:
`Authorization: Bearer kt_mgmt_…`. A key may do what its scopes name, and never more than the role allows that
who minted it had then and has now. Cookies mean nothing here.

Listings come by the page: as long as there is a `next_cursor`, ask with it as `cursor` for the next one. What
changes something takes an `{HEADER}`: the same request under the same key is done once within a day, and
answered again (without a secret that is shown once only). Errors are problem details (RFC 9457); their `type`
is for programs. `429` says in `Retry-After` when to come back. Every answer has an `{REQUEST_ID}`, which the
audit log names as well.
""".strip()


@cache
def encoded() -> bytes:
    """As it is served."""
    return msgspec.json.encode(make())


def make() -> dict[str, Any]:
    """The document as JSON values."""
    types: dict[type, None] = {ProblemDetails: None}
    for operation in OPERATIONS:
        for form in (operation.answer, operation.body, operation.query):
            if form is not None:
                types[form] = None
    found, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(types, found, strict=True))
    _tidy(schemas, types)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        described = _describe(operation, by_type, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    for form in {operation.query for operation in OPERATIONS if operation.query is not None}:
        schemas.pop(form.__name__, None)  # their fields stand as parameters
    return {
        "openapi": "3.1.0",
        "info": {"title": "Karta management API", "version": VERSION, "description": _INTRODUCTION},
        "servers": [{"url": api_path.PREFIX}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {str(status): _problem_response(status) for status in _statuses()},
            "headers": {
                "RequestId": {
                    "description": "This call's id.",
                    "required": True,
                    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                },
                "Replayed": {
                    "description": "`true` when an earlier answer is repeated.",
                    "schema": {"type": "string", "enum": ["true"]},
                },
                "RetryAfter": {
                    "description": "How many seconds to wait.",
                    "schema": {"type": "integer", "minimum": 1},
                },
            },
            "securitySchemes": {
                "managementKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "kt_mgmt_…",
                    "description": f"Scopes: {', '.join(f'`{scope.value}`' for scope in Scope)}.",
                }
            },
        },
    }


def _tidy(schemas: dict[str, Any], types: Iterable[type]) -> None:
    """Docstrings become one line, and times say that they are: msgspec would allow those without a zone, of
    which there are none."""
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(types))
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, msgspec.inspect.UnionType):
            waiting += kind.types
        elif isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            waiting.append(kind.item_type)
        elif isinstance(kind, msgspec.inspect.StructType):
            for field in kind.fields:
                waiting.append(field.type)
                _tell_time(schemas[kind.cls.__name__]["properties"][field.encode_name], field.type)


def _tell_time(schema: dict[str, Any], kind: Any) -> None:
    if isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    if any(isinstance(one, msgspec.inspect.DateTimeType) for one in kinds):
        for choice in schema.get("anyOf", [schema]):
            if choice["type"] == "string":
                choice["format"] = "date-time"


def _describe(operation: Operation, by_type: dict[type, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    access = TABLE[operation.endpoint]
    scopes = [] if access.scope is None else [access.scope.value]
    roles = [role.value for role in Role if role in access.roles]
    wanted = f"Scope `{scopes[0]}`. " if scopes else "Any scope. "
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{wanted}Roles: {', '.join(roles)}.",
        "tags": [scopes[0].partition(":")[0] if scopes else "organization"],
        "security": [{"managementKey": scopes}],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, schemas)],
        "responses": {
            str(operation.status): {
                "description": "Done." if operation.is_write else "As asked.",
                "headers": {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}},
                "content": {"application/json": {"schema": by_type[operation.answer]}},
            }
        },
    }
    if operation.is_write:
        described["parameters"].append(_idempotency_parameter())
        described["responses"][str(operation.status)]["headers"][REPLAYED] = {
            "$ref": "#/components/headers/Replayed"
        }
    if operation.body is not None:
        content = {"application/json": {"schema": by_type[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    for status in _refusals(operation):
        described["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    return described


def _refusals(operation: Operation) -> list[int]:
    statuses = {*_ALWAYS, *operation.problems}
    if "{" in operation.path:
        statuses.add(404)
    if operation.query is not None:
        statuses.add(422)
    if operation.is_write:
        statuses |= {400, 409, 413, 422}
    if operation.body is not None:
        statuses.add(415)
    return sorted(statuses)


def _statuses() -> list[int]:
    return sorted({status for operation in OPERATIONS for status in _refusals(operation)})


def _problem_response(status: int) -> dict[str, Any]:
    kinds = [(name, kind) for name, kind in KINDS.items() if kind.status == status]
    told = "; ".join(f"`{name}`: {kind.title[0].lower()}{kind.title[1:]}" for name, kind in kinds)
    headers = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}
    if status in (409, 429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return {
        "description": f"{told}.",
        "headers": headers,
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(name="ProblemDetails")}}},
    }


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": _IDS[name][0], "schema": _IDS[name][1]}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]


def _query_parameters(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = schemas[operation.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _without_null(field),
        }
        for name, field in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a field that may be left out: there is no null in a query."""
    if "anyOf" not in schema:
        return schema
    kept: dict[str, Any]
    [kept] = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    return kept


def _idempotency_parameter() -> dict[str, Any]:
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "Any text of your own, new for each request: sent again, a request is done once.",
        "schema": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": "^[!-~]+$"},
    }
