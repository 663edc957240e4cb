"""A JSON value that fits a JSON schema: what a simulated model gives as a tool's input or as structured
output.

Bounds: 8 levels deep; a schema that refers to itself ends there.
"""

from typing import Any

DEPTH_MAX = 8


def example(schema: object, definitions: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """One value for the schema; required and optional properties alike, enums and constants by their
    first."""
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return {}
    definitions = definitions or schema.get("$defs") or schema.get("definitions") or {}
    if isinstance(reference := schema.get("$ref"), str):
        return example(definitions.get(reference.rsplit("/", 1)[-1], {}), definitions, depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(choices := schema.get(name), list) and choices:
            return example(choices[0], definitions, depth + 1)
    kind = schema.get("type", "object")
    return _by_type(kind[0] if isinstance(kind, list) and kind else kind, schema, definitions, depth)


def _by_type(kind: object, schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Any:
    match kind:
        case "string":
            return "value"
        case "integer":
            return schema.get("minimum", 7)
        case "number":
            return schema.get("minimum", 1.5)
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [example(schema.get("items", {"type": "string"}), definitions, depth + 1)]
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: example(its, definitions, depth + 1) for name, its in properties.items()}
