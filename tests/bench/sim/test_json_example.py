"""Values that fit schemas."""

from bench.sim.json_example import example


def test_an_object_with_everything() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 3},
            "unit": {"enum": ["c", "f"]},
            "exact": {"const": 5},
            "tags": {"type": "array", "items": {"type": "boolean"}},
            "share": {"type": "number"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "many": {"type": ["string", "null"]},
        },
    }
    assert example(schema) == {
        "city": "value",
        "days": 3,
        "unit": "c",
        "exact": 5,
        "tags": [True],
        "share": 1.5,
        "maybe": None,
        "many": "value",
    }


def test_references_are_followed_and_loops_end() -> None:
    schema = {"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
    found = example({**schema, "$ref": "#/$defs/node"})
    depth = 0
    while found:
        found, depth = found["next"], depth + 1
    assert 1 < depth < 10


def test_nonsense_is_an_empty_object() -> None:
    assert example(None) == {}
    assert example({"type": "object"}) == {}
