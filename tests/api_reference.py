"""docs/reference/management-api.md, written from the API's own document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from admin.management_api.document import make
from admin.management_api.problems import KINDS

_SPOKEN = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def management_api() -> Iterator[str]:
    document = make()
    schemas = document["components"]["schemas"]
    yield "# The management API"
    yield ""
    yield document["info"]["description"]
    yield ""
    yield "Paths are below `/api/v1` of the admin pages' address, which serves this as OpenAPI 3.1 at"
    yield "`/api/v1/openapi.json`. How to use it: [automate](../how-to/automate.md)."
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(method, path, operation)
    yield ""
    yield "## Forms"
    for name in sorted(schemas):
        yield from _schema(name, schemas[name])
    yield ""
    yield "## Problems"
    yield ""
    yield "`type` is `urn:karta:problem:` and one of these."
    yield ""
    yield "| type | status | meaning | mend |"
    yield "| --- | --- | --- | --- |"
    for name, kind in KINDS.items():
        yield f"| `{name}` | {kind.status} | {kind.title} | {kind.detail} |"
    yield ""


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## `{method.upper()} {path}`"
    yield ""
    yield f"{operation['summary']}. {operation['description']}"
    asked = [one for one in operation["parameters"] if one["in"] == "query"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    yield ""
    for one in asked:
        required = " (required)" if one["required"] else ""
        yield f"- Query `{one['name']}`{required}: {_form(one['schema'])}"
    if body is not None:
        yield f"- Body: {_form(body['schema'])}"
    status, answer = next((status, one) for status, one in operation["responses"].items() if status < "3")
    yield f"- Answer {status}: {_form(answer['content']['application/json']['schema'])}"
    others = [status for status in operation["responses"] if status >= "4"]
    yield f"- Problems: {', '.join(others)}"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    if "description" in schema:
        yield schema["description"]
        yield ""
    if "enum" in schema:
        yield f"One of {_choices(schema)}."
    for field, form in schema.get("properties", {}).items():
        required = " (required)" if field in schema.get("required", ()) and _is_taken(schema) else ""
        yield f"- `{field}`{required}: {_form(form)}"


def _is_taken(schema: dict[str, Any]) -> bool:
    """Of what is answered, every field is there."""
    return schema.get("additionalProperties") is False


def _form(schema: dict[str, Any]) -> str:
    told = schema.get("description", "")
    bare = {name: value for name, value in schema.items() if name != "description"}
    return f"{_kind(bare)}. {told}".strip()


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return f"one of {_choices(schema)}"
    kind = schema.get("type", "")
    if kind == "null":
        return "null"
    if kind == "array":
        return f"list of {_kind(schema['items'])}{_bounds(schema)}"
    if schema.get("format") in ("date-time", "uuid"):
        return {"date-time": "time (RFC 3339)", "uuid": "UUID"}[schema["format"]]
    return f"{_SPOKEN.get(kind, kind)}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    low = next((schema[name] for name in ("minimum", "minLength", "minItems") if name in schema), None)
    high = next((schema[name] for name in ("maximum", "maxLength", "maxItems") if name in schema), None)
    if low is None and high is None:
        return ""
    unit = " characters" if "minLength" in schema or "maxLength" in schema else ""
    return f" ({'' if low is None else f'{low} '}to {high}{unit})"


def _choices(schema: dict[str, Any]) -> str:
    return ", ".join(f"`{choice}`" for choice in schema["enum"])
