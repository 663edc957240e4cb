"""Fields read as the type wanted."""

from bench.sim import fields


def test_the_type_wanted_or_absent() -> None:
    document = {"l": [{"a": 1}, 2], "d": {"x": 1}, "n": 5, "b": True, "s": "t"}
    assert fields.items(document, "l") == [{"a": 1}, 2]
    assert fields.objects(document, "l") == [{"a": 1}]
    assert fields.nested(document, "d") == {"x": 1}
    assert (fields.number(document, "n"), fields.number(document, "b")) == (5, None)
    assert (fields.string(document, "s"), fields.string(document, "n", "z")) == ("t", "z")
    assert fields.items(document, "s") == []
    assert fields.nested(document, "absent") == {}
